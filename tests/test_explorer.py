"""The explorer: graphs that a browser computes, the page around them, and its command."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import vaectl as package
from tests.browser import browse, needs_chromium
from tests.conftest import Vaectl
from tests.test_contracts import LIKELIHOODS, MODELS
from vaectl.base import plugins
from vaectl.base.errors import RunError
from vaectl.explorer import page as pages
from vaectl.explorer.graph import Weights, pack, rounded, trace
from vaectl.likelihoods.base import Likelihood
from vaectl.models.base import Model
from vaectl.vae.vae import VAE

EXAMPLES = Path(__file__).parent.parent / "configs" / "examples"
X = np.linspace(-2.5, 3, 24, dtype=np.float32).reshape(2, 3, 4)
IMAGES = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 2, 2, 6)).astype(np.float32)


def _conv(**how: Any) -> Callable[[Any], Any]:
    return lambda x: lax.conv_general_dilated(
        x, KERNEL, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2, **how
    )


OPERATIONS: dict[str, tuple[Callable[..., Any], np.ndarray]] = {
    "elementary": (
        lambda x: (
            jnp.sin(x) + jnp.cos(x) * jnp.tanh(x) - jnp.expm1(x) / jnp.exp2(x) + jnp.abs(x),
            jnp.cbrt(x) + jnp.tan(x) + jnp.sinh(x) - jnp.cosh(x) + jnp.arctan2(x, 1 + x**2),
            jnp.sqrt(abs(x)) + lax.rsqrt(1 + x * x) + jnp.log(2 + x**4) + jnp.log1p(abs(x)),
            jnp.floor(x) + jnp.ceil(x) + jnp.sign(x) + x**3 + abs(x) ** 1.7 + jnp.square(x) + x % 2,
        ),
        X,
    ),
    "special": (
        lambda x: (lax.erf(3 * x), lax.lgamma(x), jax.nn.softplus(x), jax.nn.gelu(x), lax.logistic(x)),
        X + 0.01,
    ),
    "choices": (
        lambda x: (
            jnp.where((x > 0) & ~(x >= 2) | (x == -2.5) ^ (x <= -9), x, -x),
            jnp.clip(x, -1, 1) + jnp.minimum(x, 0.3) + jnp.maximum(x, x[:1]),
            jnp.isfinite(jnp.log(x)).astype(jnp.float32) + (x != 1) + x.astype(jnp.int32),
        ),
        X,
    ),
    "movements": (
        lambda x: (
            x[:, ::-1, 1:3].transpose(2, 0, 1),
            jnp.concatenate([x, 2 * x[:, :1]], axis=1),
            jnp.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=7.0),
            x[:, [2, 0, 2]],
            jnp.stack(jnp.split(x, 2, axis=2)),
            jnp.broadcast_to(x[0], (2, 3, 4)) + x,
            jnp.squeeze(x[:1], 0).reshape(6, 2),
            jnp.repeat(x, 2, axis=1),
            lax.dynamic_slice(x, (0, 1, 1), (2, 2, 2)),
        ),
        X,
    ),
    "sums": (
        lambda x: (
            x.sum(), x.max(axis=1), x.min(axis=(0, 2)), (0.3 * x).prod(axis=0), x.mean(axis=-1),
            (x > 0).all(axis=1).astype(jnp.float32), (x > 2).any(axis=1).astype(jnp.float32),
            jax.nn.softmax(x), jax.nn.logsumexp(x, axis=1),
        ),
        X,
    ),
    "products": (
        lambda x: (
            x[0] @ X[1].T, jnp.einsum("bij,bkj->bik", x, X), jnp.einsum("bij,bij->j", x, X), x @ X[0, 0]
        ),
        X,
    ),
    "convolutions": (
        lambda x: (
            _conv(window_strides=(2, 1), padding="SAME")(x),
            _conv(window_strides=(1, 2), padding=[(2, 0), (1, 3)], lhs_dilation=(2, 3))(x),
            _conv(window_strides=(1, 1), padding="VALID", rhs_dilation=(2, 2))(x),
            lax.conv_general_dilated(
                x[..., 0], KERNEL.reshape(4, 3, 6)[:, :, :].reshape(-1, 6)[:10].reshape(2, 5, 6), (1,), "SAME", dimension_numbers=("NCH", "HIO", "NHC")
            ),
            lax.conv(x.transpose(0, 3, 1, 2), KERNEL[:2, :2].reshape(6, 4, 1, 2), (1, 1), "SAME"),
        ),
        IMAGES,
    ),
    "pools": (
        lambda x: (
            lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"),
            lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 2, 1), "VALID"),
        ),
        IMAGES,
    ),
}  # fmt: skip


SHAPES = ((5, 7, 1), (6, 4, 3))
EVERY = [(model, likelihood, shape) for model in MODELS for likelihood in LIKELIHOODS for shape in SHAPES]
EACH = [(MODELS[i % len(MODELS)], likelihood, SHAPES[i % 2]) for i, likelihood in enumerate(LIKELIHOODS)]


ALONE = """<!doctype html><html><head></head><body>
<script type="application/json" id="data">{data}</script><script>"use strict";{script}</script>
</body></html>"""
COMPUTE = """
  const cases = JSON.parse(document.getElementById("data").textContent);
  const found = {};
  for (const [name, { graphs, weights, width, inputs }] of Object.entries(cases)) {
    const floats = Engine.floats(weights, width), run = name => Engine.compile(graphs[name], floats);
    const plain = arrays => arrays.map(array => [...array].map(value => +value));
    found[name] = {};
    for (const [graph, values] of Object.entries(inputs)) {
      const compute = run(graph);
      compute(...values.map(value => value.map(() => 0.5)));  // nothing stays of an earlier call
      found[name][graph] = plain(compute(...values));
    }
  }
  return found;
