from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jaxtyping import Array
from scipy import integrate, special, stats

from tests.conftest import mlp
from vaectl.base.errors import ConfigError
from vaectl.likelihoods.bernoulli import Bernoulli, softplus
from vaectl.objectives.base import check_terms, label, with_elbo
from vaectl.objectives.elbo import ELBO
from vaectl.objectives.iwae import IWAE
from vaectl.priors.standard_normal import Normal
from vaectl.runs.belongings import VIEWS
from vaectl.vae.posterior import Codes
from vaectl.vae.vae import VAE, Network, Variables

pytestmark = pytest.mark.usefixtures("strict_types")


@jax.jit
def _log_likelihood(logits: Array, x: Array) -> Array:
    """Of images of one row, whose pixels stand last."""
    return Bernoulli().log_prob(logits[..., None, :, None, None], x[..., None, :, None])


def _terms(network: Network, x: Array, noise: Array) -> dict[str, Array]:
    """The loss and the terms of the bound, by name."""
    loss, terms = jax.jit(partial(ELBO().terms, network))(x, noise, jnp.float32(0))
    return {"loss": loss, **terms}


def _kl(mu: Array, log_var: Array) -> Array:
    codes = Codes.draw(mu, log_var, jnp.zeros((1, *mu.shape)))
    return Normal(mu.shape[-1]).kl(codes)


@pytest.mark.parametrize("mu", [-2.0, 0.0, 0.7])
@pytest.mark.parametrize("log_var", [-4.0, 0.0, 1.5])
def test_kl_is_the_integral_of_q_log_q_over_p(mu: float, log_var: float) -> None:
    q, p = stats.norm(mu, np.exp(log_var / 2)), stats.norm()
    integral, _ = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -30, 30, limit=200
    )
    kl = _kl(jnp.array([mu]), jnp.array([log_var]))
    np.testing.assert_allclose(kl, integral, rtol=1e-5, atol=1e-7)


def test_kl_is_the_cross_entropy_minus_the_entropy_of_scipy(rng: np.random.Generator) -> None:
    mu, log_var = rng.normal(size=(2, 7, 5))
    entropy = stats.norm(mu, np.exp(log_var / 2)).entropy().sum(axis=1)
    # E_q[-log N(z; 0, 1)] = log(2 pi) / 2 + (mu^2 + sigma^2) / 2
    cross = (0.5 * np.log(2 * np.pi) + 0.5 * (mu**2 + np.exp(log_var))).sum(axis=1)
    kl = _kl(jnp.float32(mu), jnp.float32(log_var))
    np.testing.assert_allclose(kl, cross - entropy, rtol=1e-5)


def test_kl_does_not_cancel_near_the_prior() -> None:
    log_var = jnp.array([1e-4])
    np.testing.assert_allclose(_kl(jnp.zeros(1), log_var), 2.5e-9, rtol=2e-2)


@pytest.mark.parametrize("scale", [0.1, 10.0, 100.0, 1e4])
def test_log_likelihood_matches_numpy_at_extreme_logits(
    scale: float, rng: np.random.Generator
) -> None:
    logits = (scale * rng.normal(size=(4, 30))).astype(np.float32)
    x = rng.integers(0, 2, size=(4, 30)).astype(np.float32)
    wide = logits.astype(np.float64)
    expected = (-x * np.logaddexp(0, -wide) - (1 - x) * np.logaddexp(0, wide)).sum(axis=1)
    value = _log_likelihood(jnp.asarray(logits), jnp.asarray(x))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_log_likelihood_matches_scipy_bernoulli(rng: np.random.Generator) -> None:
    logits, x = rng.normal(size=(3, 9)), rng.integers(0, 2, size=(3, 9))
    expected = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum(axis=1)
    value = _log_likelihood(jnp.float32(logits), jnp.float32(x))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_gradients_of_log_likelihood_stay_finite_where_probabilities_round() -> None:
    logits = jnp.array([-200.0, 200.0, -200.0, 200.0])
    x = jnp.array([0.0, 1.0, 1.0, 0.0])
    gradient = jax.jit(jax.grad(_log_likelihood))(logits, x)
    np.testing.assert_allclose(gradient, [0.0, 0.0, 1.0, -1.0], atol=1e-30)


