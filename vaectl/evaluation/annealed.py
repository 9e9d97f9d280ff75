"""log p(x) by annealed importance sampling, and between two bounds for images that a model drew.

One compiled program, `anneal`, does all of it: it finds step sizes, and moves chains from the first
distribution to the posterior, and back.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Key

from vaectl.evaluation.weights import Weights
from vaectl.vae.posterior import log_normal
from vaectl.vae.vae import VAE, Network, Variables

Origin = Literal["prior", "posterior"]
"""The distribution that chains start from: p(z), or the encoder's q(z|x)."""

_Density: TypeAlias = Callable[[Array], Array]
"""A log density of codes."""

LEAPS = 5
"""Leapfrog steps of a transition."""
ACCEPTANCE = 0.65
"""The share of accepted transitions that step sizes are adapted to: Neal 2011, section 5.4.4."""
BINS = 64
"""Parts of the path, each of which has a step size for each image."""
_GAIN = 0.2
"""The rate at which the logarithm of a step size follows the acceptance."""
_FIRST = 0.5
"""The first step size, in deviations of the posterior."""
_JITTER = 0.2
"""Relative random change of a step size, so that no trajectory is periodic."""
_STEEPNESS = 4.0
"""The steepness delta of the sigmoidal schedule."""
_SHORTER = 4
"""The factor by which the run that finds the step sizes is shorter, unless parts of it would be
empty."""


class Annealed(NamedTuple):
    """Estimates of log p(x) of images, in nats."""

    log_p: Float[Array, " images"]
    effective: Float[Array, " images"]
    """Effective sample size of the chains: (sum_s w_s)^2 / sum_s w_s^2, from 1 to their number."""
    acceptance: Float[Array, " images"]
    """The share of accepted transitions."""


class Bracket(NamedTuple):
    """Bounds on log p(x) of simulated images, in nats; both hold in expectation."""

    lower: Float[Array, " images"]
    upper: Float[Array, " images"]


def annealed(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    key: Key[Array, ""],
    *,
    chains: int,
    temperatures: int,
    origin: Origin,
) -> Annealed:
    """Estimate log p(x) of each image.

        log p(x) ~ log 1/S sum_s w_s,   log w_s = sum_t (b_t - b_{t-1}) (log f_1 - log f_0)(z_{t-1})

    f_0 is the origin, f_1(z) = p(x, z), and z_t is a Hamiltonian transition of z_{t-1} that leaves
    f_0^(1 - b_t) f_1^b_t invariant. The weights are unbiased, so the estimate is a lower bound in
    expectation, which rises with T and S.

    Args:
        vae: the structure of the network.
        variables: the arrays of the network.
        x: images in [0, 1].
        y: their classes, if the model is told them; then p(x) is p(x|y).
        key: of all random numbers.
        chains: S.
        temperatures: T.
        origin: f_0.

    Neal 2001; for VAEs Wu et al. 2017.
    """
    return _forward(vae, variables, x, y, key, chains, temperatures, origin)[0]


def bracket(
    vae: VAE,
    variables: Variables,
    images: int,
    y: Float[Array, "images classes"] | None,
    key: Key[Array, ""],
    *,
    chains: int,
    temperatures: int,
    origin: Origin,
) -> Bracket:
    """Bound log p(x) of images that the model draws from below and from above.

    A code z drawn with its image x is an exact sample of p(z|x). Chains that start there and go
    back to the origin estimate 1 / p(x) without bias, so the logarithm is an upper bound in
    expectation. A small distance of the bounds shows that the chains mix.

    Args:
        vae: the structure of the network.
        variables: the arrays of the network.
        images: how many are drawn.
        y: their classes, if the model is told them.
        key: of all random numbers.
        chains: S.
        temperatures: T.
        origin: f_0.

    Grosse et al. 2015 (bidirectional Monte Carlo).
    """
    of_images, of_chains, back = jax.random.split(key, 3)
    x, z = compiled_simulate(vae, variables, y, of_images, images)
    found, steps = _forward(vae, variables, x, y, of_chains, chains, temperatures, origin)
    z = jnp.repeat(z[None], chains, axis=0)
    log_w, _, _ = _anneal(
        *(vae, variables, x, y, z, back, temperatures, steps), adapt=False, back=True, origin=origin
    )
    return Bracket(found.log_p, -compiled_sum_up(log_w)[0])


def _forward(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    key: Key[Array, ""],
    chains: int,
    temperatures: int,
    origin: Origin,
) -> tuple[Annealed, Float[Array, "bins images"]]:
    """Find step sizes in a short run of other chains, then keep them.

    Chains whose step sizes depend on where they begin or go would not be unbiased.
    """
    pilot, first, run = jax.random.split(key, 3)
    pilot_first, pilot = jax.random.split(pilot)
    x, y = _placed(variables, x, y)
    start = partial(compiled_start, vae, variables, x, y)
    anneal = partial(_anneal, vae, variables, x, y, back=False, origin=origin)
    z, steps = start(pilot_first, chains, origin)
    _, _, steps = anneal(z, pilot, short(temperatures), steps, adapt=True)
    z, _ = start(first, chains, origin)
    log_w, accepted, _ = anneal(z, run, temperatures, steps, adapt=False)
    log_p, effective = compiled_sum_up(log_w)
    return Annealed(log_p, effective, accepted), steps


