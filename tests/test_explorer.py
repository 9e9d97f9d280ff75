"""The explorer: graphs that a browser computes, the page around them, and its command."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from PIL import Image

import vaectl as package
from tests import colours
from tests.browser import Browser, needs_chromium
from tests.conftest import Vaectl
from tests.test_contracts import LIKELIHOODS, MODELS, PRIORS
from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.explorer import graph as graphs
from vaectl.explorer import page as pages
from vaectl.explorer.graph import Weights, pack, rounded, trace
from vaectl.likelihoods.base import Likelihood
from vaectl.priors.standard_normal import StandardNormal
from vaectl.runs import belongings
from vaectl.vae.vae import VAE

X = np.linspace(-2.5, 3, 24, dtype=np.float32).reshape(2, 3, 4)
IMAGES = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
KERNEL: Any = np.random.default_rng(1).normal(size=(3, 2, 2, 6)).astype(np.float32)


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
    "of every platform": (
        lambda x: lax.platform_dependent(x, cpu=lambda x: lax.map(jnp.sin, x), default=jnp.sin),
        X,
    ),
    "special": (
        lambda x: (lax.erf(3 * x), lax.lgamma(x), jax.nn.softplus(x), jax.nn.gelu(x)),
        X + 0.01,
    ),
    "choices": (
        lambda x: (
            jnp.where((x > 0) & ~(x >= 2) | (x == -2.5) ^ (x <= -9), x, -x),
            jnp.clip(x, -1, 1) + jnp.minimum(x, 0.3) + jnp.maximum(x, x[:1]),
            jnp.isfinite(jnp.log(x)).astype(jnp.float32) + (x != 1) + ~x.astype(jnp.int32),
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
            x[0] @ X[1].T, x @ X[0, 0],
            jnp.einsum("bij,bkj->bik", x, X), jnp.einsum("bij,bij->j", x, X),
        ),
        X,
    ),
    "convolutions": (
        lambda x: (
            _conv(window_strides=(2, 1), padding="SAME")(x),
            _conv(window_strides=(1, 2), padding=[(2, 0), (1, 3)], lhs_dilation=(2, 3))(x),
            _conv(window_strides=(1, 1), padding="VALID", rhs_dilation=(2, 2))(x),
            lax.conv_general_dilated(
                x[..., 0], KERNEL.ravel()[:60].reshape(2, 5, 6), (1,), "SAME",
                dimension_numbers=("NCH", "HIO", "NHC"),
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
EVERY = [
    (model, likelihood, shape) for model in MODELS for likelihood in LIKELIHOODS for shape in SHAPES
]
EACH = [
    VAE(
        *(MODELS[i % len(MODELS)], likelihood, PRIORS[i % len(PRIORS)], 3, SHAPES[i % 2]),
        classes=4 if i % len(PRIORS) == 1 else 0,
    )
    for i, likelihood in enumerate(LIKELIHOODS[::2])
]


ALONE = """<!doctype html><html><head></head><body>
<script type="application/json" id="data">{data}</script><script>"use strict";{script}</script>
</body></html>"""
COMPUTE = """
  const cases = JSON.parse(document.getElementById("data").textContent);
  const found = {};
  for (const [name, { graphs, weights, width, inputs }] of Object.entries(cases)) {
    const floats = Engine.floats(weights, width);
    const run = graph => Engine.compile(graphs[graph], floats);
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
    traced = {
        name: trace(function, *(array.shape for array in arrays), weights=weights)
        for name, (function, arrays) in functions.items()
    }
    inputs = {name: [a.ravel().tolist() for a in arrays] for name, (_, arrays) in functions.items()}
    return {
        "graphs": traced,
        "weights": base64.b64encode(weights.pack(4)).decode(),
        "width": 4,
        "inputs": inputs,
    }


def _network(vae: VAE) -> tuple[dict[str, Any], dict[str, Any]]:
    """A case, and what JAX computes, with parameters that make something of all inputs."""
    rng = np.random.default_rng(0)

    def filled(path: Any, leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)  # the counters of dropout
        values = (0.3 * rng.normal(size=leaf.shape)).astype(np.float32)
        return np.abs(values) if path[-1].key == "var" else values

    shapes = jax.eval_shape(vae.init, jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(filled, shapes)
    x = rng.integers(0, 2, (1, *vae.image_shape)).astype(np.float32)
    z = rng.normal(size=(1, 3)).astype(np.float32)
    told = [np.eye(vae.classes, dtype=np.float32)[1:2]] if vae.classes else []

    @jax.jit
    def compute(x: Any, z: Any) -> Any:
        network = vae.network(jax.tree.map(jnp.asarray, variables)).given(
            *map(jnp.asarray, told) if told else (None,)
        )
        nats, prior = -network.log_prob(z[None], x), network.prior.log_prob(z)
        return network.encode(x), network.decode(z), network.mean(z), nats, prior

    encoded, raw, mean, nats, prior = compute(x, z)
    inputs = {"encode": [x, *told], "raw": [z, *told], "mean": [raw], "nats": [raw, x]}
    inputs["prior"] = [z]
    weights = Weights()
    case = {
        "graphs": pages.graphs(vae, jax.tree.map(jnp.asarray, variables), weights),
        "weights": base64.b64encode(weights.pack(4)).decode(),
        "width": 4,
        "inputs": {n: [np.ravel(a).tolist() for a in arrays] for n, arrays in inputs.items()},
    }
    found = {"encode": encoded, "raw": [raw], "mean": [mean], "nats": [nats], "prior": [prior]}
    return case, found


def _compare(
    cases: dict[str, Any], expected: dict[str, Any], chromium: Browser, folder: Path
) -> None:
    data = json.dumps(cases).replace("<", "\\u003c")
    page = ALONE.replace("{script}", pages.source("engine.js")).replace("{data}", data)
    (folder / "page.html").write_text(page)
    chromium.open(folder / "page.html")
    found = chromium.ask(COMPUTE)
    assert chromium.errors == []
    for name, parts in expected.items():
        for graph, arrays in parts.items():
            ours = [[sum(found[name][graph][0])]] if graph == "nats" else found[name][graph]
            rtol, atol = (0, 1e-5) if graph == "mean" else (2e-4, 2e-4)
            for mine, theirs in zip(ours, arrays, strict=True):
                values = [np.nan if value is None else value for value in mine]
                np.testing.assert_allclose(
                    values, np.ravel(theirs), rtol, atol, err_msg=name + graph
                )


@needs_chromium
def test_a_browser_computes_every_operation_as_jax_does(chromium: Browser, tmp_path: Path) -> None:
    cases, expected = {}, {}
    for name, (function, x) in OPERATIONS.items():
        cases[name] = _case({"f": (lambda x, f=function: jax.tree.leaves(f(x)), [x])})
        expected[name] = {"f": jax.tree.leaves(jax.jit(function)(x))}
    for number, vae in enumerate(EACH):
        cases[f"{number}"], expected[f"{number}"] = _network(vae)
    _compare(cases, expected, chromium, tmp_path)


@needs_chromium
@pytest.mark.full  # the test above has each of them once
def test_a_browser_computes_every_model_with_every_likelihood(
    chromium: Browser, tmp_path: Path
) -> None:
    cases, expected = {}, {}
    for model, likelihood, shape in EVERY:
        name = f"{model!r} {likelihood!r} {shape}"
        cases[name], expected[name] = _network(VAE(model, likelihood, StandardNormal(), 3, shape))
    _compare(cases, expected, chromium, tmp_path)


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
    numbers = np.array([0, 1, -1.0000153, 3.14159265, -2e-30, 65504.7], np.float32)
    assert len(pack(numbers, 3)) == 18
    assert (abs(rounded(numbers) - numbers) <= abs(numbers) * 2.0**-16).all()
    np.testing.assert_array_equal(np.frombuffer(pack(numbers, 4), "<f4"), numbers)


VALUES = """
  const { model } = app, [set] = model.sets, { mu, logVar } = model.encode(set.image(3));
  return { mu: [...mu], logVar: [...logVar], image: [...model.decode(mu)], kept: [...set.mu(3)],
    nll: model.nats(mu, set.image(3)).reduce((sum, value) => sum + value, 0) };
"""
SHOWN = """
  await new Promise(done => setTimeout(done, 250));
  const paint = [...document.querySelectorAll("canvas")].map(canvas => canvas.toDataURL());
  const text = selector => [...document.querySelectorAll(selector)].map(e => e.textContent);
  return { z: [...app.z], decoded: document.querySelector(".decoded canvas").ariaLabel, paint,
    near: text(".thumbs button").length, ink: app.drawn.reduce((sum, value) => sum + value, 0),
    seen: [...new Set(app.prepared)].sort(), numbers: text(".numbers dd"),
    morph: document.querySelector("#morph .middle canvas").ariaLabel,
    film: [...document.querySelectorAll(".film")].map(image => image.alt),
    readings: text("#training p.now"), focus: document.activeElement.className };
"""
ERRORS = """
  const { model } = app, found = [];
  for (const standard of [true, false]) {
    model.run.standard = standard;
    const { errors } = model.assess(model.sets[0].image(0), 400);
    document.querySelectorAll("#draw .actions button")[2].click();
    await new Promise(done => setTimeout(done, 250));
    const numbers = [...document.querySelectorAll(".numbers dd")].map(each => each.textContent);
    found.push({ errors, numbers });
  }
  return found;
"""
NAMELESS = """
  return [...document.querySelectorAll("button, input, select, canvas[role], img, svg[role], a")]
    .filter(element => !(element.ariaLabel || element.textContent.trim() || element.alt
      || element.labels?.length)).map(element => element.outerHTML);
"""
AXE = """
  const { violations } = await axe.run(document);
  return violations.map(({ id, nodes }) => [id, nodes.map(node => node.html)]);
"""


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory, trained_runs: Path) -> Path:
    """A copy of the run z2 with a film, and a name that is HTML."""
    from vaectl.follow import replay
    from vaectl.runs.directory import RunDir
    from vaectl.sinks.film import Film
    from vaectl.training.events import ignore

    copy = shutil.copytree(trained_runs / "z2", tmp_path_factory.mktemp("filmed") / "<b>&amp;\"z2'")
    replay(RunDir(copy), Film(), ignore)
    return Path(copy)


@pytest.fixture(scope="module")
def page(filmed: Path) -> Path:
    """The page of 60 of its images."""
    made = pages.explore([filmed], output=filmed.parent / "run.html", count=60)
    assert made.images == 60
    assert f"no pixel by more than {pages.bound(made.difference)}." in made.path.read_text()
    return made.path


@needs_chromium
def test_the_page_shows_what_the_model_computes(
    chromium: Browser, filmed: Path, page: Path
) -> None:
    chromium.open(page)
    found, shown = chromium.ask(VALUES), chromium.ask(SHOWN)
    assert chromium.errors == []
    model = package.load(filmed)
    images = model.split("test").images
    image = images[np.unique(np.linspace(0, len(images) - 1, 60).astype(int))[3]][None]
    mu, log_var = model.encode(image)
    np.testing.assert_allclose(found["image"], model.decode(mu).ravel(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(found["mu"], mu[0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found["kept"], mu[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["logVar"], log_var[0], rtol=0, atol=1e-3)
    p, x = np.float64(model.decode(mu).ravel()), image.ravel() / 255
    nll = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum()
    assert found["nll"] == pytest.approx(nll, rel=1e-4)
    # the bound of the first image, by other draws of z
    elbo, kl, _, bound = (
        float(text.split()[0].replace("\N{MINUS SIGN}", "-")) for text in shown["numbers"]
    )
    assert elbo == pytest.approx(model.elbo(images[:1], samples=1000)[0], abs=2)
    assert bound == pytest.approx(model.log_likelihood(images[:1], samples=32)[0], abs=2)
    mu, log_var = (values[0] for values in model.encode(images[:1]))
    exact = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum()
    assert kl == pytest.approx(exact, abs=0.02)


@needs_chromium
def test_standard_errors_are_those_of_what_was_averaged(
    chromium: Browser, filmed: Path, page: Path
) -> None:
    """The KL of a learned prior is a mean over samples, as the NLL is, and so is their sum."""
    chromium.open(page)
    exact, drawn = chromium.ask(ERRORS)
    assert chromium.errors == []
    model = package.load(filmed)
    image = np.asarray(model.split("test").images[:1])
    mu, log_var = (values[0] for values in model.encode(image))
    noise = np.random.default_rng(0).normal(size=(2000, len(mu)))
    z = mu + np.exp(log_var / 2) * noise
    ratios = 0.5 * (noise**2 + log_var - z**2).sum(axis=1)
    p, x = np.float64(model.decode(z.astype(np.float32)).reshape(2000, -1)), image.ravel() / 255
    nlls = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=1)
    kl, nll, elbo = (np.std(each) / np.sqrt(399) for each in (ratios, nlls, ratios - nlls))
    assert exact["errors"] == pytest.approx({"elbo": nll, "nll": nll}, rel=0.25)
    assert drawn["errors"] == pytest.approx({"elbo": elbo, "kl": kl, "nll": nll}, rel=0.25)
    signs = ["\N{PLUS-MINUS SIGN}" in text for text in drawn["numbers"]]
    assert signs == [True, True, True, False]


@needs_chromium
@pytest.mark.parametrize(
    ("first", "said"),
    [
        ([-120], ""),
        ([-900], ", epoch 1 beyond the axis"),
        ([-900, -400], ", epochs 1 to 2 beyond the axis"),
    ],
)
def test_a_chart_says_which_epochs_its_axis_leaves_out(
    chromium: Browser, page: Path, first: list[int], said: str
) -> None:
    line = first + [-120 + 20 * at / 60 for at in range(60)]
    term = {"name": "elbo", "label": "ELBO", "train": line, "validation": [None] * len(line)}
    curves = json.dumps({"epochs": [*range(1, len(line) + 1)], "terms": [term]})
    chromium.open(page)
    told = chromium.ask(f"""
      const body = document.createElement("div");
      filmSection(body, {{ ...app, run: {{ ...app.run, film: {{}}, curves: {curves} }} }});
      return body.querySelector(".charts figcaption").textContent;
    """)
    assert told == f"ELBO nats per image{said}"


@pytest.mark.parametrize(
    ("difference", "said"),
    [(1.25e-5, "2e-05"), (9.48e-6, "1e-05"), (2e-5, "2e-05"), (1.01e-9, "2e-09")],
)
def test_the_bound_of_the_footer_is_none_that_its_images_break(
    difference: float, said: str
) -> None:
    assert pages.bound(difference) == said
    assert float(said) >= difference


@needs_chromium
def test_the_page_is_used_by_keys(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    before = chromium.ask(SHOWN)
    chromium.ask("document.querySelector('.plane').focus()")
    chromium.press("ArrowRight")
    chromium.press("ArrowUp", shift=True)
    moved = chromium.ask(SHOWN)
    assert moved["focus"] == "plane"
    np.testing.assert_allclose(np.subtract(moved["z"], before["z"]), [0.1, 0.5], atol=1e-5)
    assert moved["decoded"] != before["decoded"]
    assert moved["paint"] != before["paint"]
    assert moved["near"] == 10
    chromium.press("Home")
    assert chromium.ask(SHOWN)["z"] == [0, 0]
    chromium.ask("document.querySelector('.slider input').focus()")
    chromium.press("ArrowRight")
    assert sum(abs(value) > 0 for value in chromium.ask(SHOWN)["z"]) == 1
    # a stroke of the pen on an empty pad
    chromium.ask("document.querySelector('#draw .actions button').click()")
    assert chromium.ask(SHOWN)["ink"] == 0
    chromium.ask("document.querySelector('.pad').focus()")
    for _ in range(6):
        chromium.press("ArrowDown", shift=True)
    drawn = chromium.ask(SHOWN)
    assert drawn["ink"] > 5
    assert drawn["seen"] == [0, 1]
    assert drawn["numbers"] != before["numbers"]
    chromium.ask("document.querySelector('#morph input[type=range]').focus()")
    chromium.press("Home")
    assert before["morph"].endswith("50 % of the way")
    assert chromium.ask(SHOWN)["morph"].endswith(" 0 % of the way")
    chromium.ask("document.querySelector('#epoch').focus()")
    chromium.press("Home")
    first = chromium.ask(SHOWN)
    assert first["readings"] != before["readings"]
    assert len(first["film"]) == 2
    assert chromium.errors == []


@needs_chromium
def test_the_page_is_used_by_the_mouse(chromium: Browser, page: Path) -> None:
    chromium.open(page, dark=True)
    where = "const box = document.querySelector('%s').getBoundingClientRect();"
    place = where + "return [box.left, box.top, box.width, box.height];"
    # only one point of the plane is shown
    chromium.ask("document.querySelectorAll('.options input')[2].click()")
    left, top, width, height = chromium.ask(place % ".plane")
    middle = left + width / 2, top + height / 2
    chromium.drag(middle, (left + 0.6 * width, middle[1]), (left + 0.75 * width, middle[1]))
    z = chromium.ask(SHOWN)["z"]
    assert z[0] > 0
    assert abs(z[1]) < 0.05
    chromium.ask("document.querySelector('#draw .actions button').click(); "
                 "document.querySelector('.pad').scrollIntoView()")  # fmt: skip
    left, top, width, height = chromium.ask(place % ".pad")
    middle = left + width / 2, top + height / 2
    chromium.drag((middle[0], top + 30), middle, (middle[0], top + height - 30))
    drawn = chromium.ask(SHOWN)
    assert drawn["ink"] > 15
    content = chromium.ask(
        "const bytes = new Uint8Array(await app.saveGif().arrayBuffer());"
        "return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));"
    )
    _is_an_animation(base64.b64decode(content))
    assert chromium.errors == []


def _click(label: str, times: int = 1) -> str:
    """A question that presses a button of the drawing pad, and tells which image is there."""
    return f"""
      const button = document.querySelector(`#draw button[aria-label^="{label}"]`);
      for (let i = 0; i < {times}; i++) button.click();
      return document.querySelector("#draw p[aria-live]").textContent;
    """


PLANE = """
  const { decode } = app.model, shown = [1, 2, 3, 4, 5];
  let decoded = 0;
  app.model.decode = z => {
    decoded += z.filter((value, j) => value !== shown[j]).length === 2;
    return decode.call(app.model, z);
  };
  document.querySelector(".options input").checked = true;
  app.show(shown);
  for (let i = 0; i < 200 && decoded < 200; i++) await new Promise(done => setTimeout(done, 100));
  return decoded;
"""


@needs_chromium
def test_the_plane_goes_through_a_code_that_is_shown(
    chromium: Browser, trained_runs: Path, tmp_path: Path
) -> None:
    made = pages.explore([trained_runs / "z5"], output=tmp_path / "page.html", count=12)
    chromium.open(made.path)
    assert chromium.ask(PLANE) >= 200
    assert chromium.errors == []


@needs_chromium
def test_the_images_of_the_pad_are_a_ring(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    first = chromium.ask(_click("next", 60))
    before = chromium.ask(_click("previous"))
    assert before != first
    assert chromium.ask(_click("previous", 120)) == before
    assert chromium.ask(_click("next", 121)) == first
    assert chromium.errors == []


PAINTED = """
  await new Promise(done => setTimeout(done, 250));
  return [...document.querySelectorAll(".decoded canvas, .thumbs canvas, .strip canvas")]
    .map(canvas => canvas.toDataURL());
"""
LEAK = """
  const wait = () => new Promise(done => setTimeout(done, 150));
  for (let i = 0; i < 12; i++) { app.show(app.model.randomCode()); await wait(); }
  return document.querySelectorAll("canvas").length;
"""


@needs_chromium
def test_pictures_that_are_gone_take_no_memory_and_others_follow_the_colours(
    chromium: Browser, page: Path
) -> None:
    def alive() -> int:
        kind = chromium.send("Runtime.evaluate", expression="HTMLCanvasElement.prototype")
        found = chromium.send(
            "Runtime.queryObjects", prototypeObjectId=kind["result"]["objectId"]
        )  # it collects garbage first
        counted = chromium.send(
            "Runtime.callFunctionOn",
            objectId=found["objects"]["objectId"],
            functionDeclaration="function () { return this.length; }",
        )
        return int(counted["result"]["value"])

    chromium.open(page)
    there = chromium.ask(LEAK)
    assert alive() < there + 20  # a dozen times ten pictures came and went
    light = chromium.ask(PAINTED)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    chromium.send("Emulation.setEmulatedMedia", features=[scheme])
    dark = chromium.ask(PAINTED)
    assert len(light) == len(dark) > 20
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert chromium.errors == []


@needs_chromium
def test_the_page_of_an_imported_run_claims_no_training(
    chromium: Browser, runs: Path, vaectl: Vaectl
) -> None:
    assert vaectl("export", "z2", "--format", "safetensors", "-q").code == 0
    weights = runs / "z2" / "export" / "model.safetensors"
    assert vaectl("import", weights, "--name", "copy").code == 0
    made = pages.explore([runs / "copy"], output=Path("copy.html"), count=10)
    chromium.open(made.path)
    text = chromium.ask("return document.body.innerText")
    assert re.search(rf"imported from \S*{weights.name}", text)
    assert "imported and not trained here" in text
    for claim in ("trained on", "seed", "epochs", "export-log"):
        assert claim not in text
    assert chromium.errors == []


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(390, False), (1200, True)])
def test_everybody_can_read_the_page(chromium: Browser, page: Path, width: int, dark: bool) -> None:
    """Names, contrast and the rules of axe, if it is installed; nothing sticks out of a phone."""
    chromium.open(page, width=width, dark=dark)
    chromium.ask(SHOWN)
    assert chromium.ask(NAMELESS) == []
    assert chromium.ask("return document.documentElement.scrollWidth") <= width
    axe = find_spec("axe_core_python")
    if axe is None or not axe.origin:
        pytest.skip("axe-core-python is not installed: its rules were not checked")
    chromium.ask(f"{(Path(axe.origin).parent / 'axe.min.js').read_text()}; window.axe = axe;")
    assert chromium.ask(AXE) == []
    assert chromium.errors == []


def test_text_of_the_page_is_readable_in_both_schemes() -> None:
    """Of text in drawings, axe cannot tell what is behind it."""
    css = (Path(pages.__file__).parent / "explorer.css").read_text()
    themes = colours.variables(css)
    assert len(themes) == 2
    for theme in themes:
        words = [theme[name] for name in ("ink", "soft", "accent")]
        words += [colours.text_of_drawings(css, theme)]
        words += [colour for name, colour in theme.items() if name.startswith("class-")]
        for colour in words:
            assert colours.contrast(colour, theme["card"]) >= colours.TEXT
        for name in ("ink", "soft", "accent"):
            assert colours.contrast(theme[name], theme["ground"]) >= colours.TEXT
        assert colours.contrast(theme["on-accent"], theme["accent"]) >= colours.TEXT
        assert colours.contrast(theme["pen"], theme["paper"]) >= colours.TEXT


def _is_an_animation(content: bytes) -> None:
    image: Any = Image.open(io.BytesIO(content))
    assert image.n_frames == 48
    first = np.asarray(image.convert("L"), float)
    image.seek(24)
    middle = np.asarray(image.convert("L"), float)
    assert first.shape == middle.shape == (112, 228)
    assert abs(first - middle).mean() > 5


def test_the_page_refers_to_nothing_outside_and_escapes_names(filmed: Path, page: Path) -> None:
    text = page.read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert not re.search(r"@import|url\(\s*['\"]?http|fetch\(|XMLHttpRequest|WebSocket", text)
    assert "default-src 'none'" in text
    assert "<b>" not in text.replace('h("b"', "")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    (run,) = json.loads(data[1])["runs"]
    assert run["name"] == filmed.name
    assert run["ink"] == package.load(filmed).drawings


GALLERY = """
  const count = (part, kind) => document.querySelectorAll(
    `#gallery .card:nth-child(${part}) ${kind}`).length;
  const found = { images: count(1, ".line"), samples: count(2, ".line"), codes: count(3, ".line") };
  found.pictures = count(1, "canvas");
  const chooser = document.getElementById("run");
  found.sizes = [];
  for (const value of [0, 1]) {
    chooser.value = value;
    chooser.dispatchEvent(new Event("change"));
    await new Promise(done => setTimeout(done, 100));
    found.sizes.push([app.model.code, document.querySelectorAll(".slider").length,
      document.querySelectorAll(".facts:not([hidden])").length]);
  }
  return found;
"""


@needs_chromium
def test_several_runs_stand_side_by_side(chromium: Browser, runs: Path, vaectl: Vaectl) -> None:
    shutil.copytree(runs / "z5", runs / "again")
    answer = vaectl("explore", "z2", "z5", "again", "--output", "all.html", "--count", 20, "--json")
    assert answer.code == 0
    made = json.loads(answer.out)
    assert (made["path"], made["runs"], made["images"]) == ("all.html", ["z2", "z5", "again"], 20)
    chromium.open(Path("all.html"))
    found = chromium.ask(GALLERY)
    assert chromium.errors == []
    assert (found["images"], found["samples"], found["pictures"]) == (4, 3, 32)
    assert found["codes"] == 2  # those that have codes of one size
    assert found["sizes"] == [[2, 2, 1], [5, 5, 1]]


def test_the_page_of_the_default_model_is_small_and_goes_with_its_run(vaectl: Vaectl) -> None:
    small = ("--set", "data.train_size=200", "--set", "data.validation_size=20")
    assert vaectl("train", "--epochs", 1, *small, "--log", "film", "-q", "--name", "a").code == 0
    code, out, err = vaectl("explore", "latest")
    assert (code, err) == (0, "")
    page = Path(out.splitlines()[-1])
    assert page == Path("runs/a/figures/explore.html")
    assert page.stat().st_size < 6e6 - pages.FILM_BYTES * 4 / 3
    assert belongings.remove_run(Folder(Path("runs")), "a") == []
    assert not Path("runs/a").exists()


def test_a_page_of_several_runs_leaves_those_of_one_alone(runs: Path, vaectl: Vaectl) -> None:
    page = runs / "z2" / "figures" / "explore.html"
    assert (
        vaectl("explore", "z2", "--count", 4).out.splitlines()[-1] == "runs/z2/figures/explore.html"
    )
    before = page.read_bytes()
    code, out, _ = vaectl("explore", "z2", "z5", "--count", 4)
    assert (code, page.read_bytes()) == (0, before)
    assert Path(out.splitlines()[-1]).read_bytes() != before
    assert belongings.remove_run(Folder(runs), "z2") == []


def test_what_cannot_be_explored_is_said(
    runs: Path, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = vaectl("explore", "z2", "--output", "page.png")
    assert (answer.code, answer.out) == (2, "")
    assert vaectl("explore", "z2", "--output", "gone/page.html").code == 4
    assert vaectl("explore", "gone").code == 4
    monkeypatch.setattr(pages, "MOST_BYTES", 400_000)
    answer = vaectl("explore", "z5")
    assert answer.code == 4
    assert "0 MB" in answer.err
    monkeypatch.setattr(pages, "MOST_BYTES", 1000)
    assert vaectl("explore", "z5").code == 4
    shutil.rmtree(runs / "z2" / "checkpoints")
    answer = vaectl("explore", "z2")
    assert answer.code == 4
    assert "checkpoint" in answer.err
    assert not list(runs.rglob("*.html"))


def test_a_run_whose_model_the_page_cannot_compute_is_named(
    runs: Path, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(graphs._LOWERED, "logistic")
    answer = vaectl("explore", "z2")
    assert answer.code == 4
    assert f"{runs.name}/z2" in answer.err
    assert "logistic" in answer.err


class _Chained(Likelihood):
    """Pixels that depend on each other. No plug: it has no name."""

    def log_prob(self, raw: Any, x: Any) -> Any:
        return -jnp.abs((x - raw[..., 0]).sum(axis=(-3, -2, -1)))

    def mean(self, raw: Any) -> Any:
        return raw[..., 0]

    def sample(self, raw: Any, key: Any) -> Any:
        del key
        return raw[..., 0]


def test_pixels_that_depend_on_each_other_have_no_map() -> None:
    vae = VAE(MODELS[0], _Chained(), StandardNormal(), 2, (3, 4, 1))
    shapes = jax.eval_shape(vae.init, jax.random.key(0))
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    assert pages.graphs(vae, variables, Weights())["nats"]["shapes"] == [[1]]
    vae = VAE(MODELS[0], LIKELIHOODS[0], StandardNormal(), 2, (3, 4, 1))
    assert pages.graphs(vae, variables, Weights())["nats"]["shapes"] == [[12]]