def _tiny() -> tuple[VAE, Variables]:
    vae = mlp((1, 5, 1), code_size=2, hidden_size=3)
    return vae, vae.init(jax.random.key(0))


def test_gradient_of_the_elbo_matches_finite_differences(rng: np.random.Generator) -> None:
    vae, variables = _tiny()
    with jax.enable_x64(True):
        wide = jax.tree.map(np.float64, variables)
        x = jnp.asarray(rng.integers(0, 2, size=(4, 1, 5, 1)), jnp.float64)
        noise = jnp.asarray(rng.normal(size=(2, 4, 2)))

        @jax.jit
        def negative_elbo(variables: Variables) -> Array:
            return jnp.mean(_terms(vae.network(variables), x, noise)["loss"])

        check_grads(  # type: ignore[no-untyped-call]
            negative_elbo, (wide,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6
        )


def test_more_samples_average_the_log_likelihood(rng: np.random.Generator) -> None:
    vae, variables = _tiny()
    network = vae.network(variables)
    x = jnp.float32(rng.integers(0, 2, size=(4, 1, 5, 1)))
    noise = jnp.float32(rng.normal(size=(3, 4, 2)))
    together = _terms(network, x, noise)
    alone = [_terms(network, x, noise[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(
        together["nll"], np.mean([b["nll"] for b in alone], axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(together["kl"], alone[0]["kl"])
    np.testing.assert_allclose(together["loss"], together["kl"] + together["nll"])


def test_the_elbo_is_minus_the_sum_of_kl_and_nll() -> None:
    assert with_elbo({"kl": 20.0, "nll": 60.5}) == {"elbo": -80.5, "kl": 20.0, "nll": 60.5}


def test_terms_without_both_parts_have_no_elbo_and_an_old_one_is_not_kept() -> None:
    for terms in ({"iwae": -80.0}, {"kl": 20.0}, {"nll": 60.0, "iwae": -80.0}, {}):
        assert with_elbo(terms) == terms
    assert with_elbo({"kl": 20.0, "nll": 60.5, "elbo": 0.0, "iwae": -80.0}) == {
        "elbo": -80.5, "kl": 20.0, "nll": 60.5, "iwae": -80.0,
    }  # fmt: skip
    assert [*with_elbo({"kl": 20.0, "nll": 60.5})] == ["elbo", "kl", "nll"]


def test_names_of_terms_and_estimators_are_written_for_people() -> None:
    written = [label(name) for name in ("kl", "elbo", "other", "gradient_norm")]
    assert written == ["KL", "ELBO", "other", "gradient norm"]
    assert ELBO().estimator(1) == "ELBO, 1 sample"
    assert ELBO().estimator(2) == "ELBO, 2 samples"
    assert IWAE().estimator(1) == "IWAE bound, K = 1; ELBO, 1 sample"
    assert IWAE().estimator(2) == "IWAE bound, K = 2; ELBO, 2 samples"
    assert IWAE().estimator(50) == "IWAE bound, K = 50; ELBO, 50 samples"


class TestImportanceWeights:
    """The estimator on a linear Gaussian model, where log p(x) is known."""

    SIZE, NOISE = 3, 0.5

    def _model(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Orthogonal columns, so that the exact posterior is diagonal."""
        directions, _ = np.linalg.qr(rng.normal(size=(6, self.SIZE)))
        return directions * [2.0, 1.0, 0.5], rng.normal(size=(4, 6))

    def _log_weights(
        self, w: np.ndarray, x: np.ndarray, mu: np.ndarray, variance: np.ndarray, samples: int
    ) -> np.ndarray:
        noise = jax.random.normal(jax.random.key(1), (samples, 4, self.SIZE))
        log_var = jnp.float32(np.broadcast_to(np.log(variance), mu.shape))
        codes = Codes.draw(jnp.float32(mu), log_var, noise)
        squares = jnp.sum(jnp.square(jnp.float32(x) - codes.z @ jnp.float32(w.T)), axis=-1)
        constant = 3 * np.log(2 * np.pi * self.NOISE**2)
        log_likelihood = -squares / (2 * self.NOISE**2) - constant
        weights = log_likelihood + Normal(self.SIZE).log_ratio(codes)
        return np.asarray(weights, np.float64)

    def _exact(self, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        covariance = w @ w.T + self.NOISE**2 * np.eye(6)
        exact: np.ndarray = stats.multivariate_normal(np.zeros(6), covariance).logpdf(x)
        return exact

    def test_under_the_exact_posterior_every_weight_is_the_likelihood(
        self, rng: np.random.Generator
    ) -> None:
        w, x = self._model(rng)
        precision = 1 + np.sum(w**2, axis=0) / self.NOISE**2
        mu = x @ w / self.NOISE**2 / precision
        log_weights = self._log_weights(w, x, mu, 1 / precision, samples=5)
        np.testing.assert_allclose(
            log_weights, np.broadcast_to(self._exact(w, x), (5, 4)), rtol=1e-4
        )

    def test_under_another_posterior_their_mean_is_the_likelihood(
        self, rng: np.random.Generator
    ) -> None:
        w, x = self._model(rng)
        precision = 1 + np.sum(w**2, axis=0) / self.NOISE**2
        mu = x @ w / self.NOISE**2 / precision + 0.1
        # wider than the exact posterior, so that the weights have a variance
        log_weights = self._log_weights(w, x, mu, 1.5 / precision, samples=100_000)
        exact = self._exact(w, x)
        relative = np.exp(log_weights - exact)
        error = relative.std(axis=0) / np.sqrt(len(relative))
        assert (error < 0.01).all()
        np.testing.assert_array_less(np.abs(relative.mean(axis=0) - 1), 4 * error)
        assert (log_weights.mean(axis=0) < exact - 0.05).all()  # while the ELBO stays below


def test_softplus_and_its_slope_are_exact_to_rounding() -> None:
    logits = np.linspace(-110, 110, 2001)
    x = jnp.asarray(logits, jnp.float32)
    # float32 has no numbers between 0 and 1e-38
    np.testing.assert_allclose(softplus()(x), np.logaddexp(0, logits), rtol=1e-5, atol=2e-38)
    np.testing.assert_allclose(softplus()(x), jax.nn.softplus(x), rtol=1e-6, atol=2e-38)
    slope = jax.vmap(jax.grad(softplus()))
    np.testing.assert_allclose(slope(x), special.expit(logits), atol=2e-7)
    np.testing.assert_array_equal(slope(jnp.asarray([-1e38, 1e38])), [0, 1])


def test_the_bound_and_its_gradient_take_one_exponential_for_each_logit() -> None:
    """Counted in the program that is compiled."""
    logits, x = jnp.ones((3, 5)), jnp.ones((3, 5))

    def total(logits: Array) -> Array:
        return jnp.sum(_log_likelihood(logits, x))

    text = jax.jit(jax.value_and_grad(total)).lower(logits).as_text()
    assert text.count("stablehlo.exponential ") == 1
    assert text.count("stablehlo.log_plus_one ") == 1


def test_no_term_has_the_name_of_another_figure() -> None:
    (figures,) = (name for name in VIEWS if name.endswith(r"\.png"))
    for name in ["curves", *figures[1:].partition(")")[0].split("|")]:
        with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a term"):
            check_terms(ELBO(), ["kl", "nll", name])
