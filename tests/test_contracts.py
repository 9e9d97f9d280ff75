"""What every plug must do, whichever it is. A new plug joins by a row in its kind's table."""

import hashlib
import json
import math
import re
import signal
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from scipy import special, stats
from scipy.stats import multivariate_normal

from tests import apart, tensorboard
from tests import trackers as held
from tests.conftest import Vaectl, assert_equal_runs, cut_off
from tests.test_data import _source, _write_idx
from vaectl import config, data
from vaectl.base import plugins
from vaectl.base.errors import DataError
from vaectl.base.shapes import shaped
from vaectl.cli.plugs import names
from vaectl.config import reading
from vaectl.data.sources.base import Source, parse
from vaectl.data.sources.digits import Digits
from vaectl.data.sources.idx import Idx
from vaectl.data.sources.images import ImageFolder
from vaectl.data.sources.npy import Npy
from vaectl.data.sources.npz import Npz
from vaectl.data.sources.table import Table
from vaectl.data.sources.tfds import Tfds
from vaectl.exports.base import Export
from vaectl.exports.card import Card
from vaectl.exports.onnx import ONNX
from vaectl.exports.safetensors import SafeTensors
from vaectl.exports.stablehlo import StableHLO
from vaectl.likelihoods.base import Likelihood
from vaectl.likelihoods.bernoulli import Bernoulli
from vaectl.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaectl.likelihoods.discretized_logistic import DiscretizedLogistic
from vaectl.likelihoods.gaussian import Gaussian
from vaectl.models.base import Model
from vaectl.models.conv import Conv
from vaectl.models.mlp import MLP
from vaectl.objectives.base import Objective
from vaectl.objectives.beta import Beta
from vaectl.objectives.elbo import ELBO
from vaectl.objectives.iwae import IWAE
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.optimizers.base import Optimizer
from vaectl.priors._mixture import Mixture
from vaectl.priors.base import Distribution, Prior
from vaectl.priors.mixture import MixturePrior
from vaectl.priors.standard_normal import StandardNormal
from vaectl.priors.vamp import Vamp
from vaectl.runs.metrics import Row
from vaectl.sinks.base import Pictures, Results, Sink, Training
from vaectl.sinks.film import Film
from vaectl.sinks.mlflow import MLflow
from vaectl.sinks.tensorboard import TensorBoard
from vaectl.sinks.trackio import Trackio
from vaectl.training import footprint
from vaectl.vae.networks import AutoEncoder
from vaectl.vae.posterior import Codes
from vaectl.vae.vae import VAE, Network, unit

LIKELIHOODS: list[Likelihood] = [
    Bernoulli(),
    ContinuousBernoulli(),
    Gaussian(scale="pixel"),
    Gaussian(scale="one", fixed_scale=0.3),
    Gaussian(scale="fixed", fixed_scale=0.2),
    DiscretizedLogistic(scale="pixel"),
    DiscretizedLogistic(scale="one", fixed_scale=0.02),
    DiscretizedLogistic(scale="fixed", fixed_scale=3e-4),
]
OBJECTIVES: list[Objective] = [
    ELBO(),
    Beta(beta=4.0),
    Beta(beta=0.5, warmup_epochs=3.0, free_nats=0.2),
    IWAE(),
]
DOUBLE: Literal["doubly_reparameterized"] = "doubly_reparameterized"
PRIORS: list[Prior] = [
    StandardNormal(),
    MixturePrior(components=5, spread=1.5),
    Vamp(components=4),
]
MODELS: list[Model] = [
    MLP(hidden_size=6),
    MLP(hidden_size=6, hidden_layers=3, activation="relu", weight_init="lecun_uniform"),
    Conv(channels=3, kernel_size=4),
    MLP(hidden_size=6, hidden_layers=2, activation="gelu", normalization="layer", dropout=0.2),
    MLP(hidden_size=6, activation="silu", normalization="batch", input_noise=0.1),
    Conv(channels=2, residual_blocks=1, activation="elu", normalization="batch"),
    Conv(channels=3, layers=1, activation="leaky_relu", normalization="layer"),
]
EXPORTS: list[Export] = [
    Card(),
    ONNX(),
    SafeTensors(),
    StableHLO(),
]
Read = Callable[[Path], dict[int, float]]
BITS = 2 ** np.arange(5)


def _filmed(run: Path) -> dict[int, float]:
    """Read what `_results` writes into its samples: -2 ELBO as a binary number, black and white."""
    found = {}
    for file in sorted(run.glob("film/samples-*.png")):
        sheet = np.asarray(Image.open(file).convert("L"))
        rows, columns = sheet.shape[0] // 5, sheet.shape[1] // 4
        tiles = sheet.reshape(rows, 5, columns, 4)[:, 2, :, 2].ravel()[: len(BITS)]
        found[int(file.stem.rpartition("-")[2])] = -0.5 * float((tiles > 127) @ BITS)
    return found


SINKS: dict[Sink, Read] = {
    Film(): _filmed,
    TensorBoard(): lambda run: tensorboard.curve(run / "tensorboard", "elbo/validation"),
    MLflow(): held.mlflow_curve,
    Trackio(): held.trackio_curve,
}
"""Each with what reads the validation ELBO by step from a run directory."""
NEEDS = {MLflow: "mlflow", Trackio: "trackio"}
SINK_ROWS = [
    pytest.param(
        sink,
        id=repr(sink),
        marks=pytest.mark.skipif(
            type(sink) in NEEDS and find_spec(NEEDS[type(sink)]) is None,
            reason=f"pip install 'vaectl[{sink.name}]'",
        ),
    )
    for sink in SINKS
]


def _idx_folder(folder: Path) -> str:
    _write_idx(folder, _source())
    return str(folder)


def _archive(folder: Path) -> str:
    train, test = _source().train, _source().test
    assert train.labels is not None
    np.savez(folder / "x.npz", x_train=train.images, y_train=train.labels, x_test=test.images)
    return str(folder / "x.npz")


def _table(folder: Path) -> str:
    images, labels = _source().train
    assert labels is not None
    rows = np.column_stack([labels, np.asarray(images).reshape(len(labels), -1)])
    names = ",".join(["label", *(f"pixel{i}" for i in range(rows.shape[1] - 1))])
    np.savetxt(folder / "x.csv", rows, "%d", ",", header=names, comments="")
    return str(folder / "x.csv")


def _arrays(folder: Path) -> str:
    train, test = _source().train, _source().test
    assert train.labels is not None
    np.save(folder / "x_train.npy", train.images)
    np.save(folder / "y_train.npy", train.labels)
    np.save(folder / "x_test.npy", test.images)
    return str(folder)


