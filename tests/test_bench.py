import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.conftest import Vaectl
from vaectl import config
from vaectl.base.shapes import shaped
from vaectl.bench import floor, measures
from vaectl.bench import report as bench
from vaectl.bench.measures import Amount
from vaectl.training import compiled
from vaectl.training.program import Member, Program

SETTINGS = config.Config.model_validate({"data": {"train_size": 300}, "model": {"hidden_size": 20}})


def test_the_products_of_a_step_are_those_of_a_network_of_its_shape() -> None:
    settings = config.Config(batch_size=250)
    program = Program.of(settings, images=50_000, image_shape=(28, 28, 1))
    wide, heads, narrow = 784 * 500, 500 * 40, 20 * 500
    # forward, gradient by the weights, gradient by the inputs; the images need none
    uses = 2 * wide + 3 * heads + 3 * narrow + 3 * wide
    assert sum(product.operations for product in floor.step(program)) == 2 * 250 * uses


def _program(**changed: object) -> Program:
    return Program.of(config.Config.model_validate(changed), images=4000, image_shape=(28, 28, 1))


def _operations(program: Program) -> int:
    return sum(product.operations for product in floor.step(program))


def test_the_products_of_all_micro_batches_count() -> None:
    whole, parted = (_program(batch_size=128, microbatches=count) for count in (1, 4))
    assert _operations(parted) == _operations(whole)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_that_a_compiled_step_does_not_compute_are_not_counted(precision: str) -> None:
    """The other gradient decodes the same codes three times, and asks for one more product."""
    model = {"precision": precision}
    plain, other = (
        _program(model=model, objective={"name": "iwae", "samples": 4, "gradient": gradient})
        for gradient in ("reparameterized", "doubly_reparameterized")
    )
    assert _operations(other) - _operations(plain) == 2 * plain.batch_size * 4 * 784 * 500


def test_equal_products_count_once_and_unused_ones_never() -> None:
    @jax.jit
    def product(x: Any, w: Any) -> Any:
        return jnp.tanh(x) @ w

    def function(x: Any, w: Any) -> Any:
        first, again = product(x, w), jnp.tanh(lax.stop_gradient(x)) @ w
        x @ x.T  # unused
        return lax.fori_loop(0, 3, lambda _, total: total + product(x, w), first + again)

    arguments = shaped((2, 3), np.float32), shaped((3, 4), np.float32)
    assert len(floor.products(function, *arguments)) == 2  # before the loop, and inside
    assert len(floor.products(function, *arguments, every=True)) == 4


@pytest.mark.parametrize(("how", "count"), [(lambda f: f, 2), (jax.checkpoint, 3)])
def test_a_product_that_is_computed_again_to_save_memory_counts(how: Any, count: int) -> None:
    def loss(w: Any, x: Any) -> Any:
        return jnp.sin(x @ w).sum()

    arguments = shaped((3, 4), np.float32), shaped((2, 3), np.float32)
    assert len(floor.products(jax.value_and_grad(how(loss)), *arguments)) == count


def test_the_floor_of_a_bound_has_the_products_of_its_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the prior vamp, pseudo-inputs are encoded before them."""
    monkeypatch.setattr(measures, "Floor", lambda products, times: (products, times))
    for prior in ("standard_normal", "vamp"):
        program = _program(prior={"name": prior})
        variables = compiled.init(program, Member.of(config.Config())).params
        task: Any = measures._bound(program.vae, variables, jnp.zeros((9, 784), jnp.uint8))
        products, _ = task.floor
        assert [p.operations for p in products] == [2 * 1000 * 20 * 500, 2 * 1000 * 500 * 784]


def test_each_larger_size_makes_more_work_and_a_model_has_only_its_own() -> None:
    program = _program()
    sizes = measures.sizes_of(program, measures.DEFAULT)
    assert {key for key, _ in sizes} == {"batch_size", "hidden_size", "code_size"}
    for key, size in sizes:
        assert _operations(measures.resized(program, key, size)) > _operations(program), key
    conv = _program(model={"name": "conv"})
    assert {key for key, _ in measures.sizes_of(conv, measures.DEFAULT)} == {
        "batch_size",
        "code_size",
    }
    assert _operations(measures.resized(conv, "code_size", 200)) > _operations(conv)
    parted = _program(batch_size=128, microbatches=64)
    assert ("batch_size", 1024) in measures.sizes_of(parted, measures.DEFAULT)


@pytest.mark.parametrize("transposed", ["", "left", "right"])
def test_products_repeat_on_the_device_as_often_as_asked(transposed: str) -> None:
    """Also the products of a gradient, which add over other axes."""
    axes = 0 if transposed == "left" else 1, 1 if transposed == "right" else 0
    shapes = (4, 3) if transposed == "left" else (3, 4), (5, 4) if transposed == "right" else (4, 5)
    [product] = floor.products(
        lambda left, right: lax.dot_general(left, right, (((axes[0],), (axes[1],)), ((), ()))),
        *(shaped(shape, np.float32) for shape in shapes),
    )
    assert product.operations == 2 * 3 * 4 * 5
    least = floor.Floor([product], times=7)
    [[left, right]] = least.operands
    corner = (left.T if transposed == "left" else left)[0] @ (
        right.T if transposed == "right" else right
    )[:, 0]
    total = floor.repeat([product], [[left, right]], 7)
    np.testing.assert_allclose(total, 7 * corner, rtol=1e-5)
    assert least.seconds() > 0


@pytest.fixture(scope="module")
def result() -> bench.Bench:
    sizes = {"hidden_size": (30,)}
    amount = Amount(samples=100, members_on_cpu=2, operations=10**8, sizes=sizes)
    return bench.run(SETTINGS, rounds=1, scaling=True, amount=amount)


def test_bench_prints_each_piece_of_work_beside_its_floor(
    result: bench.Bench, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(settings: config.Config, *, rounds: int, **_: object) -> bench.Bench:
        assert (settings.model.mlp.hidden_size, rounds) == (20, 1)
        return result

    monkeypatch.setattr(bench, "run", run)
    answer = vaectl("bench", "--rounds", "1", "--set", "model.hidden_size=20", "--quiet")
    assert answer.code == 0, answer.err
    for word in ("training", "validation", "IW-100", "sampling", "matrix products", "in turn"):
        assert word in answer.out


def test_bench_gives_a_program_the_same_numbers(result: bench.Bench) -> None:
    found = json.loads(json.dumps(result.as_json()))
    assert [row["name"] for row in found["work"]] == [
        "training",
        "validation",
        "IW-100",
        "sampling",
    ]
    assert [row["name"] for row in found["scaling"]] == ["hidden_size 30"]
    for row in found["work"] + found["scaling"]:
        assert row["ratio"] == pytest.approx(row["seconds"] / row["floor"])
        assert row["images_per_second"] == pytest.approx(row["images"] / row["seconds"])
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1)
    assert found["population"]["chosen"] == "in turn"
    assert found["compile_seconds"] > 0
    assert found["peak_memory"] > 2**20
