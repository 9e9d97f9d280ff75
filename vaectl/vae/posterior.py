"""Functions of the posterior q(z|x), a diagonal Gaussian; divergences are in nats.

mu       [batch, code]           mean
log_var  [batch, code]           log-variance
noise    [samples, batch, code]  standard normal
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def draw(
    mu: Float[Array, "batch code"],
    log_var: Float[Array, "batch code"],
    noise: Float[Array, "samples batch code"],
) -> Float[Array, "samples batch code"]:
    """Draw samples z = mu + exp(log_var / 2) * noise.

    Kingma & Welling 2013, section 2.4.
    """
    return mu + jnp.exp(0.5 * log_var) * noise


def kl(
    mu: Float[Array, "*batch code"], log_var: Float[Array, "*batch code"]
) -> Float[Array, "*batch"]:
    """Return the KL divergence from the standard normal prior, in nats.

        KL = 1/2 sum_j (mu_j^2 + exp(log_var_j) - 1 - log_var_j)

    `expm1` keeps it exact near the prior, where exp(log_var) - 1 would cancel.

    Kingma & Welling 2013, appendix B; the first sum of eq. 10.
    """
    return 0.5 * jnp.sum(jnp.square(mu) + jnp.expm1(log_var) - log_var, axis=-1)


def log_prior_ratio(
    z: Float[Array, "samples batch code"],
    log_var: Float[Array, "batch code"],
    noise: Float[Array, "samples batch code"],
) -> Float[Array, "samples batch"]:
    """Return log p(z) - log q(z|x) of samples z from q(z|x), in nats.

        log p(z) - log q(z|x) = 1/2 sum_j (noise_j^2 + log_var_j - z_j^2)

    The sum with log p(x|z) is the logarithm of an importance weight: Burda et al. 2016, eq. 8.
    """
    return 0.5 * jnp.sum(jnp.square(noise) + log_var - jnp.square(z), axis=-1)
