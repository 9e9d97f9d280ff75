"""Training with matrix products in bfloat16."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.conftest import Vaectl
from vaectl import config, data
from vaectl.base import shapes
from vaectl.base.products import in_fast_forms
from vaectl.evaluation.means import term_sums
from vaectl.training import compiled
from vaectl.training import step as training
from vaectl.training.precision import multiplies_bfloat16, resolved
from vaectl.training.program import Program

UNIT = 2.0**-8  # the largest relative error of a number that is rounded to bfloat16
HALF = ("--set", "model.precision=bfloat16")
SMALL = (
    *("--set", "data.train_size=200", "--set", "data.validation_size=50"),
    *("--hidden-size", "8", "-q"),
)


def _conv(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


WEIGHTS = np.linspace(1, 2, 50, dtype=np.float32)
PRODUCTS: dict[str, tuple[Callable[..., jax.Array], tuple[int, ...], tuple[int, ...]]] = {
    "matrices": (jnp.matmul, (30, 50), (50, 20)),
    "left transposed": (lambda a, b: a.T @ b, (50, 30), (50, 20)),
    "right transposed": (lambda a, b: a @ b.T, (30, 50), (20, 50)),
    "a transposed in a loop": (
        lambda a, b: lax.fori_loop(0, 2, lambda _, t: a.T + 0 * t, jnp.zeros(a.T.shape)) @ b,
        (50, 30),
        (50, 20),
    ),
    "images and samples": (lambda a, b: jnp.einsum("lnj,lnk->jk", a, b), (3, 9, 7), (3, 9, 5)),
    "a batch of matrices": (jnp.matmul, (3, 30, 50), (3, 50, 20)),
    "vmap": (jax.vmap(jnp.matmul), (3, 30, 50), (3, 50, 20)),
    "jit, with a constant": (jax.jit(lambda a, b: (a * WEIGHTS) @ b), (30, 50), (50, 20)),
    "scan": (lambda a, b: lax.scan(lambda c, x: (c, x @ b), 0, a)[1], (3, 30, 50), (50, 20)),
    "cond": (
        lambda a, b: lax.cond(a[0, 0] < 9, jnp.matmul, lambda a, b: 0 * (a @ b), a, b),
        (30, 50),
        (50, 20),
    ),
    "checkpoint": (jax.checkpoint(jnp.matmul), (30, 50), (50, 20)),
    "convolution": (_conv, (3, 8, 8, 5), (3, 3, 5, 4)),
    "gradient": (lambda a, b: jax.grad(lambda w: jnp.vdot(a @ w, b))(jnp.ones((50, 20))),
                 (30, 50), (30, 20)),
    "vmap of a gradient": (
        jax.vmap(lambda a, b: jax.grad(lambda w: jnp.vdot(a @ w, b))(jnp.ones((50, 20)))),
        (3, 30, 50),
        (3, 30, 20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_are_within_the_bound_of_two_roundings(kind: str) -> None:
    product, left, right = PRODUCTS[kind]
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (left, right))
    exact, found = product(a, b), jax.jit(in_fast_forms(product, bfloat16=True))(a, b)
    assert found.dtype == jnp.float32
    bound = (2 * UNIT + UNIT**2) * product(jnp.abs(a), jnp.abs(b)) + 1e-5
    error = jnp.abs(found - exact)
    assert jnp.all(error <= bound)
    assert jnp.max(error) > 1e-4  # operands were rounded


def test_black_and_white_pixels_and_sums_are_exact() -> None:
    weights = jnp.asarray(np.random.default_rng(0).standard_normal(300), jnp.float32)
    values = 1 + weights / 1000

    def weighted(values: jax.Array) -> jax.Array:
        return values @ weights  # a sum over images, and no product of matrices

    assert in_fast_forms(weighted, bfloat16=True)(values) == weighted(values)
    ones = jnp.asarray(np.random.default_rng(1).integers(0, 2, (40, 300)), jnp.float32)
    counts = in_fast_forms(jnp.matmul, bfloat16=True)(ones, ones.T)
    np.testing.assert_array_equal(counts, ones @ ones.T)


def _settings(precision: str, **changes: Any) -> config.Config:
    model = {"code_size": 2, "precision": precision, **changes}
    return config.Config.model_validate({"epochs": 2, "batch_size": 10, "model": model})


def _program(precision: str, **changes: Any) -> Program:
    return Program.of(_settings(precision, **changes), images=40, image_shape=(8, 8, 1))


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_all_products_of_a_step_are_in_bfloat16_and_nothing_else_is(model: str) -> None:
    program = _program("bfloat16", name=model)
    state = compiled.shapes(program, program.somebody)
    rows = shapes.shaped((10, 64), jnp.uint8), shapes.shaped((10,), jnp.float32)

    def step(*arguments: Any) -> Any:
        return training.step(program, program.somebody, *arguments)

    traced = jax.make_jaxpr(step)(state, *rows)
    products = list(shapes.products(traced.jaxpr))
    plain = _program("float32", name=model)
    expected = jax.make_jaxpr(lambda *a: training.step(plain, plain.somebody, *a))(state, *rows)
    assert len(products) == len(list(shapes.products(expected.jaxpr))) > 4
    for product in products:
        assert {str(v.aval.dtype) for v in product.invars} == {"bfloat16"}
        assert [str(v.aval.dtype) for v in product.outvars] == ["float32"]
    # what comes out of a step, parameters and the optimizer's numbers, is as it was
    assert traced.out_avals == expected.out_avals
    assert "bfloat16" not in {str(aval.dtype) for aval in traced.out_avals}


def test_no_product_of_a_compiled_step_has_a_transposed_left_operand() -> None:
    program = replace(_program("bfloat16"), samples=2)
    state = compiled.shapes(program, program.somebody)
    images = shapes.shaped((40, 64), jnp.uint8)
    lowered = compiled.train_steps.lower(program, program.somebody, state, images, 0, 4)
    text = lowered.compile().as_text() or ""
    contracted = re.findall(r" dot\(.*lhs_contracting_dims=\{(.*?)\}", text)
    assert len(contracted) >= 11  # of the encoder, the decoder and their gradients
    assert set(contracted) == {"1"}


def test_evaluation_is_in_float32() -> None:
    program = _program("bfloat16")
    variables = compiled.shapes(program, program.somebody).params
    rows = shapes.shaped((40, 64), jnp.uint8)

    def evaluate(variables: Any, rows: Any) -> Any:
        return term_sums(program.estimator, variables, rows, jnp.uint32(0), 0, 0.0, 0, 40)

    traced = jax.make_jaxpr(evaluate)(variables, rows)
    products = list(shapes.products(traced.jaxpr))
    assert products
    assert {str(v.aval.dtype) for p in products for v in p.invars} == {"float32"}


def test_a_product_whose_precision_is_asked_for_stays_as_it_is() -> None:
    a, b = (
        jnp.asarray(np.random.default_rng(i).standard_normal((9, 9)), jnp.float32) for i in (1, 2)
    )

    def exact(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision="highest")

    np.testing.assert_array_equal(in_fast_forms(exact, bfloat16=True)(a, b), exact(a, b))


def test_a_run_in_bfloat16_is_continued_to_the_same_bits(vaectl: Vaectl) -> None:
    assert vaectl("train", *SMALL, *HALF, "--epochs", "2", "--name", "a").code == 0
    assert vaectl("train", "--resume", "a", "--epochs", "3", "-q").code == 0
    assert vaectl("train", *SMALL, *HALF, "--epochs", "3", "--name", "b").code == 0
    assert vaectl("train", *SMALL, "--epochs", "3", "--name", "c").code == 0
    elbos = {
        name: [row.split(",")[3] for row in Path(f"runs/{name}/metrics.csv").read_text().split()]
        for name in "abc"
    }
    assert elbos["a"] == elbos["b"]
    exact, rounded = (np.array(elbos[name][1:], float) for name in "cb")
    assert 0 < np.abs(exact - rounded).max() < 0.5
    # a run keeps its precision
    answer = vaectl("train", "--resume", "a", "--epochs", "4", "--set", "model.precision=float32")
    assert answer.code == 2
    assert "model.precision" in answer.err


def test_an_unimplemented_product_is_told_without_a_traceback(
    vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **_how: object) -> data.Dataset:
        raise RuntimeError("UNIMPLEMENTED: BF16 x BF16 = F32")  # as XLA says it

    monkeypatch.setattr(data, "load", load)
    answer = vaectl("train", *SMALL, *HALF)
    assert answer.code == 2
    assert "model.precision" in answer.err


@pytest.mark.parametrize(
    ("device", "instructions", "has"),
    [
        ({"platform": "cpu"}, "avx512f amx_bf16", True),
        ({"platform": "cpu"}, "avx2 avx512_bf16", False),
        ({"platform": "cpu"}, None, False),
        ({"platform": "gpu", "compute_capability": "7.5", "device_kind": "T4"}, "", False),
        ({"platform": "gpu", "compute_capability": "9.0", "device_kind": "H"}, "", True),
        ({"platform": "gpu", "compute_capability": "gfx942", "device_kind": "MI"}, "", True),
        ({"platform": "tpu", "device_kind": "TPU v5"}, "", True),
    ],
)
def test_hardware_is_asked_for_products_of_bfloat16(
    device: dict[str, str], instructions: str | None, has: bool, tmp_path: Path
) -> None:
    facts = tmp_path / "cpuinfo"
    if instructions is not None:
        facts.write_text(f"flags : fpu {instructions}\n")
    found, why = multiplies_bfloat16(SimpleNamespace(**device), facts)
    assert found is has
    assert why


def test_an_evaluation_says_that_products_were_rounded(vaectl: Vaectl) -> None:
    assert vaectl("train", *SMALL, "--epochs", "1", "--name", "a").code == 0
    bound = ("evaluate", "a", "--importance-samples", "4", "--prior-samples", "0", "-q")
    rounded = vaectl(*bound, "--precision", "bfloat16")
    assert "IW-4, products in bfloat16" in rounded.out
    assert '"precision": "bfloat16"' in Path("runs/a/evaluation.json").read_text()
    assert vaectl("export", "a", "--format", "card", "-q").code == 0
    assert "IW-4, products in bfloat16 |" in Path("runs/a/export/card.md").read_text()
    assert "bfloat16" not in vaectl(*bound).out
    nothing = vaectl("evaluate", "a", "--importance-samples", "0", "--precision", "bfloat16")
    assert nothing.code == 2
    assert "--importance-samples" in nothing.err


def test_auto_is_resolved_once_and_written_down(vaectl: Vaectl) -> None:
    [device, *_] = jax.devices()
    has, _ = multiplies_bfloat16(device)
    chosen = "bfloat16" if has else "float32"
    settings, told = resolved(_settings("auto"), device)
    assert settings == _settings(chosen)
    assert chosen in told
    assert resolved(_settings("float32"), device) == (_settings("float32"), "")
    auto = ("--set", "model.precision=auto")
    answer = vaectl("train", *SMALL[:-1], *auto, "--epochs", "1", "--name", "a")
    assert answer.code == 0
    assert f"auto: {chosen}" in answer.err
    assert f"precision: {chosen}" in Path("runs/a/config.yaml").read_text()
    # a run keeps what it has chosen, wherever it goes on
    assert vaectl("train", *SMALL, *HALF, "--epochs", "1", "--name", "b").code == 0
    answer = vaectl("train", *SMALL, *auto, "--epochs", "2", "--resume", "b")
    assert answer.code == 0
    assert "precision: bfloat16" in Path("runs/b/config.yaml").read_text()
    answer = vaectl("compare-optimizers", "--set", "model.precision=auto", "-q")
    assert answer.code == 2
    assert "model.precision" in answer.err
