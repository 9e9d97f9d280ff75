"""The device that JAX computes on, the settings it computes by, its cache of programs."""

import logging
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import jax

from vaectl.base import cache, memory, surroundings
from vaectl.base.errors import ConfigError

DeviceKind = Literal["auto", "cpu", "gpu"]

_UNPINNABLE = {"jax_random_seed_offset": 0, "jax_disable_most_optimizations": False}
"""Settings that change results and that JAX cannot set for a part of a program."""


def select(kind: DeviceKind, *, keep_programs: bool = True) -> jax.Device:
    """Choose a device, and keep compiled programs from one start to the next.

    Args:
        kind: `auto` takes the best that JAX finds.
        keep_programs: False to compile anew, and to leave nothing behind.

    Raises:
        ConfigError: JAX sees no such device.
    """
    if keep_programs:
        keep_compiled_programs()
    if kind == "cpu":  # whatever JAX_PLATFORMS says, and without waking a GPU
        _configure("jax_platforms", "cpu")
    try:
        devices = jax.devices()
    except Exception as error:  # a plugin for a device raises what it likes
        asked = "" if kind == "cpu" else os.environ.get("JAX_PLATFORMS", "")
        if asked not in ("", "cpu"):
            raise ConfigError(
                f"JAX_PLATFORMS={asked}: JAX sees no such device here", hint="unset JAX_PLATFORMS"
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"JAX cannot start: {reason}",
            hint="a plugin of JAX for some device may be broken: pip check, or pip uninstall it",
        ) from None
    try:
        return devices[0] if kind == "auto" else jax.devices(kind)[0]
    except RuntimeError:
        found = ", ".join(sorted({device.platform for device in devices}))
        raise ConfigError(
            f"--device {kind}: JAX sees no {kind.upper()} here, only: {found}",
            hint="for an NVIDIA GPU: pip install 'vaectl[cuda]'; else --device cpu",
        ) from None


@contextmanager
def pinned() -> Iterator[None]:
    """Compute by the settings that models are trained by, whatever this process has set.

    A command drops such settings from its environment (`vaectl.base.surroundings`). A process that
    imports `vaectl` may have configured JAX for work of its own, and keeps that: here the settings
    hold within the context, or around a function that it decorates.
    """
    with ExitStack() as stack:
        for context in (
            jax.enable_x64(False),
            jax.threefry_partitionable(True),
            jax.default_prng_impl("threefry2x32"),
            jax.default_matmul_precision(None),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.transfer_guard("allow"),
        ):
            stack.enter_context(context)
        for name, value in _UNPINNABLE.items():
            if (found := jax.config.values.get(name, value)) != value:
                warnings.warn(
                    f"{name} is {found} in this process: the results are not what vaectl's "
                    "commands give",
                    stacklevel=4,
                )
        yield


def describe(device: jax.Device) -> dict[str, str | int | None]:
    """Describe what results depend on beside the configuration: machine, device, CPU threads.

    Environment variables that may change the last bits stand there by their names, where set.
    """
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "cpu_threads": surroundings.cpu_threads(),
        "host": platform.node(),
        **surroundings.recorded(),
    }


def memory_of(device: jax.Device) -> int:
    """Bytes that JAX may fill: a GPU's share that it was given, or what there is beside a CPU."""
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit") or memory.total())


def keep_compiled_programs() -> None:
    """Have JAX keep what it compiles in the cache directory: the next start is seconds shorter."""
    options: dict[str, object] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        options["jax_compilation_cache_dir"] = str(cache.directory() / "xla")
    for name, value in options.items():
        _configure(name, value)
    logging.getLogger("jax._src.compiler").setLevel(logging.ERROR)  # a damaged entry is made anew


def _configure(option: str, value: object) -> None:
    jax.config.update(option, value)  # type: ignore[no-untyped-call]  # JAX does not annotate it
