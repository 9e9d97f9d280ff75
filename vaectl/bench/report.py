"""What this machine gives: how fast the work runs, and how far that is from its floor."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from vaectl import config, data
from vaectl.base import devices, memory
from vaectl.base.devices import DeviceKind
from vaectl.base.errors import ConfigError
from vaectl.bench import measures
from vaectl.bench.measures import Part, Population, Work
from vaectl.runs import environment
from vaectl.training import fit as fitting
from vaectl.training import footprint
from vaectl.training.program import Member, Program

SCALING: Mapping[str, tuple[int, ...]] = {
    "batch_size": (1000, 5000),
    "hidden_size": (1000, 4096),
    "code_size": (200, 1000),
}


class Bench(NamedTuple):
    """What `vaectl bench` found."""

    device: Mapping[str, object]
    versions: Mapping[str, str]
    rounds: int
    compile_seconds: float
    """Of training and validation, with no cache."""
    peak_memory: int
    """Bytes: of the process on a CPU, else of the device."""
    work: list[Work]
    parts: list[Part]
    streamed: float
    """Speed of an epoch whose images stay in host memory, as a share of the usual."""
    population: Population
    scaling: list[Work]

    def as_json(self) -> dict[str, object]:
        """For a program."""
        return {
            **self._asdict(),
            "work": [row.as_json() for row in self.work],
            "parts": [part._asdict() for part in self.parts],
            "population": self.population._asdict(),
            "scaling": [row.as_json() for row in self.scaling],
        }


def run(
    settings: config.Config,
    *,
    rounds: int,
    scaling: bool,
    device_kind: DeviceKind = "auto",
    watch: Callable[[str], None] = lambda _what: None,
) -> Bench:
    """Measure.

    Args:
        settings: of the experiment whose work is measured.
        rounds: how often each piece of work runs.
        scaling: whether to measure larger batches, layers and codes too.
        device_kind: `auto`, `cpu` or `gpu`.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, or more than the memory holds.
        DataError: the data set is missing or broken.
    """
    device = devices.select(device_kind, keep_programs=False)
    watch(f"reading {settings.data.source}")
    dataset = data.load(settings.data)
    host = dataset.train.flat
    program = Program.of(settings, images=len(host), image_shape=dataset.image_shape)
    if footprint.check_training(program, len(dataset.validation.images), device):
        raise ConfigError(
            f"{settings.data.source} does not fit on the device", hint="lower data.train_size"
        )
    train, validation = jax.device_put((host, dataset.validation.flat), device)
    member = jax.device_put(Member.of(settings), device)
    with jax.default_device(device):
        watch("compiling")
        start = time.perf_counter()
        fitting.compile_ahead(program, member, train, validation)
        compiled = time.perf_counter() - start
        watch("training, evaluating, sampling")
        work = measures.work(program, member, train, validation, rounds)
        peak = _peak_memory(device)
        watch("taking the step apart")
        parts = measures.parts(program, member, train, rounds)
        watch("streaming from host memory")
        streamed = measures.streamed(program, member, train, host, rounds)
        watch("training populations together, and in turn")
        members = measures.members(program, settings, device, train, rounds)
        table = []
        if scaling:
            watch("larger batches, layers and codes")
            table = [
                measures.scaled(settings, program, key, size, rounds)
                for key, sizes in SCALING.items()
                for size in sizes
            ]
    return Bench(
        device=devices.describe(device),
        versions=environment.versions(),
        rounds=rounds,
        compile_seconds=compiled,
        peak_memory=peak,
        work=work,
        parts=parts,
        streamed=streamed,
        population=members,
        scaling=table,
    )


def _peak_memory(device: jax.Device) -> int:
    stats = device.memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats else memory.peak()