def _discs(folder: Path) -> str:
    """240 RGB pictures of 16 x 16 pixels, in four classes."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    for number in range(240):
        x, y, radius = rng.uniform((4, 4, 2), (11, 11, 5))
        inside = ((columns - x) ** 2 + (rows - y) ** 2 < radius**2)[..., np.newaxis]
        ink = 60 * np.eye(4, 3, dtype=np.uint8)[number % 4]
        place = folder / f"class {number % 4}"
        place.mkdir(exist_ok=True)
        Image.fromarray(np.where(inside, 180 + ink, 20 + ink)).save(place / f"{number}.png")
    return str(folder)


def _prepared(folder: Path) -> str:
    with tarfile.open(Path(__file__).with_name("prepared-emnist.tar.gz")) as archive:
        archive.extractall(folder, filter="data")
    return "emnist/balanced"


SOURCES: dict[type[Source], Callable[[Path], str]] = {
    Digits: lambda _: "",
    Idx: _idx_folder,
    ImageFolder: _discs,
    Npy: _arrays,
    Npz: _archive,
    Table: _table,
    Tfds: _prepared,
}
"""What makes something to read for each, in an empty folder, and returns its name."""


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (Likelihood, LIKELIHOODS),
        (Objective, OBJECTIVES),
        (Model, MODELS),
        (Export, EXPORTS),
        (Sink, [*SINKS]),
        (Source, [source() for source in SOURCES]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_plug_has_a_row(kind: Any, rows: list[Any]) -> None:
    assert {type(row) for row in rows} == set(kind.known.values())


@pytest.mark.parametrize("kind", [Export, Likelihood, Objective, Model, Optimizer, Sink])
def test_the_help_names_the_built_in_plugs(kind: Any) -> None:
    assert names(kind.kind) == sorted(kind.known)


def _raw(likelihood: Likelihood, logits: np.ndarray) -> jax.Array:
    """Numbers for images of one pixel: each logit, and for a scale another one."""
    numbers = likelihood.outputs + likelihood.shared
    columns = [logits, *[0.5 * np.cos(logits)] * (numbers - 1)]
    return jnp.asarray(np.float32(np.stack(columns, -1)).reshape(-1, 1, 1, 1, numbers))


BYTES = np.arange(256) / 255
LOGITS = np.array([-20.0, -3.0, -0.1, -0.049, 0.0, 1e-3, 0.04, 0.3, 2.0, 15.0])


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_a_likelihood_sums_to_one_and_its_mean_is_the_mean(likelihood: Likelihood) -> None:
    raw = _raw(likelihood, LOGITS)
    if likelihood.binary:
        x, weights = np.array([0.0, 1.0]), np.ones(2)
    elif likelihood.measure == "bytes":
        x, weights = BYTES, np.ones(256)
    else:  # beyond [0, 1], where the density may go
        edge = 0.0 if likelihood.name == "continuous_bernoulli" else 4.0
        nodes, gauss = np.polynomial.legendre.leggauss(400)
        x = 0.5 + (0.5 + edge) * nodes
        weights = (0.5 + edge) * gauss
    images = np.float32(x).reshape(-1, 1, 1, 1, 1)
    # [x, raw]: every value under every distribution
    log_prob = np.asarray(jax.jit(likelihood.log_prob)(raw[None], images), np.float64)
    density = np.exp(log_prob) * weights[:, None]
    np.testing.assert_allclose(density.sum(axis=0), 1, rtol=2e-4)
    mean = np.asarray(jax.jit(likelihood.mean)(raw)).ravel()
    np.testing.assert_allclose(mean, (x[:, None] * density).sum(axis=0), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_a_likelihood_draws_what_it_says(likelihood: Likelihood) -> None:
    raw = _raw(likelihood, LOGITS)
    count = 10_000
    many = np.broadcast_to(raw, (count, *raw.shape))
    drawn = np.float64(jax.jit(likelihood.sample)(many, jax.random.key(0))).reshape(count, -1)
    error = 5 * drawn.std(axis=0) / math.sqrt(count) + 1e-6
    assert (abs(drawn.mean(axis=0) - np.asarray(likelihood.mean(raw)).ravel()) < error).all()
    if likelihood.binary:
        assert set(np.unique(drawn)) <= {0.0, 1.0}
        return
    # the probability of what was drawn, by the density: it is uniform
    log_prob = jax.jit(likelihood.log_prob)
    entropy = -np.asarray(log_prob(raw[None], np.float32(drawn).reshape(count, -1, 1, 1, 1))).mean(
        axis=0
    )
    if likelihood.measure == "bytes":
        assert np.isin(drawn, unit(jnp.arange(256, dtype=jnp.uint8))).all()
        p = _probabilities_of_bytes(likelihood, np.asarray(raw, np.float64).reshape(len(raw), -1))
        np.testing.assert_allclose(special.entr(p).sum(axis=-1), entropy, atol=0.1)
        return
    samples = np.sort(drawn, axis=0)
    spacings = np.diff(samples[::100], axis=0)
    estimated = np.log(np.maximum(spacings, 1e-12) * 100).mean(axis=0)
    np.testing.assert_allclose(estimated, entropy, atol=0.1)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_the_gradient_of_a_likelihood_is_that_of_finite_differences(likelihood: Likelihood) -> None:
    raw = _raw(likelihood, LOGITS[1:-1])
    x = jnp.full((len(raw), 1, 1, 1), 0.7, jnp.float32)
    with jax.enable_x64(True):
        wide, target = jnp.asarray(raw, jnp.float64), jnp.asarray(x, jnp.float64)
        log_prob = jax.jit(lambda raw: likelihood.log_prob(raw, target))
        gradient = jax.jit(jax.grad(lambda raw: log_prob(raw).sum()))(wide)
        for column in range(raw.shape[-1]):
            step = np.zeros(wide.shape)
            step[..., column] = 1e-5
            above, below = (np.asarray(log_prob(wide + s * step)) for s in (1, -1))
            slope = (above - below) / 2e-5
            own = np.asarray(gradient)[..., column].ravel()
            np.testing.assert_allclose(own, slope, rtol=1e-3, atol=1e-5)


def test_a_continuous_bernoulli_is_exact_where_series_stand_in_for_quotients() -> None:
    """In float64, whose quotients are exact enough to tell."""
    positive = np.array([1e-3, 0.02, 0.04, 0.0499, 0.0501, 0.2, 5.0])
    logits = np.concatenate([-positive, positive])
    log_constant = np.log(logits / np.tanh(logits / 2))
    mean = special.expit(logits) / np.tanh(logits / 2) - 1 / logits
    with jax.enable_x64(True):
        raw = jnp.asarray(logits).reshape(-1, 1, 1, 1, 1)
        log_prob = ContinuousBernoulli().log_prob(raw, jnp.full((len(logits), 1, 1, 1), 0.25))
        expected = 0.25 * logits - np.logaddexp(0, logits) + log_constant
        np.testing.assert_allclose(log_prob, expected, rtol=0, atol=1e-11)
        found = ContinuousBernoulli().mean(raw).ravel()
        np.testing.assert_allclose(found, mean, rtol=0, atol=2e-11)


def test_a_continuous_bernoulli_is_drawn_by_its_log_odds_however_small_they_are() -> None:
    """By the inverse of the distribution function in float64, from the same uniform numbers."""
    logits = np.repeat([1e-8, 1e-5, 1e-3, 0.02, 0.049, 0.051], 2000) * np.tile([1, -1], 6000)
    key = jax.random.key(0)
    u = np.asarray(jax.random.uniform(key, (len(logits), 1, 1, 1)), np.float64).ravel()
    found = ContinuousBernoulli().sample(jnp.float32(logits).reshape(-1, 1, 1, 1, 1), key).ravel()
    size = np.abs(logits)
    drawn = -np.log1p(u * np.expm1(-size)) / size
    expected = np.where(logits < 0, drawn, 1 - drawn)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", ["pixel", "one", "fixed"])
def test_a_gaussian_is_that_of_scipy_by_its_first_number_and_its_last(scale: Any) -> None:
    """The sums and means above hold for whichever number stands for which."""
    likelihood = Gaussian(scale=scale, fixed_scale=0.3, smallest=0.02)
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(50, 1, 1, 1, likelihood.outputs + likelihood.shared))
    x = rng.random((50, 1, 1, 1))
    s = 0.3 if scale == "fixed" else 0.02 + 0.3 * np.exp(raw[..., -1])
    expected = stats.norm(special.expit(raw[..., 0]), s).logpdf(x).ravel()
    found = likelihood.log_prob(jnp.float32(raw), jnp.float32(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(likelihood.mean(jnp.float32(raw)), special.expit(raw[..., 0]), 1e-5)


def _probabilities_of_bytes(likelihood: Any, raw: np.ndarray, x: np.ndarray = BYTES) -> np.ndarray:
    """P of each x under each row of raw, by differences of the distribution function in float64.

    In the upper half both ends are mirrored, where the function would round to 1.
    """
    s = likelihood.fixed_scale
    if likelihood.scale != "fixed":
        s = likelihood.smallest + s * np.exp(raw[..., 1:])
    centre = (1 + raw[..., :1]) / 2
    below = np.where(x == 0, -np.inf, (x - 1 / 510 - centre) / s)
    above = np.where(x == 1, np.inf, (x + 1 / 510 - centre) / s)
    mirrored = below > 0
    below, above = np.where(mirrored, -above, below), np.where(mirrored, -below, above)
    return np.asarray(special.expit(above) - special.expit(below))


@pytest.mark.parametrize("likelihood", LIKELIHOODS[-3:], ids=repr)
def test_a_discretized_logistic_is_that_of_the_distribution_function_in_float64(
    likelihood: DiscretizedLogistic,
) -> None:
    rng = np.random.default_rng(0)
    numbers = likelihood.outputs + likelihood.shared
    raw = np.float32(rng.normal(size=(400, numbers)) * (1.0, 2.0)[:numbers])
    outputs = jnp.asarray(raw).reshape(-1, 1, 1, 1, 1, numbers)
    found = np.asarray(likelihood.log_prob(outputs, jnp.float32(BYTES).reshape(-1, 1, 1, 1)))
    expected = _probabilities_of_bytes(likelihood, np.asarray(raw, np.float64))
    assert np.isfinite(found).all()
    assert (found <= 0).all()
    usual = expected > 1e-250  # float64 has fewer digits of smaller ones
    assert usual.mean() > 0.1
    # the centre itself is rounded to float32, at 1 / scale for each unit
    np.testing.assert_allclose(found[usual], np.log(expected[usual]), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_a_likelihood_is_finite_for_any_outputs(likelihood: Any) -> None:
    """A step that went too far then has a way back, or diverges by what training did."""
    edge = np.array([0.0, 1e-30, 1.0, 90.0, 1e4, 1e20, 1e30])
    values = np.concatenate([-edge, edge])
    numbers = likelihood.outputs + likelihood.shared
    raw = np.stack(np.meshgrid(*[values] * numbers), -1).reshape(-1, 1, 1, 1, 1, numbers)
    x = jnp.float32(BYTES[[0, 1, 128, 254, 255]]).reshape(-1, 1, 1, 1)

    def total(raw: Any) -> Any:
        found = likelihood.log_prob(raw, x)
        return found.sum(), found

    gradient, found = jax.jit(jax.grad(total, has_aux=True))(jnp.float32(raw))
    assert np.isfinite(found).all()
    assert np.isfinite(gradient).all()
    drawn = np.asarray(jax.jit(likelihood.sample)(jnp.float32(raw), jax.random.key(0)))
    mean = np.asarray(jax.jit(likelihood.mean)(jnp.float32(raw)))
    assert np.isfinite(drawn).all()
    assert ((mean >= 0) & (mean <= 1)).all()
    if likelihood.measure == "bytes":
        assert (np.asarray(found) <= 0).all()
    if likelihood.name != "gaussian":
        assert ((drawn >= 0) & (drawn <= 1)).all()


@pytest.mark.parametrize("kind", [Gaussian, DiscretizedLogistic])
@pytest.mark.parametrize("key", ["fixed_scale", "smallest"])
def test_a_scale_by_which_float32_cannot_divide_is_refused(kind: Any, key: str) -> None:
    x = jnp.full((1, 1, 1, 1), 0.7)
    for value in (1e-6, 1e6):
        likelihood = kind(scale="fixed", **{key: value})
        assert np.isfinite(likelihood.log_prob(jnp.zeros((1, 1, 1, 1, 1)), x)).all()
    for value in (1e-7, 1e7):
        with pytest.raises(ValueError, match=key):
            kind(**{key: value})


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_pixels_are_independent(likelihood: Likelihood) -> None:
    """log p of an image is the sum over its pixels, and a batch has one value for each image."""
    numbers = likelihood.outputs + likelihood.shared
    rng = np.random.default_rng(0)
    raw = jnp.float32(rng.normal(size=(3, 2, 4, 5, 2, numbers)))
    x = jnp.float32(rng.integers(0, 2, size=(2, 4, 5, 2)))
    log_prob, sample = jax.jit(likelihood.log_prob), jax.jit(likelihood.sample)
    together = log_prob(raw, x)
    assert together.shape == (3, 2)
    alone = np.asarray(
        log_prob(raw.reshape(3, 80, 1, 1, 1, numbers), x.reshape(80, 1, 1, 1))
    ).reshape(3, 2, 40)
    np.testing.assert_allclose(together, alone.sum(axis=-1), rtol=1e-5)
    assert jax.eval_shape(likelihood.mean, raw).shape == (3, 2, 4, 5, 2)
    drawn = jax.eval_shape(likelihood.sample, raw, jax.random.key(0))
    assert (drawn.shape, drawn.dtype) == ((3, 2, 4, 5, 2), jnp.float32)
    # each by a draw of its own
    same, other = (
        np.asarray(sample(jnp.zeros((1, 9, 9, 1, numbers)), jax.random.key(seed)))
        for seed in range(2)
    )
    few, many = {"binary": (2, 2), "density": (81, 81), "bytes": (2, 81)}[likelihood.measure]
    assert few <= len(np.unique(same)) <= many
    assert (same != other).any()


class _Normal(Likelihood):
    """N(raw, 0.5^2): with linear networks, p(x) is known. No plug: it has no name."""

    def log_prob(self, raw: Any, x: Any) -> Any:
        each = -0.5 * ((x - raw[..., 0]) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
        return each.sum(axis=(-3, -2, -1))

    def mean(self, raw: Any) -> Any:
        return raw[..., 0]

    def sample(self, raw: Any, key: Any) -> Any:
        return raw[..., 0] + 0.5 * jax.random.normal(key, raw.shape[:-1])


class _Linear(Model):
    """One matrix up, one down."""

    def build(
        self,
        image_shape: Any,
        code_size: int,
        outputs: int,
        rngs: nnx.Rngs,
        classes: int = 0,
    ) -> nnx.Module:
        pixels = math.prod(image_shape)
        up = nnx.Linear(pixels + classes, 2 * code_size, rngs=rngs)
        down = nnx.Linear(code_size + classes, pixels * outputs, rngs=rngs)
        encoder = nnx.Sequential(lambda x: 0.3 * x.reshape(len(x), -1), up)
        return AutoEncoder(encoder, down, (*image_shape, outputs))


LINEAR = VAE(_Linear(), _Normal(), StandardNormal(), 2, (2, 2, 1))


def _linear(prior: Prior, classes: int = 0) -> Network:
    """Return a linear network with a prior none of whose parts is at zero."""
    vae = replace(LINEAR, prior=prior, classes=classes)
    rng = np.random.default_rng(8)
    variables = jax.tree.map(
        lambda leaf: jnp.float32(leaf + 0.3 * rng.normal(size=leaf.shape)),
        vae.init(jax.random.key(1)),
    )
    return vae.network(variables)


@pytest.fixture(scope="module")
def plane() -> tuple[np.ndarray, float]:
    """A grid of codes, and the area of a cell."""
    axis = np.linspace(-12, 12, 401)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1), (axis[1] - axis[0]) ** 2


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_a_prior_is_a_density_whose_marginals_and_samples_are_its_own(
    prior: Prior, plane: tuple[np.ndarray, float]
) -> None:
    z, cell = plane
    found: Distribution = _linear(prior).prior
    sample = jax.jit(found.sample, static_argnums=1)
    density = np.exp(np.asarray(jax.jit(found.log_prob)(np.float32(z)), np.float64))
    np.testing.assert_allclose(density.sum() * cell, 1, atol=1e-4)
    margins = np.exp(np.asarray(jax.jit(found.log_marginals)(np.float32(z[:, 0])), np.float64))
    np.testing.assert_allclose(density.sum(axis=1) * cell**0.5, margins[:, 0], atol=1e-4)
    assert jax.eval_shape(found.log_marginals, jnp.zeros((3, 4, 2))).shape == (3, 4, 2)
    assert jax.eval_shape(found.log_prob, jnp.zeros((3, 4, 2))).shape == (3, 4)
    drawn = np.asarray(sample(jax.random.key(5), 40_000, 1.0))
    assert drawn.shape == (40_000, 2)
    mean = (density[..., None] * z).sum(axis=(0, 1)) * cell
    second = np.einsum("ab,abi,abj->ij", density, z, z) * cell
    error = 5 / np.sqrt(len(drawn))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=error * second.max() ** 0.5)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), second, atol=3 * error * second.max())
    cold = np.asarray(sample(jax.random.key(5), 40_000, 1e-6))
    assert len(np.unique(cold.round(3), axis=0)) == getattr(prior, "components", 1)


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_the_kl_from_a_prior_is_the_integral(prior: Prior, plane: tuple[np.ndarray, float]) -> None:
    z, cell = plane
    found = _linear(prior).prior
    mu = np.array([[0.5, -1.0], [2.0, 0.1]], np.float32)
    log_var = np.array([[-1.0, 0.3], [-0.5, -2.0]], np.float32)
    noise = jax.random.normal(jax.random.key(0), (20_000, 2, 2))
    codes = jax.jit(Codes.draw)(jnp.asarray(mu), jnp.asarray(log_var), noise)
    log_prob, log_marginals = jax.jit(found.log_prob), jax.jit(found.log_marginals)
    each, kl, ratios = (
        np.asarray(jax.jit(function)(codes))
        for function in (found.kl_by_dimension, found.kl, found.log_ratio)
    )
    for image in range(2):
        q = stats.norm(mu[image], np.exp(log_var[image] / 2))
        log_q = q.logpdf(z)
        log_p = np.asarray(log_prob(np.float32(z)), np.float64)
        joint = np.exp(log_q.sum(axis=-1))
        expected = (joint * (log_q.sum(axis=-1) - log_p)).sum() * cell
        np.testing.assert_allclose(kl[image], expected, rtol=0.02)
        if prior.standard:
            np.testing.assert_allclose(kl[image], expected, rtol=1e-4)
            np.testing.assert_allclose(each.sum(axis=1)[image], expected, rtol=1e-4)
        log_p = np.asarray(log_marginals(np.float32(z)), np.float64)
        alone = (joint[..., None] * (log_q - log_p)).sum(axis=(0, 1)) * cell
        np.testing.assert_allclose(each[image], alone, rtol=0.03, atol=0.01)
        few = jax.tree.map(np.asarray, codes)
        log_q = q.logpdf(few.z[:50, image]).sum(axis=-1)
        log_p = np.asarray(log_prob(few.z[:50, image]))
        np.testing.assert_allclose(ratios[:50, image], log_p - log_q, rtol=1e-4, atol=1e-4)


def test_the_density_of_a_mixture_is_that_of_scipy() -> None:
    network = _linear(PRIORS[1])
    learned = network.module.prior
    z = np.random.default_rng(0).normal(size=(50, 2), scale=3).astype(np.float32)
    parts = [
        multivariate_normal(mean, np.diag(np.exp(log_var))).logpdf(z)
        for mean, log_var in zip(learned.mu[...], learned.log_var[...], strict=True)
    ]
    log_weights = np.asarray(learned.weights[...]) - special.logsumexp(learned.weights[...])
    expected = special.logsumexp(np.stack(parts) + log_weights[:, None], axis=0)
    np.testing.assert_allclose(network.prior.log_prob(jnp.asarray(z)), expected, rtol=1e-5)


def test_the_gradient_of_a_large_mixture_keeps_no_difference_of_a_code_and_a_component() -> None:
    """A CPU takes one code after another, and computes its differences again."""
    codes, components, code_size = 100, 50, 20

    def total(z: Any, mu: Any, log_var: Any) -> Any:
        return Mixture(jnp.full(components, -np.log(components)), mu, log_var).log_prob(z).sum()

    sizes = (codes, code_size), (components, code_size), (components, code_size)
    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    given = [shaped(size, np.float32) for size in sizes]
    assert footprint.of_program(gradient, *given) < codes * components * code_size
    for platform, loops in (("cpu", 1), ("cuda", 0), ("tpu", 0)):
        text = gradient.trace(*given).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.while(") == loops


@pytest.mark.parametrize(
    ("objective", "prior"),
    [
        (ELBO(), PRIORS[1]),
        (IWAE(), PRIORS[2]),
        *(
            pytest.param(*each, marks=pytest.mark.full)
            for each in ((IWAE(), PRIORS[1]), (ELBO(), PRIORS[2]), (Beta(beta=2.0), PRIORS[2]))
        ),
    ],
    ids=repr,
)
def test_a_prior_learns_with_all_of_it(objective: Objective, prior: Prior) -> None:
    network = _linear(prior)
    x = jax.random.uniform(jax.random.key(2), (5, 2, 2, 1))
    noise = jax.random.normal(jax.random.key(3), (3, 5, 2))

    def loss(variables: Any) -> Any:
        terms = objective.terms(network.vae.network(variables), x, noise, jnp.float32(0))
        return terms[0].sum()

    gradient = jax.jit(jax.grad(loss))(network.variables)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("objective", [ELBO(), IWAE()], ids=repr)
def test_with_a_mixture_an_objective_stays_below_the_likelihood(objective: Objective) -> None:
    network = _linear(PRIORS[1])
    prior: Any = network.prior  # before a function is traced that keeps it
    wide = network.module.encoder.layers[-1]
    wide.kernel[...], wide.bias[...] = 0.1 * wide.kernel[...], jnp.float32([0, 0, 1.5, 1.5])
    x = 0.5 * jax.random.normal(jax.random.key(2), (20, 2, 2, 1))
    noise = jax.random.normal(jax.random.key(3), (3000, 20, 2))
    _, terms = jax.jit(partial(objective.terms, network))(x, noise, jnp.float32(0))
    matrix = np.asarray(network.module.decoder.kernel[...]).T
    bias = np.asarray(network.module.decoder.bias[...])
    parts = [
        multivariate_normal(
            matrix @ mean + bias, matrix @ np.diag(np.exp(log_var)) @ matrix.T + 0.25 * np.eye(4)
        ).logpdf(np.asarray(x).reshape(20, 4))
        for mean, log_var in zip(prior.mu, prior.log_var, strict=True)
    ]
    exact = special.logsumexp(np.stack(parts) + np.asarray(prior.log_weights)[:, None], axis=0)
    assert (-np.asarray(terms["kl"] + terms["nll"]) < exact + 0.05).all()
    if objective.best != "elbo":
        np.testing.assert_allclose(terms[objective.best], exact, atol=0.3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--objective", "iwae", "--set", f"objective.gradient={DOUBLE}", "--set", key), DOUBLE)
        for key in ("model.dropout=0.1", "model.input_noise=0.1", "model.normalization=batch")
    ]
    + [
        (("--prior", "vamp", "--set", "model.normalization=batch"), "vamp"),
        (("--prior", "vamp", "--model", "conv", "--set", "model.normalization=batch"), "vamp"),
    ],
)
def test_parts_that_would_compute_something_else_together_are_refused(
    options: tuple[str, ...], said: str, vaectl: Vaectl
) -> None:
    answer = vaectl("train", *options)
    assert answer.code == 2
    assert said in answer.err


TOGETHER = [
    (model, prior, objective)
    for model in (MLP(hidden_size=6, normalization="batch", dropout=0.2), MLP(hidden_size=6))
    for prior in PRIORS
    for objective in (Beta(warmup_epochs=1.0), IWAE(gradient=DOUBLE), IWAE())
    if not model.averages_batches or (not isinstance(prior, Vamp) and objective == IWAE())
]


@pytest.mark.parametrize(
    ("model", "prior", "objective"),
    [
        each if number % 4 == 0 else pytest.param(*each, marks=pytest.mark.full)
        for number, each in enumerate(TOGETHER)
    ],
    ids=repr,
)
def test_a_step_of_all_parts_together_is_finite_and_changes_all(
    model: Model, prior: Prior, objective: Objective
) -> None:
    vae = VAE(model, Bernoulli(), prior, 3, (4, 4, 1))
    variables = vae.init(jax.random.key(0))
    learned, kept = vae.network(variables).split()
    x = jax.random.uniform(jax.random.key(1), (4, 4, 4, 1))
    noise = jax.random.normal(jax.random.key(2), (3, 4, 3))

    @jax.jit
    def gradient(learned: Any) -> Any:
        def loss(learned: Any) -> Any:
            network = vae.network(learned, kept, training=True)
            return objective.terms(network, x, noise, jnp.float32(1))[0].sum()

        return jax.grad(loss)(learned)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(learned)):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_free_nats_and_a_prior_without_a_sum_over_dimensions_are_refused(vaectl: Vaectl) -> None:
    answer = vaectl(
        "train", "--prior", "vamp", "--objective", "beta", "--set", "objective.free_nats=1"
    )
    assert answer.code == 2
    assert "free_nats" in answer.err
    assert "vamp" in answer.err


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_an_objective_stays_below_the_likelihood_and_comes_near_it(objective: Objective) -> None:
    variables = LINEAR.init(jax.random.key(1))
    network = LINEAR.network(variables)
    x = 0.5 * jax.random.normal(jax.random.key(2), (20, 2, 2, 1))
    samples = 3000
    noise = jax.random.normal(jax.random.key(3), (samples, 20, 2))
    loss, terms = jax.jit(partial(objective.terms, network))(x, noise, jnp.float32(10.0))
    matrix = np.asarray(network.module.decoder.kernel[...]).T
    covariance = matrix @ matrix.T + 0.25 * np.eye(4)
    exact = multivariate_normal(np.zeros(4), covariance).logpdf(np.asarray(x).reshape(20, 4))
    elbo = -np.asarray(terms["kl"] + terms["nll"])
    assert (elbo < exact + 0.05).all()
    if objective.best != "elbo":
        bound = np.asarray(terms[objective.best])
        assert bound.mean() < exact.mean() + 0.05
        np.testing.assert_allclose(bound, exact, atol=0.3)  # of many samples
        assert (bound - elbo).mean() > 0.1
    assert loss.shape == (20,)


def test_what_the_objectives_minimize() -> None:
    variables = LINEAR.init(jax.random.key(1))
    network = LINEAR.network(variables)
    x = jax.random.normal(jax.random.key(2), (7, 2, 2, 1))
    noise = jax.random.normal(jax.random.key(3), (3, 7, 2))
    mu, log_var = (np.asarray(each) for each in network.encode(x))
    by_dimension = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var)
    _, terms = ELBO().terms(network, x, noise, jnp.float32(0.0))
    nll = np.asarray(terms["nll"])
    for objective, epoch, expected in (
        (ELBO(), 0.0, nll + by_dimension.sum(axis=1)),
        (Beta(beta=4.0), 0.0, nll + 4 * by_dimension.sum(axis=1)),
        (Beta(beta=4.0, warmup_epochs=8.0), 2.0, nll + by_dimension.sum(axis=1)),
        (Beta(beta=4.0, warmup_epochs=8.0), 20.0, nll + 4 * by_dimension.sum(axis=1)),
        (Beta(free_nats=0.3), 0.0, nll + np.maximum(by_dimension, 0.3).sum(axis=1)),
    ):
        loss, reported = jax.jit(partial(objective.terms, network))(x, noise, jnp.float32(epoch))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert set(reported) == {"kl", "nll"}
        np.testing.assert_allclose(reported["kl"], by_dimension.sum(axis=1), rtol=1e-5)
        np.testing.assert_allclose(reported["nll"], nll, rtol=1e-5)
    # K = 3 by hand
    z = mu + np.exp(log_var / 2) * np.asarray(noise)
    log_q = -0.5 * (np.asarray(noise) ** 2 + log_var + math.log(2 * math.pi)).sum(axis=-1)
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(axis=-1)
    weights = np.exp(np.asarray(network.log_prob(jnp.asarray(z), x)) + log_p - log_q)
    loss, reported = jax.jit(partial(IWAE().terms, network))(x, noise, jnp.float32(0.0))
    np.testing.assert_allclose(loss, -np.log(weights.mean(axis=0)), rtol=1e-4)
    assert set(reported) == {"iwae", "kl", "nll"}
    np.testing.assert_allclose(reported["iwae"], -loss, rtol=1e-6)
    np.testing.assert_allclose(reported["kl"], by_dimension.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(reported["nll"], nll, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_gradient_of_an_objective_is_that_of_finite_differences(objective: Objective) -> None:
    with jax.enable_x64(True):
        variables = jax.tree.map(np.float64, LINEAR.init(jax.random.key(1)))
        rng = np.random.default_rng(2)
        x, noise = (jnp.asarray(rng.normal(size=size)) for size in ((3, 2, 2, 1), (4, 3, 2)))

        @jax.jit
        def loss(variables: Any) -> Any:
            terms = objective.terms(LINEAR.network(variables), x, noise, jnp.float64(1.0))
            return terms[0].sum()

        gradient = jax.jit(jax.grad(loss))(variables)
        direction = jax.tree.map(
            lambda leaf: np.cos(np.arange(leaf.size)).reshape(leaf.shape), variables
        )

        def moved(by: float) -> Any:
            return jax.tree.map(lambda leaf, d: leaf + by * d, variables, direction)

        ahead, behind = loss(moved(1e-6)), loss(moved(-1e-6))
        along = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
        np.testing.assert_allclose(along, (ahead - behind) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "prior",
    [PRIORS[0], *(pytest.param(prior, marks=pytest.mark.full) for prior in PRIORS[1:])],
    ids=repr,
)
def test_the_doubly_reparameterized_gradient_is_the_same_in_the_mean_and_less_noisy(
    prior: Prior,
) -> None:
    network = _linear(prior)
    x = 0.5 * jax.random.normal(jax.random.key(2), (4, 2, 2, 1))

    def gradients(key: Any, objective: IWAE) -> Any:
        noise = jax.random.normal(key, (32, 4, 2))

        def loss(variables: Any) -> Any:
            losses, terms = objective.terms(
                network.vae.network(variables), x, noise, jnp.float32(0)
            )
            return losses.sum(), (losses, terms["iwae"])

        return jax.grad(loss, has_aux=True)(network.variables)

    ways = [IWAE(), IWAE(gradient="doubly_reparameterized")]
    keys = jax.random.split(jax.random.key(9), 2000)
    plain, double = (
        jax.jit(jax.vmap(lambda key, way=way: gradients(key, way)))(keys) for way in ways
    )
    for losses, bound in (plain[1], double[1]):
        np.testing.assert_allclose(losses, -bound, rtol=1e-4, atol=1e-4)
    one, other = (found[0]["decoder"]["kernel"] for found in (plain, double))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    encoders = [jax.tree.leaves(found[0]["encoder"]) for found in (plain, double)]
    for before, after in zip(*(map(np.asarray, leaves) for leaves in encoders), strict=True):
        error = np.sqrt((before.var(axis=0) + after.var(axis=0)) / len(keys))
        assert (np.abs(before.mean(axis=0) - after.mean(axis=0)) < 5 * error + 1e-4).all()
        if prior.standard:
            assert after.var(axis=0).sum() < 0.8 * before.var(axis=0).sum()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        *((model, (5, 7, 3)) for model in MODELS),
        *(pytest.param(model, (8, 8, 1), marks=pytest.mark.full) for model in MODELS),
    ],
    ids=repr,
)
def test_a_model_has_the_shapes_it_is_asked_for_and_learns_with_all_of_it(
    model: Model, shape: tuple[int, int, int]
) -> None:
    for likelihood in (Bernoulli(), Gaussian(scale="one")):
        vae = VAE(model, likelihood, StandardNormal(), 3, shape)
        x = jax.random.uniform(jax.random.key(1), (4, *shape))
        z = jax.random.normal(jax.random.key(2), (2, 4, 3))

        learned, kept = vae.network(vae.init(jax.random.key(0))).split()

        @jax.jit
        def all_of_it(learned: Any, kept: Any, vae: VAE = vae, x: Any = x, z: Any = z) -> Any:
            def loss(learned: Any) -> Any:
                return ELBO().terms(vae.network(learned, kept), x, z, jnp.float32(0))[0].sum()

            network = vae.network(learned, kept)
            decoded = network.decode(z), network.decode(z[1]), network.mean(z)
            return *network.encode(x), *decoded, jax.grad(loss)(learned)

        mu, log_var, raw, alone, mean, gradient = all_of_it(learned, kept)
        assert mu.shape == log_var.shape == (4, 3)
        assert raw.shape == (2, 4, *shape, likelihood.outputs + likelihood.shared)
        assert mean.shape == (2, 4, *shape)
        np.testing.assert_allclose(raw[1], alone, rtol=1e-4, atol=1e-6)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            assert np.isfinite(leaf).all(), path
            assert np.abs(leaf).max() > 0, path


def _options(plug: Any) -> list[str]:
    settings = plug.model_dump(exclude_defaults=True)
    kind = plug.kind
    pairs = [f"{kind}.{key}={value}" for key, value in settings.items()]
    return [f"--{kind}", plug.name, *(text for pair in pairs for text in ("--set", pair))]


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.name)
def test_a_source_gives_the_same_images_twice_and_a_short_name(
    kind: type[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "My données"
    folder.mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    text = str(kind(rest=SOURCES[kind](folder)))
    found, again = (data.published(text) for _ in range(2))
    assert found.fingerprint() == again.fingerprint()
    for part in (found.train, found.test):
        assert part.images.dtype == np.uint8
        assert part.images.shape[1:] in (part.image_shape, part.image_shape[:2])
        assert part.image_shape[2] in (1, 3)
        assert part.labels is None or part.labels.shape == (len(part.images),)
        assert part.labels is None or part.labels.dtype == np.int32
    settings = config.Data(source=text, binarization="none")
    dataset = data.load(settings)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.images.shape == (len(split.images), *dataset.image_shape)
    assert re.fullmatch(r"[A-Za-z0-9-]{1,40}", settings.plug.short_name)
    assert settings.plug == parse(settings.source)
    assert kind.form() in {entry.source for entry in kind.entries()}


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.name)
def test_a_source_refuses_what_it_cannot_be_and_what_is_not_there(
    kind: type[Source], tmp_path: Path, vaectl: Vaectl
) -> None:
    wrong = [":", ":a\nb", ":a\0b", *(["", f":{tmp_path}/gone"] if kind.placeholder else [":x"])]
    for rest in wrong:
        with pytest.raises(DataError) as error:
            data.published(f"{kind.name}{rest}")
        assert error.value.exit_code == 3
        assert kind.name in error.value.message or "gone" in error.value.message
        assert error.value.hint
    assert vaectl("data", "prepare", f"{kind.name}:").code == 3
    answer = vaectl("train", "--set", f"data.source='{kind.name}:'")
    assert answer.code == 2
    assert f"data.source: {kind.name}:" in answer.err


@pytest.mark.parametrize(
    ("text", "meant"),
    [("digit", "digits-5k"), ("image:x", "images:DIR"), ("mnits", "tfds:mnist"), ("q", "")],
)
def test_an_unknown_source_is_answered_with_the_nearest_and_the_list(
    text: str, meant: str, vaectl: Vaectl
) -> None:
    forms = ", ".join(source.form() for source in SOURCES)
    for code, command in (
        (3, ("data", "prepare", text)),
        (2, ("train", "--set", f"data.source={text}")),
        (2, ("compare-optimizers", "--set", f"data.source={text}")),
    ):
        answer = vaectl(*command)
        assert answer.code == code
        assert f"{text}: no such data source; there are {forms}" in answer.err
        assert f"did you mean {meant}?" in answer.err if meant else "did you" not in answer.err


def _train_resume_and_look(vaectl: Vaectl, options: list[str]) -> None:
    """Train by the command line, resume bit for bit, and look at the run."""
    small = [
        "--epochs", "3", "--code-size", "2", "--batch-size", "50",
        "--set", "data.train_size=150", "--set", "data.validation_size=30",
        "--set", "data.test_size=20", "--set", "checkpoint.every=1", "--set", "objective.samples=2",
    ]  # fmt: skip
    answer = vaectl("train", *small, *options, "--name", "whole", "-q")
    assert answer.code == 0, answer.err
    cut_off(Path("runs/whole"), Path("runs/cut"), epoch=2)
    for command in (
        ("train", "--resume", "cut", "-q"),
        ("sample", "whole", "--save-arrays", "samples.npz"),
        ("morph", "whole", "--rows", "2"),
        ("reconstruct", "whole", "--count", "5"),
        ("evaluate", "whole", "--importance-samples", "8", "-q", "--json"),
    ):
        answer = vaectl(*command)
        assert answer.code == 0, answer.err
    assert_equal_runs(Path("runs/whole"), Path("runs/cut"))


OPTIMIZERS = [plug() for plug in Optimizer.known.values() if plug.name != OptimizerChoice.default]
PLUGS: list[Any] = [*LIKELIHOODS, *OBJECTIVES[1:], *PRIORS[1:], *MODELS[1:], *OPTIMIZERS]


@pytest.mark.full  # the suite does so with RGB images, and with the plug of the examples
@pytest.mark.parametrize("plug", PLUGS, ids=repr)
def test_a_run_with_it_trains_resumes_bit_for_bit_and_is_looked_at(
    plug: Any, vaectl: Vaectl
) -> None:
    more = [] if plug.kind == "model" else ["--hidden-size", "8"]
    if plug.kind == "likelihood" and not plug.binary:
        more += ["--set", "data.binarization=none"]
    _train_resume_and_look(vaectl, [*more, *_options(plug)])
    settings = config.Config.model_validate({plug.kind: {"name": plug.name}})
    assert getattr(settings, plug.kind).chosen == type(plug)()


def _results(epoch: int, elbo: float) -> Results:
    """Of ten steps an epoch, with pictures."""
    terms = {"elbo": elbo, "kl": 1.0, "nll": -elbo - 1}
    rows = [Row(epoch, 10 * epoch, "train", terms, 0.5)]
    rows += [Row(epoch, 10 * epoch, "validation", terms, 0.1)]
    images = np.linspace(-0.1, 1.1, 3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4, 1)
    samples = np.zeros((len(BITS), 5, 4, 1), np.float32)
    samples[(int(-2 * elbo) & BITS) > 0] = 1.1
    pictures = Pictures(samples, images, images, np.zeros((2, 2, 5, 4, 1), np.float32))
    return Results(epoch, 10 * epoch, 1e9 + epoch, rows, pictures)


def _follow(sink: Sink, run: Path, elbos: Sequence[float], *, after: int = 0) -> None:
    """Give a sink the epochs after those that were before."""
    log = sink.open(Training("a", run, config.Config(), 10 * after, 1e9))
    for epoch, elbo in enumerate(elbos, after + 1):
        log.write(_results(epoch, elbo))
    log.close("finished")


KILLED = """
import os, signal, sys
from pathlib import Path
from tests import test_contracts as contracts
sink = [*contracts.SINKS][int(sys.argv[1])]
log = sink.open(contracts.Training("a", Path(sys.argv[2]), contracts.config.Config(), 0, 1e9))
for epoch in range(1, int(sys.argv[3]) + 1):
    log.write(contracts._results(epoch, -float(epoch)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "epochs", [*(pytest.param(epochs, marks=pytest.mark.full) for epochs in (0, 1)), 2]
)
@pytest.mark.usefixtures("trackers")
@pytest.mark.parametrize("sink", SINK_ROWS)
def test_what_a_sink_has_written_outlasts_a_kill_and_is_gone_on_with(
    sink: Sink, epochs: int, tmp_path: Path
) -> None:
    arguments = (str([*SINKS].index(sink)), str(tmp_path), str(epochs))
    process = apart.run("-c", KILLED, *arguments)
    assert process.returncode == -signal.SIGKILL
    read = SINKS[sink]
    assert read(tmp_path) == {10 * epoch: -epoch for epoch in range(1, epochs + 1)}
    _follow(sink, tmp_path, [-7.0, -8.0], after=epochs)
    assert [*read(tmp_path).values()] == [*(-e for e in range(1, epochs + 1)), -7, -8]


@pytest.mark.usefixtures("trackers")
@pytest.mark.parametrize("sink", SINK_ROWS)
def test_what_a_sink_holds_of_later_steps_is_void_when_a_training_goes_on(
    sink: Sink, tmp_path: Path
) -> None:
    _follow(sink, tmp_path, [-5.0, -4.0, -3.0, -2.0])
    _follow(sink, tmp_path, [-3.5, -2.5], after=2)
    assert SINKS[sink](tmp_path) == {10: -5, 20: -4, 30: -3.5, 40: -2.5}
    _follow(sink, tmp_path, [-9.0])
    assert SINKS[sink](tmp_path) == {10: -9}


@pytest.mark.usefixtures("trackers")
@pytest.mark.parametrize("sink", SINK_ROWS)
def test_a_sink_that_follows_the_same_once_more_leaves_the_same_files(
    sink: Sink, tmp_path: Path
) -> None:
    contents = []
    for _ in range(2):
        _follow(sink, tmp_path, [-5.0, -4.0])
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        contents.append([(file, file.read_bytes()) for file in files])
    assert contents[0] == contents[1]


COLOURS = {
    "gaussian": ("--likelihood", "gaussian", "--set", "data.binarization=none"),
    "bernoulli": ("--set", "data.binarization=none"),
    "binary": (),
    "stochastic": ("--set", "data.binarization=stochastic", "--model", "conv"),
}


@pytest.mark.parametrize(
    "how", [h if h == "gaussian" else pytest.param(h, marks=pytest.mark.full) for h in COLOURS]
)
def test_a_source_of_rgb_images_trains_resumes_and_is_looked_at_in_colour(
    how: str, vaectl: Vaectl, tmp_path: Path
) -> None:
    (tmp_path / "discs").mkdir()
    source = ImageFolder(rest=_discs(tmp_path / "discs"))
    _train_resume_and_look(vaectl, ["--set", f"data.source={source}", *COLOURS[how]])
    assert json.loads(Path("runs/whole/run.json").read_text())["data"]["image_shape"] == [16, 16, 3]
    with np.load("samples.npz") as arrays:
        assert arrays["images"].shape == (100, 16, 16, 3)
    for command in (("manifold", "whole", "--grid", "3"), ("inspect", "whole")):
        assert vaectl(*command).code == 0
    for name in ("sample", "morph", "manifold", "reconstruct"):
        red, green, blue = np.asarray(Image.open(f"runs/whole/figures/{name}.png").convert("RGB")).T
        assert (red != green).any() or (green != blue).any(), name


def test_a_source_of_a_file_is_recorded_and_asked_for(vaectl: Vaectl) -> None:
    file = Path(__file__).parent.parent / "configs" / "examples" / "discs.py"
    plugin = ("--plugin", file)
    try:
        settings = ("--set", "data.source=discs:300", "--epochs", "1", "--hidden-size", "4")
        assert vaectl("train", *settings, "--name", "whole", "-q", *plugin).code == 0
        assert vaectl("sample", "whole", *plugin).code == 0
        (plug,) = json.loads(Path("runs/whole/run.json").read_text())["plugs"]
        assert plug == {
            "kind": "source",
            "name": "discs",
            "source": str(file),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        assert "discs:COUNT" in vaectl("data", "list", *plugin).out
        assert "16x16 pixels, 3 channels" in vaectl("data", "prepare", "discs:20", *plugin).out
        assert vaectl("data", "prepare", "discs:many", *plugin).code == 3
        assert "discs" in json.dumps(reading.json_schema()["$defs"]["Data"]["properties"]["source"])
    finally:
        Source.known.pop("discs", None)
        plugins._files.clear()
    for command in (("sample", "whole"), ("train", "--resume", "whole", "--epochs", "4")):
        answer = vaectl(*command)
        assert answer.code == 4
        assert "the source discs" in answer.err
        assert "--plugin" in answer.err
    assert vaectl("train", "--set", "data.source=discs:300").code == 2


def test_a_source_of_an_installed_package_is_found(
    vaectl: Vaectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site"
    (package / "noise-1.0.dist-info").mkdir(parents=True)
    (package / "noise-1.0.dist-info" / "METADATA").write_text("Name: noise\nVersion: 1.0\n")
    (package / "noise-1.0.dist-info" / "entry_points.txt").write_text(
        "[vaectl.sources]\nnoise = noise_source:Noise\n"
    )
    (package / "noise_source.py").write_text(
        "import numpy as np\n"
        "from vaectl.data.arrays import Images, divide\n"
        "from vaectl.data.sources.base import Source\n"
        "class Noise(Source, name='noise'):\n"
        "    def load(self, *, progress=False):\n"
        "        images = np.random.default_rng(0).uniform(size=(50, 4, 4)).astype('f4')\n"
        "        return divide('noise', Images(images, None))\n"
    )
    monkeypatch.syspath_prepend(package)
    plugins.load_installed.cache_clear()
    try:
        settings = ("--set", "data.source=noise", "--hidden-size", "4")
        assert vaectl("train", *settings, "--epochs", "1", "-q").code == 0
        (run,) = Path("runs").iterdir()
        assert run.name == "noise-z20-adam-s0"
        (plug,) = json.loads((run / "run.json").read_text())["plugs"]
        content = (package / "noise_source.py").read_bytes()
        assert plug["sha256"] == hashlib.sha256(content).hexdigest()
        assert "noise" in vaectl("data", "list").out
    finally:
        Source.known.pop("noise", None)
        plugins.load_installed.cache_clear()
