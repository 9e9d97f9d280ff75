"""The report of `vaectl bench`: how fast this machine trains, evaluates and samples."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from vaectl import config, data
from vaectl.base import devices, memory
from vaectl.base.errors import ConfigError
from vaectl.bench import measures
from vaectl.bench.measures import Amount, Part, Population, Work
from vaectl.runs import environment
from vaectl.training import fit as fitting
from vaectl.training import footprint, precision
from vaectl.training.program import Member, Program


class Bench(NamedTuple):
    """The results of `vaectl bench`."""

    device: Mapping[str, object]
    versions: Mapping[str, str]
    precision: str
    """The precision of the matrix products of training."""
    rounds: int
    compile_seconds: float
    """Time to compile training and validation, without a cache."""
    peak_memory: int
    """Bytes of the process on a CPU, or of the device."""
    work: list[Work]
    parts: list[Part]
    streamed: float
    """Speed of an epoch with images in host memory, relative to one with images on the device."""
    population: Population
    scaling: list[Work]

    def as_json(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
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
    device_kind: str = "auto",
    amount: Amount = measures.DEFAULT,
    watch: Callable[[str], None] = lambda _what: None,
) -> Bench:
    """Measure how fast this machine runs an experiment.

    Args:
        settings: the experiment.
        rounds: how often each piece of work runs.
        scaling: whether to measure larger batches, layers and codes too.
        device_kind: `auto`, `cpu` or `gpu`.
        amount: the amount of work to measure.
        watch: called with a description of each part.

    Raises:
        ConfigError: the device does not exist, or its memory is too small.
        DataError: the data set is missing or broken.
    """
    device = devices.select(device_kind, keep_programs=False)
    settings, told = precision.resolved(settings, device)
    if told:
        watch(told)
    watch(f"reading {settings.data.source}")
    dataset = data.load(settings.data)
    program = Program.of(
        settings,
        images=len(dataset.train.images),
        image_shape=dataset.image_shape,
        classes=dataset.classes,
    )
    labelled = bool(program.vae.classes)
    host = np.asarray(dataset.train.rows(labelled=labelled))
    if footprint.check_training(program, len(dataset.validation.images), device):
        raise ConfigError(
            f"{settings.data.source} does not fit on the device", hint="lower data.train_size"
        )
    train, validation = jax.device_put((host, dataset.validation.rows(labelled=labelled)), device)
    member = jax.device_put(Member.of(settings), device)
    with jax.default_device(device):
        watch("compiling")
        start = time.perf_counter()
        fitting.compile_ahead(program, member, train, validation)
        compiled = time.perf_counter() - start
        watch("training, evaluating, sampling")
        work = measures.work(program, member, train, validation, rounds, amount)
        peak = _peak_memory(device)
        watch("measuring the parts of a step")
        parts = measures.parts(program, member, train, rounds)
        watch("streaming from host memory")
        streamed = measures.streamed(program, member, train, host, rounds)
        watch("training populations together, and in turn")
        members = measures.members(program, settings, device, train, rounds, amount)
        table = []
        if scaling:
            watch("larger batches, layers and codes")
            table = [
                measures.scaled(settings, program, key, size, rounds, amount)
                for key, size in measures.sizes_of(program, amount)
            ]
    return Bench(
        device=devices.describe(device),
        versions=environment.versions(),
        precision=settings.model.precision,
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
