"""Run an experiment: from a configuration to a run directory.

The one place where training meets the disk.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp

from vaectl import config, configfile, data, devices, environment, figures, fitting, training
from vaectl.checkpoints import Checkpoints, Info
from vaectl.data.binarization import meaning
from vaectl.devices import DeviceKind
from vaectl.errors import DivergedError, InterruptedRunError, RunError
from vaectl.fitting import Chunk, Epoch
from vaectl.interrupts import asked_to_stop
from vaectl.progress import Note, Phase, Training, Watch, ignore
from vaectl.record import Best, Record, Row, now
from vaectl.rundir import RunDir, check_name
from vaectl.training import TrainState


class Result(NamedTuple):
    """What a run came to."""

    path: Path
    record: Record
    train: Row
    """Of the last epoch."""
    validation: Row
    """Of the last epoch."""

    def summary(self) -> str:
        """For a person: how good it is; the last line is the path."""
        best = self.record.best
        lines = [
            f"{row.split} ELBO {row.elbo:.2f} (KL {row.kl:.2f}, NLL {row.nll:.2f})"
            for row in (self.train, self.validation)
        ]
        lines[-1] += f", best {best.validation_elbo:.2f} at epoch {best.epoch}" if best else ""
        metrics = self.record.metrics
        lines.append(f"{metrics['unit']}, {metrics['estimator']}, {metrics['binarization']}")
        return "\n".join([*lines, str(self.path)])

    def as_json(self) -> str:
        """For a program: one object."""
        result = {
            "path": str(self.path),
            **self.record.model_dump(mode="json"),
            "train": self.train._asdict(),
            "validation": self.validation._asdict(),
        }
        return json.dumps(result)


def run(
    settings: config.Config,
    *,
    runs_dir: Path,
    name: str | None = None,
    force: bool = False,
    device_kind: DeviceKind = "auto",
    watch: Watch = ignore,
) -> Result:
    """Train a model and leave a complete run directory.

    Args:
        settings: the experiment.
        runs_dir: where the run directory goes.
        name: of the directory; None for one made from the settings.
        force: whether an existing run of that name is replaced.
        device_kind: `auto`, `cpu` or `gpu`.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, or an unusable name.
        DataError: the data set is missing or broken.
        RunError: the run directory exists or cannot be written.
        DivergedError: a NaN or an infinity; the last good checkpoint stays.
        InterruptedRunError: SIGINT or SIGTERM; the state is saved.
    """
    check_name(runs_dir, name, force=force)
    device = devices.select(device_kind)
    watch(Phase(f"reading {settings.data.source}"))
    dataset = data.load(settings.data)
    if settings.data.binarization == "none":
        watch(Note(f"note: {meaning(settings.data)}"))
    with RunDir.create(runs_dir, name, default_name(settings), force=force) as rundir:
        recorder = _Recorder(rundir, settings, first_record(settings, rundir, device, dataset))
        try:
            with asked_to_stop() as stopping, jax.default_device(device):
                recorder.begin()
                _train(settings, dataset, device, recorder, watch, stopping)
                watch(Phase("drawing curves"))
                recorder.draw()
            if recorder.record.epoch < settings.epochs:
                raise KeyboardInterrupt  # the first signal only asked to stop
        except KeyboardInterrupt:
            recorder.end("interrupted")
            raise InterruptedRunError(
                f"interrupted after epoch {recorder.record.epoch} of {settings.epochs}",
                hint=f"what it came to is in {rundir.path}",
            ) from None
        except OSError as error:
            recorder.end("failed", str(error))
            raise RunError(
                f"{error.filename or rundir.path}: cannot be written: {error.strerror}",
                hint=f"what was saved before is intact in {rundir.path}",
            ) from error
        except BaseException as error:
            recorder.end("failed", str(error) or type(error).__name__)
            raise
        recorder.end("finished")
        return Result(rundir.path, recorder.record, *recorder.rows[-2:])


def default_name(settings: config.Config) -> str:
    """A readable name: data, code size, optimizer, seed."""
    scheme, _, rest = settings.data.source.partition(":")
    known = {"idx": Path(rest).name, "npz": Path(rest).stem, "tfds": rest}.get(scheme, scheme)
    source = re.sub(r"[^A-Za-z0-9]+", "-", known).strip("-")[:40] or "data"
    size, optimizer = settings.model.code_size, settings.optimizer.name
    return f"{source}-z{size}-{optimizer}-s{settings.seed}"


def _train(
    settings: config.Config,
    dataset: data.Dataset,
    device: jax.Device,
    recorder: "_Recorder",
    watch: Watch,
    stopping: Callable[[], bool],
) -> None:
    """Train until the last epoch, or until asked to stop."""
    watch(Phase("compiling"))
    images = jax.device_put((dataset.train.images, dataset.validation.images), device)
    program = training.program(settings, images=len(images[0]), pixels=dataset.pixels)
    # all on the device from the start: a state that moves there later would compile again
    member = jax.device_put(training.member(settings), device)
    fitting.compile_ahead(program, member, *images)
    state = training.init(program, member)
    watch(Training(settings.epochs, program.images, program.steps_per_epoch))
    with Checkpoints(recorder.rundir.checkpoints) as checkpoints:
        try:
            for epoch in fitting.fit(program, member, state, *images):
                if isinstance(epoch, Chunk):
                    watch(epoch)
                    continue
                recorder.epoch(epoch)
                watch(epoch)
                stop = stopping() or epoch.epoch == settings.epochs
                if stop or epoch.epoch % settings.checkpoint.every == 0:
                    recorder.save(checkpoints, epoch)
                if stop:
                    return
        except DivergedError:
            with contextlib.suppress(RunError):  # that it diverged is the greater news
                recorder.save_best(checkpoints)
            raise


@final
class _Recorder:
    """Writes what a run comes to, as it comes."""

    def __init__(self, rundir: RunDir, settings: config.Config, record: Record) -> None:
        self.rundir = rundir
        self.record = record
        self.rows: list[Row] = []
        self._settings = settings
        self._best: tuple[Info, TrainState] | None = None

    def begin(self) -> None:
        """Write what is known before training."""
        header = f"the resolved configuration of {self.rundir.name}; to repeat it:\n"
        header += f"vaectl train {self.rundir.path / 'config.yaml'}"
        self.rundir.write_config(configfile.dump(self._settings, header))
        self.rundir.write_record(self.record)

    def epoch(self, epoch: Epoch) -> None:
        """Write an epoch's metrics, and remember its state if it is the best so far."""
        at, train, validation = (epoch.epoch, epoch.step), epoch.train, epoch.validation
        self.rows += [
            Row(*at, "train", train.elbo, *train, epoch.train_seconds),
            Row(*at, "validation", validation.elbo, *validation, epoch.validation_seconds),
        ]
        self.rundir.write_metrics(self.rows)
        info = _info(epoch)
        if self._best is None or info.validation_elbo > self._best[0].validation_elbo:
            # a copy: the state itself is donated to the next epoch
            self._best = info, jax.tree.map(jnp.copy, epoch.state)
            best = Best(epoch=info.epoch, validation_elbo=info.validation_elbo)
            self.record = self.record.model_copy(update={"best": best})
        self.record = self.record.model_copy(update={"epoch": epoch.epoch})

    def save(self, checkpoints: Checkpoints, epoch: Epoch) -> None:
        """Save the best state and the latest, which may be the same."""
        if self._best is not None and self._best[0].step != epoch.step:
            self.save_best(checkpoints)
        checkpoints.save(epoch.state, _info(epoch))
        self.rundir.write_record(self.record)

    def save_best(self, checkpoints: Checkpoints) -> None:
        """Save the best state, unless it is on disk."""
        if self._best is not None and self._best[0].step not in checkpoints:
            info, state = self._best
            checkpoints.save(state, info)

    def draw(self) -> None:
        """Draw the curves."""
        if self.rows:
            metrics = self.record.metrics
            title = f"{self.rundir.name}\n{metrics['estimator']}, {metrics['binarization']}"
            for quantity in figures.LABELS:
                figure = figures.curves(self.rows, quantity, title=title)
                self.rundir.write_figure(quantity, figure, ("png", "svg"))

    def end(self, status: Literal["finished", "interrupted", "failed"], error: str = "") -> None:
        """Write the last record, if that can be done at all."""
        self.record = self.record.model_copy(
            update={"status": status, "error": error or None, "end": now()}
        )
        with contextlib.suppress(OSError):
            self.rundir.write_record(self.record)


def _info(epoch: Epoch) -> Info:
    return Info(epoch=epoch.epoch, step=epoch.step, validation_elbo=epoch.validation.elbo)


def first_record(
    settings: config.Config, rundir: RunDir, device: jax.Device, dataset: data.Dataset
) -> Record:
    """What is known of a run before it trains."""
    samples = settings.objective.samples
    splits = {name: len(getattr(dataset, name).images) for name in ("train", "validation", "test")}
    return Record(
        name=rundir.name,
        status="running",
        seed=settings.seed,
        epochs=settings.epochs,
        start=now(),
        command=sys.argv,
        git_commit=environment.git_commit(),
        versions=environment.versions(),
        device=devices.describe(device),
        data={
            "source": settings.data.source,
            "fingerprint": dataset.fingerprint,
            "image_shape": list(dataset.image_shape),
            "images": splits,
        },
        metrics={
            "unit": "nats per image",
            "estimator": f"ELBO, {samples} sample{'s' * (samples > 1)}",
            "binarization": meaning(settings.data),
            "train": "mean over the epoch, each batch under the parameters that it met",
            "validation": "mean over the split under the parameters at the end of the epoch",
        },
    )
