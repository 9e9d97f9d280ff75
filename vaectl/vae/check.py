"""The check of shapes, which names the plug that returns other ones than its kind describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
from jaxtyping import Array, Float

from vaectl.base.errors import ConfigError

if TYPE_CHECKING:
    from vaectl.base.plugs import Plug
    from vaectl.vae.vae import Network


def check_network(network: Network, x: Float[Array, "batch h w c"]) -> None:
    """Check what a model and a likelihood return. Inside `jax.eval_shape` nothing is computed.

    Raises:
        ConfigError: a shape is not the one that the protocol describes.
    """
    model, likelihood = network.vae.model, network.vae.likelihood
    numbers = likelihood.outputs + likelihood.shared
    mu, log_var = network.encode(x)
    for name, values in {"mean": mu, "log-variance": log_var}.items():
        _check(model, f"the {name} of encode", values, (x.shape[0], network.vae.code_size))
    raw = network.decode(mu[None])
    _check(model, "decode", raw, (1, *x.shape, numbers))
    _check(likelihood, "log_prob", likelihood.log_prob(raw, x), (1, x.shape[0]))
    _check(likelihood, "mean", likelihood.mean(raw), (1, *x.shape))
    _check(likelihood, "sample", likelihood.sample(raw, jax.random.key(0)), (1, *x.shape))


def check_losses(objective: Plug, found: Any, images: int) -> None:
    """Check what an objective returns for a number of images.

    Raises:
        ConfigError: it is not one loss per image, and a mapping of terms with one value per image.
    """
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise ConfigError(
            f"the {objective.kind} {objective.name}: terms does not return two things",
            hint="return the loss of each image, and a mapping of names to terms of each image",
        )
    for name, values in {"the loss": found[0], **found[1]}.items():
        _check(objective, f"{name} of terms", values, (images,))


def _check(plug: Plug, what: str, values: Any, shape: tuple[int, ...]) -> None:
    given = getattr(values, "shape", None)
    if given != shape:
        raise ConfigError(
            f"the {plug.kind} {plug.name}: {what} should have the shape {list(shape)}, not "
            + ("that of no array" if given is None else str(list(given))),
            hint=f"the axes are described in {plug.protocol().__module__}",
        )
