"""Where JAX computes: the choice of a device, and the cache of compiled programs."""

import logging
import os
import platform
from typing import Literal

import jax

from vaectl import memory
from vaectl.data import cache
from vaectl.errors import ConfigError
from vaectl.record import Device

DeviceKind = Literal["auto", "cpu", "gpu"]


def select(kind: DeviceKind, *, keep_programs: bool = True) -> jax.Device:
    """Choose a device, and keep compiled programs from one start to the next.

    Args:
        kind: `auto` takes the best that JAX finds.
        keep_programs: False to compile anew, and to leave nothing behind.

    Raises:
        ConfigError: a GPU was asked for and JAX sees none.
    """
    if keep_programs:
        _keep_compiled_programs()
    if kind == "auto":
        return jax.devices()[0]
    try:
        return jax.devices(kind)[0]
    except RuntimeError:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ConfigError(
            f"--device {kind}: JAX sees no {kind.upper()} here, only: {found}",
            hint="for an NVIDIA GPU: pip install 'vaectl[cuda]'; else --device cpu",
        ) from None


def describe(device: jax.Device) -> Device:
    """What results depend on beside the configuration: the machine, its device, its CPU threads.

    The number of threads changes the order of additions on a CPU, and with it the last bits.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "cpu_threads": threads,
        "host": platform.node(),
    }


def memory_of(device: jax.Device) -> int:
    """Bytes that JAX may fill: a GPU's share that it was given, or what there is beside a CPU."""
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit") or memory.total())


def _keep_compiled_programs() -> None:
    options: dict[str, object] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        options["jax_compilation_cache_dir"] = str(cache.directory() / "xla")
    for name, value in options.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]  # JAX does not annotate it
    logging.getLogger("jax._src.compiler").setLevel(logging.ERROR)  # a damaged entry is made anew
