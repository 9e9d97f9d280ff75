"""What every plug must do, whichever it is. A new plug joins by a row in its kind's table."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special
from scipy.stats import multivariate_normal

from tests.conftest import Vaectl, assert_equal_runs
from vaectl import config
from vaectl.cli.plugs import names
from vaectl.likelihoods.base import Likelihood
from vaectl.likelihoods.bernoulli import Bernoulli
from vaectl.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaectl.likelihoods.gaussian import Gaussian
from vaectl.models.base import Model
from vaectl.models.conv import Conv
from vaectl.models.mlp import MLP
from vaectl.objectives.base import Objective
from vaectl.objectives.beta import Beta
from vaectl.objectives.elbo import ELBO
from vaectl.objectives.iwae import IWAE
from vaectl.optimizers.adagrad import AdaGrad
from vaectl.optimizers.adam import Adam
from vaectl.optimizers.adamw import AdamW
from vaectl.optimizers.base import Optimizer
from vaectl.optimizers.lion import Lion
from vaectl.optimizers.muon import Muon
from vaectl.optimizers.rmsprop import RMSProp
from vaectl.optimizers.sgd import SGD
from vaectl.vae.networks import AutoEncoder
from vaectl.vae.vae import VAE

LIKELIHOODS: list[Likelihood] = [
    Bernoulli(),
    ContinuousBernoulli(),
    Gaussian(scale="pixel"),
    Gaussian(scale="one", fixed_scale=0.3),
    Gaussian(scale="fixed", fixed_scale=0.2),
]
OBJECTIVES: list[Objective] = [
    ELBO(),
    Beta(beta=4.0),
    Beta(beta=0.5, warmup_epochs=3.0, free_nats=0.2),
    IWAE(),
]
MODELS: list[Model] = [
    MLP(hidden_size=6),
    MLP(hidden_size=6, hidden_layers=3, activation="relu", weight_init="lecun_uniform"),
    Conv(channels=3, kernel_size=4),
]
OPTIMIZERS: list[Optimizer] = [
    Adam(),
    AdamW(),
    RMSProp(),
    AdaGrad(),
    SGD(),
    Lion(),
    Muon(),
]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [(Likelihood, LIKELIHOODS), (Objective, OBJECTIVES), (Model, MODELS), (Optimizer, OPTIMIZERS)],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_plug_has_a_row(kind: Any, rows: list[Any]) -> None:
    assert {type(row) for row in rows} == set(kind.known.values())


@pytest.mark.parametrize("kind", [Likelihood, Objective, Model, Optimizer])
def test_the_help_names_the_built_in_plugs(kind: Any) -> None:
    assert names(kind.kind) == sorted(kind.known)


def _raw(likelihood: Likelihood, logits: np.ndarray) -> jax.Array:
    """Numbers for images of one pixel: each logit, and for a scale another one."""
    numbers = likelihood.outputs + likelihood.shared
    columns = [logits, *[0.5 * np.cos(logits)] * (numbers - 1)]
    return jnp.asarray(np.stack(columns, -1), jnp.float32).reshape(-1, 1, 1, 1, numbers)


LOGITS = np.array([-20.0, -3.0, -0.1, -0.049, 0.0, 1e-3, 0.04, 0.3, 2.0, 15.0])


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_a_likelihood_sums_to_one_and_its_mean_is_the_mean(likelihood: Likelihood) -> None:
    raw = _raw(likelihood, LOGITS)
    if likelihood.binary:
        x, weights = np.array([0.0, 1.0]), np.ones(2)
    else:  # beyond [0, 1], where the density may go
        edge = 0.0 if likelihood.name == "continuous_bernoulli" else 4.0
        nodes, gauss = np.polynomial.legendre.leggauss(400)
        x = 0.5 + (0.5 + edge) * nodes
        weights = (0.5 + edge) * gauss
    images = jnp.asarray(x, jnp.float32).reshape(-1, 1, 1, 1, 1)
    # [x, raw]: every value under every distribution
    log_prob = np.asarray(likelihood.log_prob(raw[None], images), np.float64)
    density = np.exp(log_prob) * weights[:, None]
    np.testing.assert_allclose(density.sum(axis=0), 1, rtol=2e-4)
    mean = np.asarray(likelihood.mean(raw)).ravel()
    np.testing.assert_allclose(mean, (x[:, None] * density).sum(axis=0), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_a_likelihood_draws_what_it_says(likelihood: Likelihood) -> None:
    raw = _raw(likelihood, LOGITS)
    count = 10_000
    many = jnp.broadcast_to(raw, (count, *raw.shape))
    drawn = np.asarray(likelihood.sample(many, jax.random.key(0)), np.float64).reshape(count, -1)
    error = 5 * drawn.std(axis=0) / math.sqrt(count) + 1e-6
    assert (abs(drawn.mean(axis=0) - np.asarray(likelihood.mean(raw)).ravel()) < error).all()
    if likelihood.binary:
        assert set(np.unique(drawn)) <= {0.0, 1.0}
        return
    # the probability of what was drawn, by the density: it is uniform
    entropy = -np.asarray(
        likelihood.log_prob(raw[None], jnp.asarray(drawn, jnp.float32).reshape(count, -1, 1, 1, 1))
    ).mean(axis=0)
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
        gradient = jax.grad(lambda raw: likelihood.log_prob(raw, target).sum())(wide)
        for column in range(raw.shape[-1]):
            step = jnp.zeros(wide.shape).at[..., column].set(1e-5)
            above, below = (likelihood.log_prob(wide + s * step, target) for s in (1, -1))
            slope = (above - below) / 2e-5
            own = gradient[..., column].ravel()
            if column < likelihood.outputs or likelihood.name == "gaussian":
                np.testing.assert_allclose(own, slope, rtol=1e-3, atol=1e-5)


def test_a_continuous_bernoulli_is_exact_where_series_stand_in_for_quotients() -> None:
    """In float64, whose quotients are exact enough to tell."""
    positive = np.array([1e-3, 0.02, 0.04, 0.0499, 0.0501, 0.3, 5.0])
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


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_pixels_are_independent(likelihood: Likelihood) -> None:
    """log p of an image is the sum over its pixels, and a batch has one value for each image."""
    numbers = likelihood.outputs + likelihood.shared
    rng = np.random.default_rng(0)
    raw = jnp.float32(rng.normal(size=(3, 2, 4, 5, 2, numbers)))
    x = jnp.float32(rng.integers(0, 2, size=(2, 4, 5, 2)))
    together = likelihood.log_prob(raw, x)
    assert together.shape == (3, 2)
    alone = likelihood.log_prob(
        raw.reshape(3, 80, 1, 1, 1, numbers), x.reshape(80, 1, 1, 1)
    ).reshape(3, 2, 40)
    np.testing.assert_allclose(together, alone.sum(axis=-1), rtol=1e-5)
    assert likelihood.mean(raw).shape == (3, 2, 4, 5, 2)
    drawn = likelihood.sample(raw, jax.random.key(0))
    assert (drawn.shape, drawn.dtype) == ((3, 2, 4, 5, 2), jnp.float32)
    # each by a draw of its own
    same = likelihood.sample(jnp.zeros((1, 9, 9, 1, numbers)), jax.random.key(0))
    assert len(np.unique(same)) == (2 if likelihood.binary else 81)
    assert (same != likelihood.sample(jnp.zeros((1, 9, 9, 1, numbers)), jax.random.key(1))).any()


class _Normal(Likelihood):
    """N(raw, 0.5^2): with linear networks, p(x) is known. No plug: it has no name."""

    def log_prob(self, raw: Any, x: Any) -> Any:
        each = -0.5 * ((x - raw[..., 0]) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
        return each.sum(axis=(-3, -2, -1))

    def mean(self, raw: Any) -> Any:
        return raw[..., 0]


class _Linear(Model):
    """One matrix up, one down."""

    def build(self, image_shape: Any, code_size: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        pixels = math.prod(image_shape)
        up = nnx.Linear(pixels, 2 * code_size, rngs=rngs)
        down = nnx.Linear(code_size, pixels * outputs, rngs=rngs)
        encoder = nnx.Sequential(lambda x: 0.3 * x.reshape(len(x), -1), up)
        return AutoEncoder(encoder, down, (*image_shape, outputs))


LINEAR = VAE(_Linear(), _Normal(), 2, (2, 2, 1))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_an_objective_stays_below_the_likelihood_and_comes_near_it(objective: Objective) -> None:
    variables = LINEAR.init(jax.random.key(1))
    network = LINEAR.network(variables)
    x = 0.5 * jax.random.normal(jax.random.key(2), (20, 2, 2, 1))
    samples = 3000
    noise = jax.random.normal(jax.random.key(3), (samples, 20, 2))
    loss, terms = objective.terms(network, x, noise, jnp.float32(10.0))
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
        loss, reported = objective.terms(network, x, noise, jnp.float32(epoch))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert set(reported) == {"kl", "nll"}
        np.testing.assert_allclose(reported["kl"], by_dimension.sum(axis=1), rtol=1e-5)
        np.testing.assert_allclose(reported["nll"], nll, rtol=1e-5)
    # K = 3 by hand
    z = mu + np.exp(log_var / 2) * np.asarray(noise)
    log_q = -0.5 * (np.asarray(noise) ** 2 + log_var + math.log(2 * math.pi)).sum(axis=-1)
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(axis=-1)
    weights = np.exp(np.asarray(network.log_prob(jnp.asarray(z), x)) + log_p - log_q)
    loss, reported = IWAE().terms(network, x, noise, jnp.float32(0.0))
    np.testing.assert_allclose(loss, -np.log(weights.mean(axis=0)), rtol=1e-4)
    assert set(reported) == {"iwae", "kl", "nll"}
    np.testing.assert_allclose(reported["iwae"], -loss, rtol=1e-6)
    np.testing.assert_allclose(reported["kl"], by_dimension.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(reported["nll"], nll, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_gradient_of_an_objective_is_that_of_finite_differences(objective: Objective) -> None:
    with jax.enable_x64(True):
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), LINEAR.init(jax.random.key(1))
        )
        x = jax.random.normal(jax.random.key(2), (3, 2, 2, 1), jnp.float64)
        noise = jax.random.normal(jax.random.key(3), (4, 3, 2), jnp.float64)

        def loss(variables: Any) -> Any:
            terms = objective.terms(LINEAR.network(variables), x, noise, jnp.float64(1.0))
            return terms[0].sum()

        gradient = jax.grad(loss)(variables)
        direction = jax.tree.map(
            lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), variables
        )

        def moved(by: float) -> Any:
            return jax.tree.map(lambda leaf, d: leaf + by * d, variables, direction)

        ahead, behind = loss(moved(1e-6)), loss(moved(-1e-6))
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
        np.testing.assert_allclose(along, (ahead - behind) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3)])
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_model_has_the_shapes_it_is_asked_for_and_learns_with_all_of_it(
    model: Model, shape: tuple[int, int, int]
) -> None:
    for likelihood in (Bernoulli(), Gaussian(scale="one")):
        vae = VAE(model, likelihood, 3, shape)
        variables = vae.init(jax.random.key(0))
        network = vae.network(variables)
        x = jax.random.uniform(jax.random.key(1), (4, *shape))
        mu, log_var = network.encode(x)
        assert mu.shape == log_var.shape == (4, 3)
        z = jax.random.normal(jax.random.key(2), (2, 4, 3))
        assert network.decode(z).shape == (2, 4, *shape, likelihood.outputs + likelihood.shared)
        assert network.mean(z).shape == (2, 4, *shape)
        alone = network.decode(z[1])
        np.testing.assert_allclose(network.decode(z)[1], alone, rtol=1e-4, atol=1e-6)

        def loss(variables: Any, vae: VAE = vae, x: Any = x, z: Any = z) -> Any:
            return ELBO().terms(vae.network(variables), x, z, jnp.float32(0))[0].sum()

        gradient = jax.grad(loss)(variables)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            assert np.isfinite(leaf).all(), path
            assert np.abs(leaf).max() > 0, path


def _options(plug: Any) -> list[str]:
    settings = plug.model_dump(exclude_defaults=True)
    kind = plug.kind
    pairs = [f"{kind}.{key}={value}" for key, value in settings.items()]
    return [f"--{kind}", plug.name, *(text for pair in pairs for text in ("--set", pair))]


PLUGS: list[Any] = [*LIKELIHOODS, *OBJECTIVES[1:], *MODELS[1:], *OPTIMIZERS[1:]]
OFTEN = (MODELS[2], OPTIMIZERS[6])
"""In the suite; the others behind the marker."""


@pytest.mark.parametrize(
    "plug",
    [p if p in OFTEN else pytest.param(p, marks=pytest.mark.full) for p in PLUGS],
    ids=repr,
)
def test_a_run_with_it_trains_resumes_bit_for_bit_and_is_looked_at(
    plug: Any, vaectl: Vaectl
) -> None:
    small = [
        "--epochs", "3", "--code-size", "2", "--batch-size", "50",
        "--set", "data.train_size=150", "--set", "data.validation_size=50",
        "--set", "data.test_size=20", "--set", "checkpoint.every=1", "--set", "objective.samples=2",
    ]  # fmt: skip
    if plug.kind != "model":
        small += ["--hidden-size", "8"]
    if plug.kind == "likelihood" and not plug.binary:
        small += ["--set", "data.binarization=none"]
    for name, epochs in (("whole", "3"), ("cut", "2")):
        answer = vaectl("train", *small, "--epochs", epochs, *_options(plug), "--name", name, "-q")
        assert answer.code == 0, answer.err
    assert vaectl("train", "--resume", "cut", "--epochs", "3", "-q").code == 0
    assert_equal_runs(Path("runs/whole"), Path("runs/cut"))
    for command in (
        ("sample", "whole"),
        ("morph", "whole", "--rows", "2"),
        ("reconstruct", "whole", "--count", "5"),
    ):
        answer = vaectl(*command)
        assert answer.code == 0, answer.err
    answer = vaectl("evaluate", "whole", "--importance-samples", "8", "-q", "--json")
    assert answer.code == 0, answer.err
    settings = config.Config.model_validate({plug.kind: {"name": plug.name}})
    assert getattr(settings, plug.kind).chosen == type(plug)()
