"""The device that JAX uses, the JAX settings that results depend on, and the program cache."""

import os
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import jax

from vaectl.base import cache, memory, surroundings, wanted
from vaectl.base.errors import ConfigError, first_line

_UNPINNABLE = {"jax_random_seed_offset": 0, "jax_disable_most_optimizations": False}
"""Settings that change results and that JAX can only set for a whole process."""
_MOMENT = 0.01
"""Seconds between two looks at arrays that are being computed."""


def select(text: str, *, keep_programs: bool = True) -> jax.Device:
    """Choose a device, and turn on the cache of compiled programs; see `several`.

    Raises:
        ConfigError: as for `several`; or several are asked for.
    """
    if wanted.devices(text).number != 1:
        raise ConfigError(
            f"--device {text}: this command uses one device", hint=f"--device {text.split(':')[0]}"
        )
    return several(text, keep_programs=keep_programs)[0]


def several(text: str, *, keep_programs: bool = True) -> Sequence[jax.Device]:
    """Choose devices, and turn on the cache of compiled programs.

    Args:
        text: as in `wanted.devices`; a CPU can act as any number of devices. If several processes
            train together, this is the number for each.
        keep_programs: False to compile everything again and write nothing to the cache.

    Raises:
        ConfigError: JAX finds no such devices, or too few of them, or cannot start.
    """
    kind, count = wanted.devices(text)
    if count is not None and count > 1:  # their number is fixed once JAX has started
        with suppress(RuntimeError):
            _configure("jax_num_cpu_devices", count)
    if keep_programs:
        keep_compiled_programs()
    if kind == "cpu":  # overrides JAX_PLATFORMS, and does not initialize a GPU
        _configure("jax_platforms", "cpu")
    try:
        found = jax.devices()
    except Exception as error:  # a device plugin may raise anything
        asked = "" if kind == "cpu" else os.environ.get("JAX_PLATFORMS", "")
        if asked not in ("", "cpu"):
            raise ConfigError(
                f"JAX_PLATFORMS={asked}: JAX sees no such device here", hint="unset JAX_PLATFORMS"
            ) from None
        raise ConfigError(
            f"JAX cannot start: {first_line(error)}",
            hint="a JAX plugin may be broken: run pip check, or uninstall the plugin",
        ) from None
    try:
        of_kind = found if kind == "auto" else jax.devices(kind)
    except RuntimeError:
        platforms = ", ".join(sorted({device.platform for device in found}))
        raise ConfigError(
            f"--device {kind}: JAX sees no {kind.upper()} here, only: {platforms}",
            hint="for an NVIDIA GPU: pip install 'vaectl[cuda]'; else --device cpu",
        ) from None
    by_process: dict[int, list[jax.Device]] = {}
    for device in of_kind:
        by_process.setdefault(device.process_index, []).append(device)
    fewest = min(map(len, by_process.values()))
    if count is not None and count > fewest:
        raise ConfigError(
            f"--device {text}: JAX sees {fewest} of this kind here",
            hint=f"--device {kind}:{fewest}",
        )
    return [device for each in by_process.values() for device in each[: count or fewest]]


@contextmanager
def pinned() -> Iterator[None]:
    """Compute with the JAX settings of the command line instead of those of this process.

    A command removes such settings from its environment (`vaectl.base.surroundings`). A process
    that imports `vaectl` may have configured JAX for its own work. Within this context, or in a
    function that it decorates, the settings are vaectl's; afterwards those of the process are
    restored.
    """
    with (
        jax.enable_x64(False),
        jax.threefry_partitionable(True),
        jax.default_prng_impl("threefry2x32"),
        jax.default_matmul_precision(None),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.transfer_guard("allow"),
    ):
        for name, value in _UNPINNABLE.items():
            if (found := jax.config.values.get(name, value)) != value:
                warnings.warn(
                    f"{name} is {found} in this process: the results differ from those of vaectl's "
                    "commands",
                    stacklevel=4,
                )
        yield


def describe(device: jax.Device) -> dict[str, str | int | None]:
    """Describe what results depend on besides the configuration: machine, device, CPU threads.

    Environment variables that may change the last bits are included if they are set.
    """
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "cpu_threads": surroundings.cpu_threads(),
        "host": platform.node(),
        **({"processor": surroundings.processor()} if device.platform == "cpu" else {}),
        **surroundings.recorded(),
    }


def memory_of(device: jax.Device) -> int:
    """Return the bytes that JAX may use: its share of a GPU's memory, or the machine's memory."""
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit") or memory.total())


def wait_for(arrays: Sequence[jax.Array]) -> None:
    """Wait until arrays are computed; unlike in JAX's own wait, signals are handled meanwhile."""
    while not all(each.is_ready() for each in arrays):  # type: ignore[attr-defined]  # not declared
        time.sleep(_MOMENT)


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the cache directory, so that the next start is faster."""
    options: dict[str, object] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        options["jax_compilation_cache_dir"] = str(cache.directory() / "xla")
    for name, value in options.items():
        _configure(name, value)
    # of a damaged entry, which JAX replaces, or of a directory that cannot be used: then nothing is
    # kept, and all else goes on
    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache entry")


def _configure(option: str, value: object) -> None:
    jax.config.update(option, value)  # type: ignore[no-untyped-call]  # JAX does not annotate it
