"""The precision of the matrix products of training, and what suits a device."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from vaectl.config.schema import Config
    from vaectl.models.base import Precision

_CPU = "amx_bf16"
"""The instruction of processors whose products of bfloat16 are much faster."""
_GPU = 8.0
"""Compute capability from which GPUs multiply bfloat16."""


def resolved(settings: Config, device: jax.Device) -> tuple[Config, str]:
    """Replace the precision `auto` by the one that suits a device; leave any other.

    Returns:
        The settings, and what to tell: the choice with its reason, or that bfloat16 does not suit
        the device; empty if there is nothing to tell.
    """
    asked = settings.model.precision
    has, why = multiplies_bfloat16(device)
    if asked == "bfloat16" and not has:
        return settings, f"model.precision bfloat16: {why}, so it may take longer than float32"
    if asked != "auto":
        return settings, ""
    chosen: Precision = "bfloat16" if has else "float32"
    return _with(settings, chosen), f"model.precision auto: {chosen}, since {why}"


def as_chosen(settings: Config, stored: Config) -> Config:
    """Replace `auto` by what a run has chosen before, on whatever device."""
    return (
        _with(settings, stored.model.precision) if settings.model.precision == "auto" else settings
    )


def _with(settings: Config, precision: Precision) -> Config:
    model = settings.model.model_copy(update={"precision": precision})
    return settings.model_copy(update={"model": model})


def multiplies_bfloat16(
    device: jax.Device, facts: Path = Path("/proc/cpuinfo")
) -> tuple[bool, str]:
    """Tell whether a device has fast products of bfloat16, and the reason.

    Args:
        device: a CPU, a GPU or another accelerator.
        facts: the file in which Linux lists the instructions of the processor.
    """
    if device.platform == "gpu":
        capability = str(getattr(device, "compute_capability", "0"))
        with suppress(ValueError):
            return float(capability) >= _GPU, f"the GPU has compute capability {capability}"
        return True, f"the GPU is {device.device_kind}"
    if device.platform != "cpu":
        return True, f"the device is {device.device_kind}"
    try:
        listed = facts.read_text().split()
    except OSError:
        return False, "nothing is known of the instructions of this processor"
    has = _CPU in listed
    return has, f"the processor has {'' if has else 'no '}{_CPU}"
