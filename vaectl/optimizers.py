"""Optimizers as Optax transforms of a gradient into a direction.

A direction is what a parameter loses per unit of learning rate:

    theta <- theta - learning_rate * schedule(step) * direction

The learning rate stays outside, an argument of the step, so that another one is the same compiled
program.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vaectl import config


class Moments(NamedTuple):
    """State of `scale_by_uncorrected_adam`: running means of gradients and of their squares."""

    mu: optax.Updates
    nu: optax.Updates


def scale_by_uncorrected_adam(
    b1: float, b2: float, eps: float, eps_root: float = 0.0, *, nesterov: bool = False
) -> optax.GradientTransformation:
    """Adam whose moments are not corrected for starting at zero, as in the paper's code.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        direction = m / (sqrt(v + eps_root) + eps)

    Its very first step is (1 - b1) / sqrt(1 - b2) times Adam's: 3.2 times with the usual decays.

    Kingma & Ba 2015, algorithm 1, without its two lines of bias correction.
    """

    def init(params: optax.Params) -> Moments:
        return Moments(mu=optax.tree.zeros_like(params), nu=optax.tree.zeros_like(params))

    def update(
        updates: optax.Updates, state: Moments, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Moments]:
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        ahead = optax.tree.update_moment(updates, mu, b1, 1) if nesterov else mu
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v + eps_root) + eps), ahead, nu)
        return direction, Moments(mu, nu)

    return optax.GradientTransformation(init, update)


def _adam(h: config.Adam) -> optax.GradientTransformation:
    scale_by_adam = optax.scale_by_adam if h.bias_correction else scale_by_uncorrected_adam
    return scale_by_adam(h.b1, h.b2, h.eps, h.eps_root, nesterov=h.nesterov)


def _rmsprop(h: config.RMSProp) -> optax.GradientTransformation:
    scale = optax.scale_by_stddev if h.centered else optax.scale_by_rms
    return optax.chain(
        scale(
            h.decay,
            h.eps,
            h.initial_scale,
            eps_in_sqrt=h.eps_in_root,
            bias_correction=h.bias_correction,
        ),
        optax.trace(h.momentum, nesterov=h.nesterov) if h.momentum else optax.identity(),
    )


def _adagrad(h: config.AdaGrad) -> optax.GradientTransformation:
    return optax.scale_by_rss(h.initial_accumulator, h.eps)


def _sgd(h: config.SGD) -> optax.GradientTransformation:
    return optax.trace(h.momentum, nesterov=h.nesterov)


OPTIMIZERS: Mapping[str, Callable[[Any], optax.GradientTransformation]] = {
    "adam": _adam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "sgd": _sgd,
}


def direction(settings: config.Optimizer) -> optax.GradientTransformation:
    """Build the chosen optimizer: a gradient goes in, a direction to step against comes out.

    In order: clipping by the global norm, the optimizer's own rule, weight decay (before the rule
    where `sgd.decay_in_momentum` asks for it; without the biases where `weight_decay_on` is
    `weights`), the scale of the biases.
    """
    mask = _no_bias if settings.weight_decay_on == "weights" else None
    decay = optax.add_decayed_weights(settings.weight_decay, mask)
    coupled = settings.name == "sgd" and settings.sgd.decay_in_momentum
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm else optax.identity(),
        decay if coupled else optax.identity(),
        OPTIMIZERS[settings.name](settings.chosen),
        optax.identity() if coupled else decay,
        _scale_biases(settings.bias_learning_rate_scale),
    )


def _is_bias(path: tuple[Any, ...]) -> bool:
    return bool(path[-1] == jax.tree_util.DictKey("bias"))


def _no_bias(params: optax.Params) -> Any:
    """A tree like the parameters: False for a bias, True for all else."""
    return jax.tree_util.tree_map_with_path(lambda path, _: not _is_bias(path), params)


def _scale_biases(scale: float) -> optax.GradientTransformation:
    def scaled(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf * scale if _is_bias(path) else leaf

    return optax.stateless(
        lambda updates, _params: jax.tree_util.tree_map_with_path(scaled, updates)
    )


def schedule(
    settings: config.Schedule, *, steps_per_epoch: int, steps: int
) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
    """What the learning rate is multiplied by at a step.

        warm-up    (t + 1) / w                                         t < w
        constant   1                                                   t >= w
        cosine     final + (1 - final) (1 + cos(pi (t - w) / (T - w))) / 2

    Args:
        settings: with w in epochs.
        steps_per_epoch: to turn epochs into steps.
        steps: T, of the whole run.

    The cosine is that of Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    after: optax.Schedule = (
        optax.cosine_decay_schedule(1.0, max(steps - warmup, 1), settings.final)
        if settings.name == "cosine"
        else optax.constant_schedule(1.0)
    )

    def scale(step: Int[Array, ""]) -> Float[Array, ""]:
        rise = (step.astype(jnp.float32) + 1.0) / max(warmup, 1)
        return jnp.where(step < warmup, rise, jnp.asarray(after(step - warmup), jnp.float32))

    return scale
