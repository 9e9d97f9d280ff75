import json

import numpy as np
import pytest
from jax import lax

from tests.conftest import Vaectl
from vaectl import config
from vaectl.base.shapes import shaped
from vaectl.bench import floor, measures
from vaectl.bench import report as bench
from vaectl.bench.measures import Amount
from vaectl.training.program import Program

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
