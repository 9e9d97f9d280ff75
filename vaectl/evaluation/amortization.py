"""The best diagonal Gaussian posterior of each image, and the ELBO with it.

The encoder's posteriors are not the best ones that the decoder and the prior allow: the difference
of the two bounds is the amortization gap of Cremer et al. 2018.
"""

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32, Key

from vaectl.priors.base import Distribution
from vaectl.vae.posterior import Codes
from vaectl.vae.vae import VAE, Network, Variables

STEPS = 300
"""Steps of Adam in a round, in which its learning rate falls to zero along half a cosine."""
ROUNDS = 10
"""The most rounds."""
RISE = 0.1
"""The rise of the mean ELBO in the last third of a round, in nats, after which another follows."""
_RATE = 0.03
_MEMORY = 0.95
"""Decay of the squares of gradients, which are large at first."""
_SAMPLES = 8
"""Samples of z for each image that are decoded at once."""


class Posterior(NamedTuple):
    """Diagonal Gaussians, one for each image."""

    mu: Float[Array, "images code"]
    log_var: Float[Array, "images code"]


class Parts(NamedTuple):
    """The two parts of an ELBO, as means over samples of z, in nats."""

    kl: Float[Array, " images"]
    nll: Float[Array, " images"]

    @property
    def elbo(self) -> Float[Array, " images"]:
        """The ELBO of each image."""
        return -(self.kl + self.nll)


_State: TypeAlias = tuple[Posterior, Int32[Array, ""], Bool[Array, ""]]
"""The posteriors, the number of rounds, and whether the ELBO still rises."""


def best_posterior(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    key: Key[Array, ""],
) -> Posterior:
    """Maximize the ELBO of each image over the mean and log-variance of its posterior.

        mu*, log_var* = argmax E[log p(x|z)] - KL(q(z) || p(z)),   q(z) = N(mu, exp(log_var))

    Adam starts from the encoder's, with new noise at each step. One round is usually enough for a
    trained encoder. Another follows while the ELBO still rises, since an encoder may be far off.
    Only a local maximum is found, and after `ROUNDS` rounds not even that is certain.

    Args:
        vae: the structure of the network.
        variables: the arrays of the network.
        x: images in [0, 1].
        y: their classes, if the model is told them.
        key: of the noise.

    Cremer et al. 2018; the ELBO's gradient as in Kingma & Welling 2013, section 2.4.
    """
    network = vae.network(variables).given(y)
    prior = network.prior  # made once, outside of the loop
    adam = optax.adam(optax.cosine_decay_schedule(_RATE, STEPS), b2=_MEMORY)

    def loss(posterior: Posterior, key: Key[Array, ""]) -> Float[Array, ""]:
        parts = _parts(network, prior, x, posterior, key)
        return jnp.sum(parts.kl + parts.nll)

    def fit(state: _State) -> _State:
        posterior, number, _ = state

        def step(t: Int32[Array, ""], state: Any) -> Any:
            posterior, moments, earlier = state
            slope = jax.grad(loss)(posterior, jax.random.fold_in(key, number * STEPS + t))
            change, moments = adam.update(slope, moments)
            earlier = jax.tree.map(partial(jnp.where, t == STEPS * 2 // 3), posterior, earlier)
            return optax.apply_updates(posterior, change), moments, earlier

        found, _, earlier = jax.lax.fori_loop(
            0, STEPS, step, (posterior, adam.init(posterior), posterior)
        )
        again = jax.random.fold_in(key, ROUNDS * STEPS)
        rise = (loss(earlier, again) - loss(found, again)) / len(x)
        return found, number + 1, rise > RISE

    start = Posterior(*network.encode(x)), jnp.int32(0), jnp.bool_(True)
    found, _, _ = jax.lax.while_loop(lambda state: state[2] & (state[1] < ROUNDS), fit, start)
    return found


def bound(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    posterior: Posterior,
    key: Key[Array, ""],
    chunks: Int32[Array, ""],
) -> Parts:
    """Return KL and NLL of each image with a given posterior.

    The same key gives all posteriors the same noise, so that their differences are precise.

    Args:
        vae: the structure of the network.
        variables: the arrays of the network.
        x: images in [0, 1].
        y: their classes, if the model is told them.
        posterior: of each image.
        key: of the noise.
        chunks: how many times eight samples of z are drawn for each image.
    """
    network = vae.network(variables).given(y)
    prior = network.prior

    def add(chunk: Int32[Array, ""], total: Parts) -> Parts:
        found = _parts(network, prior, x, posterior, jax.random.fold_in(key, chunk))
        return Parts(total.kl + found.kl, total.nll + found.nll)

    total = jax.lax.fori_loop(0, chunks, add, Parts(*jnp.zeros((2, len(x)))))
    return Parts(total.kl / chunks, total.nll / chunks)


def _parts(
    network: Network,
    prior: Distribution,
    x: Float[Array, "images h w c"],
    posterior: Posterior,
    key: Key[Array, ""],
) -> Parts:
    shape = (_SAMPLES, *posterior.mu.shape)
    codes = Codes.draw(*posterior, jax.random.normal(key, shape))
    return Parts(prior.kl(codes), network.nll(codes, x))


compiled_best_posterior = jax.jit(best_posterior, static_argnames="vae")
compiled_bound = jax.jit(bound, static_argnames="vae")