"""


def _case(functions: dict[str, tuple[Callable[..., Any], list[np.ndarray]]]) -> dict[str, Any]:
    weights = Weights()
    graphs = {
        name: trace(function, *(array.shape for array in arrays), weights=weights)
        for name, (function, arrays) in functions.items()
    }
    inputs = {name: [a.ravel().tolist() for a in arrays] for name, (_, arrays) in functions.items()}
    return {
        "graphs": graphs,
        "weights": base64.b64encode(weights.pack(4)).decode(),
        "width": 4,
        "inputs": inputs,
    }


def _network(vae: VAE) -> tuple[dict[str, Any], dict[str, Any]]:
    """A case, and what JAX computes, with parameters that make something of all inputs."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32),
        jax.eval_shape(vae.init, jax.random.key(0)),
    )
    x = rng.integers(0, 2, (1, *vae.image_shape)).astype(np.float32)
    z = rng.normal(size=(1, 3)).astype(np.float32)

    @jax.jit
    def compute(x: Any, z: Any) -> Any:
        network = vae.network(jax.tree.map(jnp.asarray, variables))
        nats = -network.log_prob(z[None], x)
        return network.encode(x), network.decode(z), network.mean(z), nats

    encoded, raw, mean, nats = compute(x, z)
    inputs = {"encode": [x], "raw": [z], "mean": [raw], "nats": [raw, x]}
    weights = Weights()
    case = {
        "graphs": pages.graphs(vae, jax.tree.map(jnp.asarray, variables), weights),
        "weights": base64.b64encode(weights.pack(4)).decode(),
        "width": 4,
        "inputs": {n: [np.ravel(a).tolist() for a in arrays] for n, arrays in inputs.items()},
    }
    return case, {"encode": encoded, "raw": [raw], "mean": [mean], "nats": [nats]}


def _compare(cases: dict[str, Any], expected: dict[str, Any], folder: Path) -> None:
    data = json.dumps(cases).replace("<", "\\u003c")
    page = ALONE.replace("{script}", pages.source("engine.js")).replace("{data}", data)
    found = browse(page, COMPUTE, folder)
    assert found.pop("errors") == []
    for name, graphs in expected.items():
        for graph, arrays in graphs.items():
            ours = [[sum(found[name][graph][0])]] if graph == "nats" else found[name][graph]
            close = {"rtol": 0, "atol": 1e-5} if graph == "mean" else {"rtol": 2e-4, "atol": 2e-4}
            for mine, theirs in zip(ours, arrays, strict=True):
                values = [np.nan if value is None else value for value in mine]
                np.testing.assert_allclose(
                    values, np.ravel(theirs), err_msg=f"{name} {graph}", **close
                )


@needs_chromium
def test_a_browser_computes_every_operation_as_jax_does(tmp_path: Path) -> None:
    cases, expected = {}, {}
    for name, (function, x) in OPERATIONS.items():
        cases[name] = _case({"f": (lambda x, f=function: jax.tree.leaves(f(x)), [x])})
        expected[name] = {"f": jax.tree.leaves(jax.jit(function)(x))}
    for name, (model, likelihood, shape) in enumerate(EACH):
        cases[str(name)], expected[str(name)] = _network(VAE(model, likelihood, 3, shape))
    _compare(cases, expected, tmp_path)


@needs_chromium
@pytest.mark.full  # the test above has each of them once
def test_a_browser_computes_every_model_with_every_likelihood(tmp_path: Path) -> None:
    cases, expected = {}, {}
    for model, likelihood, shape in EVERY:
        name = f"{model!r} {likelihood!r} {shape}"
        cases[name], expected[name] = _network(VAE(model, likelihood, 3, shape))
    _compare(cases, expected, tmp_path)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (jnp.sort, "sort"),
        (lambda x: lax.fori_loop(0, 3, lambda _, y: y * x, x), "scan"),
        (lambda x: x.astype(jnp.bfloat16) * 2, "bfloat16"),
        (lambda x: x[jnp.argmax(x)], "argmax"),
    ],
)
def test_what_the_page_cannot_compute_is_named(function: Any, what: str) -> None:
    with pytest.raises(RunError) as error:
        trace(function, (5,), weights=Weights())
    assert what in error.value.message
    assert error.value.exit_code == 4


def test_what_does_not_depend_on_the_input_is_computed_beforehand() -> None:
    weights = Weights()
    table = jnp.sort(jnp.arange(5.0)[::-1])
    graph = trace(lambda x: x * table + table, (5,), weights=weights)
    assert [step["name"] for step in graph["steps"]] == ["mul", "add"]
    assert weights.size == 5


def test_numbers_of_three_bytes_are_rounded_to_the_nearest() -> None:
    numbers = np.float32([0, 1, -1.0000153, 3.14159265, -2e-30, 65504.7])
    assert len(pack(numbers, 3)) == 18
    assert (abs(rounded(numbers) - numbers) <= abs(numbers) * 2.0**-16).all()
    np.testing.assert_array_equal(np.frombuffer(pack(numbers, 4), "<f4"), numbers)