def _anneal(
    vae: VAE, variables: Variables, *arrays: Any, adapt: bool, back: bool, origin: Origin
) -> Any:
    """Call the compiled `anneal`, with all arrays in one place, so that one program is compiled."""
    x, y, z, key, temperatures, steps = arrays
    numbers = jnp.int32(temperatures), steps, jnp.bool(adapt), jnp.bool(back)
    return compiled_anneal(vae, variables, *_placed(variables, x, y, z, key, *numbers), origin)


def _placed(variables: Variables, *arrays: Any) -> Any:
    """Move arrays to where the network is, and tie them to that place, as results may be not."""
    return jax.device_put(arrays, jax.tree.leaves(variables)[0].sharding)


def short(temperatures: int) -> int:
    """Return the number of temperatures of the run that finds the step sizes."""
    return max(temperatures // _SHORTER, min(temperatures, BINS))


def sum_up(
    log_w: Float[Array, "chains images"],
) -> tuple[Float[Array, " images"], Float[Array, " images"]]:
    """Return the logarithm of the mean weight of each image, and the effective sample size."""
    weights = Weights.none(log_w.shape[1]).add(log_w)
    return weights.log_mean(len(log_w)), weights.effective


def simulate(
    vae: VAE,
    variables: Variables,
    y: Float[Array, "images classes"] | None,
    key: Key[Array, ""],
    images: int,
) -> tuple[Float[Array, "images h w c"], Float[Array, "images code"]]:
    """Draw images from the model, with their codes."""
    of_code, of_pixels = jax.random.split(key)
    network = vae.network(variables).given(y)
    z = network.prior.sample(of_code, images)
    return vae.likelihood.sample(network.decode(z), of_pixels), z


def start(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    key: Key[Array, ""],
    chains: int,
    origin: Origin,
) -> tuple[Float[Array, "chains images code"], Float[Array, "bins images"]]:
    """Draw the first codes of all chains from the origin; return the first step sizes, too."""
    network, shape = vae.network(variables).given(y), (chains, len(x), vae.code_size)
    steps = jnp.full((BINS, len(x)), math.log(_FIRST), jnp.float32)
    if origin == "posterior":
        return network.draw(x, jax.random.normal(key, shape)).z, steps
    return network.prior.sample(key, chains * len(x)).reshape(shape), steps


class _Point(NamedTuple):
    """Codes, with log f_0 and log f_1 and their gradients."""

    z: Float[Array, "chains images code"]
    first: Float[Array, "chains images"]
    last: Float[Array, "chains images"]
    slope_of_first: Float[Array, "chains images code"]
    slope_of_last: Float[Array, "chains images code"]

    def value(self, b: Float[Array, ""]) -> Float[Array, "chains images"]:
        """Return (1 - b) log f_0 + b log f_1."""
        return (1 - b) * self.first + b * self.last

    def slope(self, b: Float[Array, ""]) -> Float[Array, "chains images code"]:
        """Return its gradient."""
        return (1 - b) * self.slope_of_first + b * self.slope_of_last


def anneal(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    z: Float[Array, "chains images code"],
    key: Key[Array, ""],
    temperatures: Int32[Array, ""],
    steps: Float[Array, "bins images"],
    adapt: Bool[Array, ""],
    back: Bool[Array, ""],
    origin: Origin,
) -> tuple[Float[Array, "chains images"], Float[Array, " images"], Float[Array, "bins images"]]:
    """Anneal codes from the origin to the posterior, or back.

    The schedule is sigmoidal, so that most temperatures are near the ends. A code moves in units of
    the deviation that it has if both ends are normal, with the encoder's variances at the last.

    Args:
        vae: the structure of the network.
        variables: the arrays of the network.
        x: images in [0, 1].
        y: their classes, if the model is told them.
        z: codes from the distribution where the chains begin.
        key: of all random numbers.
        temperatures: T; it is traced, so that one compiled program serves every T.
        steps: logarithms of step sizes, by parts of the path.
        adapt: whether the step sizes follow the acceptance, instead of those that are given.
        back: whether chains go from the posterior to the origin.
        origin: where the path begins.

    Returns:
        log w of each chain, the share of accepted transitions, and the step sizes.

    Grosse et al. 2015 (schedule); Neal 2011, section 5.3 (transitions).
    """
    network = vae.network(variables).given(y)
    mu, log_var = network.encode(x)
    first, last = _ends(network, x, mu, log_var, origin)
    precision = jnp.exp(-log_var)
    at_first = precision if origin == "posterior" else jnp.ones_like(precision)

    def at(z: Float[Array, "chains images code"]) -> _Point:
        (low, slope_of_low), (high, slope_of_high) = (_climb(end, z) for end in (first, last))
        return _Point(z, low, high, slope_of_low, slope_of_high)

    def place(t: Int32[Array, ""]) -> Float[Array, ""]:
        share = t / temperatures
        return jnp.where(back, 1 - share, share)

    def step(t: Int32[Array, ""], state: tuple[Any, ...]) -> tuple[Any, ...]:
        point, log_w, accepted, steps = state
        b = _temperature(place(t + 1))
        log_w += (b - _temperature(place(t))) * (point.last - point.first)
        part = jnp.minimum((place(t + 1) * BINS).astype(jnp.int32), BINS - 1)
        unit = jax.lax.rsqrt((1 - b) * at_first + b * precision)
        of_step = jax.random.fold_in(key, t)
        point, chance = _transition(at, point, b, jnp.exp(steps[part]), unit, of_step)
        # later parts begin with the size that this one ends with
        follows = adapt & (jnp.arange(BINS)[:, None] >= part)
        steps = jnp.where(follows, steps[part] + _GAIN * (chance - ACCEPTANCE), steps)
        return point, log_w, accepted + chance, steps

    nothing = jnp.zeros(z.shape[:2]), jnp.zeros(len(x))
    _, log_w, accepted, steps = jax.lax.fori_loop(0, temperatures, step, (at(z), *nothing, steps))
    return log_w, accepted / temperatures, steps


def _ends(
    network: Network,
    x: Float[Array, "images h w c"],
    mu: Float[Array, "images code"],
    log_var: Float[Array, "images code"],
    origin: Origin,
) -> tuple[_Density, _Density]:
    """Return the logarithms of the two ends of the path."""
    prior = network.prior  # made once, outside of the loop

    def posterior(z: Float[Array, "chains images code"]) -> Float[Array, "chains images"]:
        noise = (z - mu) * jnp.exp(-0.5 * log_var)
        return jnp.sum(log_normal(jnp.square(noise), log_var), axis=-1)

    def joint(z: Float[Array, "chains images code"]) -> Float[Array, "chains images"]:
        return prior.log_prob(z) + network.log_prob(z, x)

    return (posterior if origin == "posterior" else prior.log_prob), joint


def _climb(
    density: _Density, z: Float[Array, "chains images code"]
) -> tuple[Float[Array, "chains images"], Float[Array, "chains images code"]]:
    """Return a log density and its gradient."""
    value, gradient = jax.vjp(density, z)
    return value, gradient(jnp.ones_like(value))[0]


def _temperature(share: Float[Array, ""]) -> Float[Array, ""]:
    """Return b at a share of the path: 0 at 0, 1 at 1."""
    ends = jnp.tanh(0.5 * _STEEPNESS)
    return 0.5 * (1 + jnp.tanh(0.5 * _STEEPNESS * (2 * share - 1)) / ends)


def _transition(
    at: Callable[[Array], _Point],
    point: _Point,
    b: Float[Array, ""],
    size: Float[Array, " images"],
    unit: Float[Array, "images code"],
    key: Key[Array, ""],
) -> tuple[_Point, Float[Array, " images"]]:
    """Move by Hamiltonian dynamics; return the mean chance of acceptance over chains, too.

    Args:
        at: evaluates both ends at a code.
        point: where the chains are.
        b: the temperature.
        size: the size of a leapfrog step.
        unit: the scale of each dimension.
        key: of all random numbers.
    """
    of_momentum, of_size, of_choice = jax.random.split(key, 3)
    momentum = jax.random.normal(of_momentum, point.z.shape)
    spread = jax.random.uniform(of_size, point.first.shape, minval=-1.0)
    step = (size * (1 + _JITTER * spread))[..., None] * unit

    def leap(_: Any, state: tuple[Any, Array]) -> tuple[Any, Array]:
        point, momentum = state
        momentum += 0.5 * step * point.slope(b)
        point = at(point.z + step * momentum)
        return point, momentum + 0.5 * step * point.slope(b)

    moved, faster = jax.lax.fori_loop(0, LEAPS, leap, (point, momentum))
    energy = 0.5 * jnp.sum(jnp.square(momentum) - jnp.square(faster), axis=-1)
    gain = moved.value(b) - point.value(b) + energy
    # a trajectory that is not finite is refused
    chance = jnp.where(jnp.isfinite(gain), jnp.exp(jnp.minimum(gain, 0.0)), 0.0)
    taken = jax.random.uniform(of_choice, chance.shape) < chance
    point = jax.tree.map(
        lambda new, old: jnp.where(taken.reshape(taken.shape + (1,) * (new.ndim - 2)), new, old),
        *(moved, point),
    )
    return point, chance.mean(axis=0)


compiled_anneal = jax.jit(anneal, static_argnames=("vae", "origin"))
compiled_sum_up = jax.jit(sum_up)
compiled_simulate = jax.jit(simulate, static_argnames=("vae", "images"))
compiled_start = jax.jit(start, static_argnames=("vae", "chains", "origin"))
