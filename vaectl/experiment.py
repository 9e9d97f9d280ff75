"""Run an experiment: from a configuration to a run directory; resume one.

The one place where training meets the disk.
"""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from vaectl import config, data
from vaectl.base import cluster, devices, mesh, streams
from vaectl.base.errors import ConfigError, InterruptedRunError, RunError
from vaectl.base.interrupts import asked_to_stop
from vaectl.config.meaning import bits_per_dimension, dimensions, estimators, meaning, notes
from vaectl.config.naming import name_of
from vaectl.evaluation.means import Images
from vaectl.objectives.base import label
from vaectl.runs import environment
from vaectl.runs import find as runs
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import (
    BEGINNING,
    Checkpoints,
    Found,
    Info,
    best,
    check_place,
    find_intact,
    keep_only,
    kept,
    refuse_blocked,
)
from vaectl.runs.directory import RunDir, check_name
from vaectl.runs.metrics import Row
from vaectl.runs.metrics import columns as columns_of
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Best, Device, Record, Resumption, data_facts, now
from vaectl.runs.recorder import Recorder
from vaectl.training import compiled, footprint, precision
from vaectl.training import fit as fitting
from vaectl.training.events import Note, Phase, Planned, Started, Stopped, Warned, Watch, ignore
from vaectl.training.fit import Epoch, Saved
from vaectl.training.program import Member, Program, TrainState
from vaectl.training.status import Status
from vaectl.training.step import columns

FORMATS = ("png", "svg")
"""The formats of the figures that come without being asked for."""

CURVES = "curves"
"""The name of the figure of all curves."""

Stopping = Callable[[], bool]
"""A function that tells whether a signal has asked to stop."""


class Result(NamedTuple):
    """The result of a run."""

    path: Path
    record: Record
    train: Row
    """The last epoch on the training split."""
    validation: Row
    """The last epoch on the validation split."""

    def summary(self) -> str:
        """Say how good the run is, for a person; the last line is its path."""
        best = self.record.best
        lines = [f"{row.split} {_numbers(row)}" for row in (self.train, self.validation)]
        if best:
            lines[-1] += f", best {label(best.quantity)} {best.score:.2f} at epoch {best.epoch}"
        metrics = self.record.metrics
        if best and (size := self.record.dimensions):
            bits = bits_per_dimension(best.score, size)
            lines[-1] += f", {bits:.4f} bits per dimension"
        lines.append(f"{metrics['unit']}, {metrics['estimator']}, {self.record.meaning}")
        return "\n".join([*lines, str(self.path)])

    def as_json(self) -> str:
        """Return everything as one JSON object, for a program."""
        best, size = self.record.best, self.record.dimensions
        bits = {"bits_per_dimension": bits_per_dimension(best.score, size)} if best and size else {}
        result = {
            "path": str(self.path),
            **self.record.model_dump(mode="json"),
            **bits,
            "train": self.train.flat(),
            "validation": self.validation.flat(),
        }
        return json.dumps(result)


def _numbers(row: Row) -> str:
    """Write the numbers of a row: the first, and the others in parentheses."""
    first, *others = (f"{label(name)} {value:.2f}" for name, value in row.terms.items())
    return first + (f" ({', '.join(others)})" if others else "")


class Task(NamedTuple):
    """An experiment, its data, the devices that it trains on, and its watcher."""

    settings: config.Config
    dataset: data.Dataset
    devices: Sequence[jax.Device]
    """They share each batch if it has micro-batches; members of a study are spread over them."""
    streamed: bool
    """True if the images stay in host memory."""
    watch: Watch
    traced: Sequence[str] = ()
    """Keys of the optimizer that are traced: see `Program.traced`."""
    git_commit: Callable[[], str | None] = environment.git_commit
    """Finds the Git commit of the working directory, for the records of its runs."""

    @property
    def program(self) -> Program:
        """The program that it compiles to."""
        images, shape = len(self.dataset.train.images), self.dataset.image_shape
        return Program.of(
            self.settings,
            images=images,
            image_shape=shape,
            classes=self.dataset.classes,
            devices=self.devices,
            traced=self.traced,
        )

    @property
    def device(self) -> jax.Device:
        """The first of its devices that is this process's."""
        own = jax.process_index()
        return next(device for device in self.devices if device.process_index == own)

    @property
    def member(self) -> Member:
        """Its seed and learning rate, on all devices from the start.

        A state that moved there later would compile again.
        """
        return mesh.put(Member.of(self.settings, self.traced), self.everywhere)

    @property
    def everywhere(self) -> Sharding:
        """The place of what all devices have."""
        return mesh.everywhere(self.devices)

    def images(self) -> tuple[Images, Images]:
        """Bring training and validation images to the device, unless they stay where they are."""
        labelled = bool(self.program.vae.classes)
        splits = (
            self.dataset.train.rows(labelled=labelled),
            self.dataset.validation.rows(labelled=labelled),
        )
        stay = self.streamed or self.dataset.on_disk
        return splits if stay else mesh.put(splits, self.everywhere)

    @property
    def place(self) -> Device:
        """The hardware and software that the last bits of results depend on."""
        images = "streamed from host memory" if self.streamed else "on the device"
        if self.dataset.on_disk:
            images = "streamed from disk"
        several = {"devices": len(self.devices)} if len(self.devices) > 1 else {}
        return {**devices.describe(self.device), **several, "images": images}


def run(
    settings: config.Config,
    *,
    runs_dir: Path,
    name: str | None = None,
    force: bool = False,
    device_kind: str = "auto",
    stream: bool = False,
    watch: Watch = ignore,
) -> Result:
    """Train a model and leave a complete run directory.

    Args:
        settings: the experiment.
        runs_dir: where the run directory goes.
        name: of the directory; None for one made from the settings.
        force: whether an existing run of that name is replaced.
        device_kind: `auto`, `cpu` or `gpu`; several share each batch, as in `gpu:4`.
        stream: whether images stay in host memory though the device could hold them.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, an unusable name, or more than the memory holds.
        DataError: the data set is missing or broken.
        RunError: the run directory exists or cannot be written.
        DivergedError: a NaN or an infinity; the last good checkpoint stays.
        InterruptedRunError: SIGINT or SIGTERM; the state is saved.
    """
    check_name(runs_dir, name, force=force)
    check_place(runs_dir, to_save=True)
    if kind := runs.study_at(runs_dir):
        raise ConfigError(
            f"{runs_dir} is a {kind}, which makes its runs itself",
            hint="choose another --runs-dir",
        )
    settings = _resolved(settings, device_kind, watch)
    task = _task(settings, device_kind, stream, watch)
    with (
        asked_to_stop() as stopping,
        RunDir.create(runs_dir, name, name_of(settings), force=force) as rundir,
    ):
        for path in rundir.left_alone:
            watch(Warned(f"{path}: not vaectl's, and left alone"))
        watch(Note(_opening(task)))
        recorder = Recorder(rundir, settings, first_record(task, rundir), columns(task.program))
        return _carry_out(task, recorder, None, stopping)


def resume(
    rundir: RunDir,
    settings: config.Config,
    *,
    extend: bool = False,
    device_kind: str = "auto",
    stream: bool = False,
    watch: Watch = ignore,
) -> Result:
    """Go on with a run, in place, from its last good checkpoint to what it would have come to.

    Args:
        rundir: of the run.
        settings: what is asked for; it must be what the run is.
        extend: whether it may ask for another number of epochs.
        device_kind: as for `run`, whatever the run began on.
        stream: as for `run`.
        watch: told of what goes on.

    Raises:
        ConfigError: other settings than the run's, or epochs that cannot be.
        DataError: the data set is missing, broken, or another one.
        RunError: another process writes in it, or it has checkpoints and none is good.
        DivergedError: as for `run`.
        InterruptedRunError: as for `run`.
    """
    check_place(rundir.path, to_save=True)
    with rundir.lock():
        stored = rundir.read_config()
        settings = precision.as_chosen(settings, stored)
        resumption.check_settings(rundir.name, stored, settings, extend=extend)
        record = rundir.read_record() if rundir.has_record else None
        if record and record.status == "imported":
            raise record.untrained()
        if record:
            resumption.check_unchanged(rundir.name, stored, record)
        unmoved = settings.data.source == stored.data.source
        done = record and record.status == "finished" and record.epochs == settings.epochs
        if record and record.stopped and extend:
            done, record = False, record.model_copy(update={"patience_from": record.epoch})
        if record and done and unmoved:
            return _finished(rundir, record, watch)
        fingerprint = record.data["fingerprint"] if record else None
        task = _task(settings, device_kind, stream, watch, fingerprint)
        record = record or first_record(task, rundir)
        dataset = task.dataset
        record.check_data(settings.data.source, dataset.fingerprint, dataset.image_shape)
        with asked_to_stop() as stopping:
            recorder, saved = go_on(task, rundir, record)
            return _carry_out(task, recorder, saved, stopping)


def go_on(task: Task, rundir: RunDir, record: Record) -> tuple[Recorder, Saved | None]:
    """Take up a run, whose lock is held, at its last good checkpoint; delete the damaged ones.

    Returns:
        Its writer, and what was saved; None if it goes on from the beginning.

    Raises:
        ConfigError: it is past the epochs that are asked for.
        RunError: its checkpoints or metrics do not fit, or all checkpoints of a run that ended are
            gone.
    """
    found, at = _last_checkpoint(task, rundir, record)
    rows = resumption.read_metrics(rundir, at.epoch, at.metrics)
    state = _restore(task, rundir, found.intact)
    recorder = Recorder(
        rundir,
        task.settings,
        _resumed(task, rundir, record, found, at),
        columns(task.program),
        rows=rows,
        best=best(found.intact),
    )
    return recorder, state and Saved(state, at.sums, at.seconds)


def _finished(rundir: RunDir, record: Record, watch: Watch) -> Result:
    """Return the result of a run that has finished, as its files have it."""
    how = record.stopped or "is finished"
    watch(Note(f"{rundir.name} {how}; --epochs N trains it further"))
    infos = kept(rundir.checkpoints)
    last = next((info for info in infos if info.epoch == record.epoch), None)
    if last is None:
        last = BEGINNING
        watch(
            Warned(
                f"{rundir.checkpoints.path}: the checkpoint of its last epoch is gone; its "
                "numbers are read from metrics.csv unchecked"
            )
        )
    rows = resumption.read_metrics(rundir, record.epoch, last.metrics)
    return Result(rundir.path, record, *rows[-2:])


def _last_checkpoint(task: Task, rundir: RunDir, record: Record) -> tuple[Found, Info]:
    """Find the checkpoints that are intact, and the one to go on from; without any, the beginning.

    Raises:
        ConfigError: it is past the epochs that are asked for.
        RunError: it does not fit the configuration, or something is in the way of later ones.
    """
    steps, epochs = task.program.steps_per_epoch, task.settings.epochs
    found = find_intact(rundir.checkpoints)
    at = found.intact[-1] if found.intact else BEGINNING
    found = found._replace(warnings=found.warnings + _lost(rundir, record, at))
    if epochs * steps < at.step:
        raise ConfigError(
            f"--epochs {epochs}: {rundir.name} is at {at.where} already",
            hint="ask for more, or train another run",
        )
    if at.step != at.epoch * steps + at.beyond or at.beyond >= steps:
        raise RunError(
            f"{rundir.checkpoints.path / str(at.step)}: the checkpoint does not fit "
            f"config.yaml: {at.where} is another step there",
            hint="was config.yaml changed after training? Put the old one back",
        )
    refuse_blocked(rundir.checkpoints, at.step, epochs * steps)
    return found, at


def _opening(task: Task) -> str:
    """Say in one line what is trained, how, and on what."""
    settings, images = task.settings, len(task.dataset.train.images)
    model = f"{settings.model.name} {settings.model.chosen.summary(settings.model.code_size)}"
    epochs = f"{settings.epochs} epoch{'s' * (settings.epochs > 1)}"
    source, optimizer = settings.data.source, settings.optimizer.name
    products = ", products in bfloat16" if task.program.bfloat16 else ""
    return f"training {model} on {images:,} images of {source}: {epochs}, {optimizer}{products}"


def _resolved(settings: config.Config, device_kind: str, watch: Watch) -> config.Config:
    """Choose the precision of a new run if that is left to the device."""
    if settings.model.precision == "float32":
        return settings
    settings, told = precision.resolved(settings, devices.several(device_kind)[0])
    if told:
        watch(Note(f"note: {told}"))
    return settings


def _task(
    settings: config.Config,
    device_kind: str,
    stream: bool,
    watch: Watch,
    fingerprint: str | None = None,
) -> Task:
    """Choose the devices and read the data, before anything is written.

    A resumed run needs the data of its fingerprint.
    """
    chosen = devices.several(device_kind)
    watch(Phase(f"reading {settings.data.source}"))
    dataset = data.load(
        settings.data, fingerprint=fingerprint, tell=lambda text: watch(Phase(text))
    )
    task = Task(settings, dataset, chosen, streamed=False, watch=watch)
    _check_devices(task)
    task.program.check()
    held_out = len(task.dataset.validation.images)
    own = [device for device in chosen if device.process_index == task.device.process_index]
    at_once = len(own) if task.device.platform == "cpu" else 1  # they share one memory
    with jax.default_device(task.device):  # as in training: what is traced is not traced again
        must_stream = footprint.check_training(
            task.program, held_out, task.device, at_once, on_disk=dataset.on_disk
        )
    task = task._replace(streamed=must_stream or stream)
    images = len(dataset.train.images)
    if settings.batch_size > images:
        watch(Note(f"note: a batch has all {images:,} images: batch_size is larger"))
    for note in (*task.dataset.notes, *notes(settings)):
        watch(Note(f"note: {note}"))
    return task


def _check_devices(task: Task) -> None:
    """Refuse several devices if a batch has no parts that they can share.

    Raises:
        ConfigError: their number is no power of 2, or there are fewer parts than devices; or there
            are several processes, and the model keeps random keys, which these cannot save.
    """
    count, settings = len(task.devices), task.settings
    if not cluster.is_alone():
        kept = compiled.shapes(task.program, task.program.somebody).params
        if any(map(streams.is_key, jax.tree.leaves(kept))):
            raise ConfigError(
                f"the model {settings.model.name} keeps random keys, for dropout or noise, which "
                "several processes cannot save",
                hint="train it in one process, on any number of its devices, or without dropout "
                "and noise",
            )
    if count & (count - 1):
        raise ConfigError(
            f"{count} devices cannot share a batch equally", hint="use 2, 4, 8, ... devices"
        )
    if settings.microbatches < count:
        parts = 2 * count
        batch = -(-settings.batch_size // parts) * parts
        raise ConfigError(
            f"{count} devices share the micro-batches of a batch, and microbatches is "
            f"{settings.microbatches}",
            hint=f"--set microbatches={parts} --batch-size {batch}",
        )


def _carry_out(task: Task, recorder: Recorder, saved: Saved | None, stopping: Stopping) -> Result:
    """Train and draw; however that ends, the record says how."""
    path = recorder.rundir.path
    goes_on = f"vaectl train --resume {shlex.quote(str(path))}"
    try:
        with jax.default_device(task.device):
            header = f"the resolved configuration of {recorder.rundir.name}; to repeat it:\n"
            recorder.begin(header + f"vaectl train {shlex.quote(str(path / 'config.yaml'))}")
            _train(task, recorder, saved, stopping)
            task.watch(Phase("drawing curves"))
            draw_curves(recorder.rundir, task.settings, recorder.record, recorder.rows)
        if stopping():
            raise KeyboardInterrupt  # the first signal only asked to stop
    except KeyboardInterrupt:
        _end(task, recorder, "interrupted")
        raise InterruptedRunError(
            f"interrupted after epoch {recorder.record.epoch} of {task.settings.epochs}",
            hint=f"{goes_on} goes on from there",
        ) from None
    except RunError as error:
        _end(task, recorder, "failed", error.message)
        raise _with_way_on(error, goes_on) from error
    except BaseException as error:
        _end(task, recorder, "failed", str(error) or type(error).__name__)
        raise
    try:
        _end(task, recorder, "finished")
    except RunError as error:
        raise _with_way_on(error, goes_on) from error
    return Result(path, recorder.record, *recorder.rows[-2:])


def _end(task: Task, recorder: Recorder, status: Status, error: str = "") -> None:
    """Write the last record, and tell of it."""
    recorder.end(status, error)
    if recorder.record.stopped:
        task.watch(Note(f"{recorder.record.stopped}; to go on: --resume with --epochs N"))
    task.watch(Stopped(recorder.rundir.name, status, error))


def _with_way_on(error: RunError, goes_on: str) -> RunError:
    """Add how to go on once the cause is gone."""
    hints = [error.hint or "what was saved before is intact", f"then {goes_on}"]
    return RunError(error.message, hint="; ".join(hints))


def _train(task: Task, recorder: Recorder, saved: Saved | None, stopping: Stopping) -> None:
    """Train until the last epoch, or until asked to stop."""
    settings, program = task.settings, task.program
    step = saved.step if saved else 0
    if step == program.epochs * program.steps_per_epoch or recorder.stops_early():
        return
    task.watch(Phase("compiling"))
    train, validation = task.images()
    member = task.member
    cluster.tell(
        {
            "settings": settings.model_dump(mode="json"),
            "same": same_everywhere(settings),
            "fingerprint": task.dataset.fingerprint,
            "streamed": task.streamed,
            "resumed": saved is not None,
        }
    )
    with cluster.prepared():  # this process is; the others may not be
        pass
    fitting.compile_ahead(program, member, train, validation)
    state = first_state(program, member, saved.state if saved else None)
    if stopping():
        return
    name = recorder.rundir.name
    task.watch(Planned(1, settings.epochs))
    task.watch(Started(name, settings, task.dataset, recorder.rundir.path, step))
    saved = saved._replace(state=state) if saved else Saved(state)
    events = fitting.fit(
        program, member, saved.state, train, validation, sums=saved.sums, seconds=saved.seconds
    )
    with quiet_orbax(), recorder.saving():
        for of_all in events:
            event = of_all._replace(state=mesh.on_first(of_all.state))
            recorder.take(event)
            task.watch(event._replace(member=name))
            recorder.save_if_due(event)  # after the news: before its first save Orbax is imported
            if stopping() or (isinstance(event, Epoch) and recorder.stops_early()):
                recorder.save(event)
                return


def same_everywhere(settings: config.Config) -> dict[str, str]:
    """Return what must be the same in processes that train together: versions, and plugs."""
    plugs = {f"{plug.kind} {plug.name}": str(plug.sha256) for plug in resumption.plugs_of(settings)}
    return {**environment.versions(), **plugs}


def first_state(
    program: Program, member: Member, saved: TrainState | None = None, *, resumed: bool = False
) -> TrainState:
    """Return the state that training begins with, in all processes that train together.

    Args:
        program: what is compiled.
        member: seed and learning rate.
        saved: what the first process goes on from.
        resumed: True in a process that gets this from the first one.
    """
    if saved is None and not resumed:
        new: TrainState = compiled.init(program, member)
        return new
    if saved is None:
        shapes = compiled.shapes(program, member)
        saved = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state: TrainState = cluster.of_first(saved)
    return state


def draw_curves(
    rundir: RunDir, settings: config.Config, record: Record, rows: Sequence[Row]
) -> None:
    """Draw the numbers of a run by epoch: each of them, and all side by side.

    Raises:
        RunError: a figure cannot be written.
    """
    from vaectl.pictures import figures  # Matplotlib takes half a second to import

    how = estimators(settings)
    title = f"{rundir.name}\n{record.meaning}"
    names = columns_of(rows)
    for name, drawn in {CURVES: names, **{name: [name] for name in names}}.items():
        rundir.write_figure(name, figures.curves(rows, *drawn, title=title, how=how), FORMATS)


def _restore(task: Task, rundir: RunDir, intact: list[Info]) -> TrainState | None:
    """Load the last of the checkpoints onto the device, and delete all but these."""
    state = None
    if intact:
        member = jax.device_put(Member.of(task.settings), task.device)
        like = compiled.shapes(task.program, member)
        with quiet_orbax(), Checkpoints(rundir.checkpoints) as checkpoints:
            state = checkpoints.restore(intact[-1], like)
    keep_only(rundir.checkpoints, {info.step for info in intact})
    return state


def _lost(rundir: RunDir, record: Record, at: Info) -> list[str]:
    """Say what a run has been through and has no checkpoint of.

    Raises:
        RunError: it ended, and all its checkpoints are gone: to begin again would destroy it.
    """
    ended = record.status in ("finished", "interrupted")
    if at.epoch >= record.epoch or (at.step and not ended):
        # a kill may come between the record and its checkpoint
        return []
    if ended and not at.step:
        raise RunError(
            f"{rundir.checkpoints.path}: no checkpoint is left of the {record.epoch} epochs of "
            f"{rundir.name}",
            hint="put them back from a copy, or train again under another --name",
        )
    return [f"{rundir.name} was at epoch {record.epoch}; its last checkpoint is of {at.where}"]


def _resumed(task: Task, rundir: RunDir, record: Record, found: Found, at: Info) -> Record:
    """Return the record of a run that goes on; tell from where, and what has changed."""
    versions, device = environment.versions(), task.place
    warnings = found.warnings + resumption.differences(record, versions, device)
    warnings += resumption.changed_plugs(task.settings, record)
    for warning in warnings:
        task.watch(Warned(warning))
    where = f"after {at.where}" if at.step else "from the beginning: there is no checkpoint"
    task.watch(Note(f"{rundir.name} goes on {where}"))
    top = best(found.intact)
    resumption_ = Resumption(
        time=now(),
        epoch=at.epoch,
        step=at.step,
        command=sys.argv,
        git_commit=task.git_commit(),
        versions=versions,
        device=device,
        warnings=warnings,
    )
    return record.model_copy(
        update={
            "name": rundir.name,
            "status": "running",
            "error": None,
            "end": None,
            "stopped": None,
            "epoch": at.epoch,
            "epochs": task.settings.epochs,
            "best": top and Best(epoch=top.epoch, quantity=top.quantity, score=top.score or 0.0),
            "data": {**record.data, "source": task.settings.data.source},
            "resumed": [*record.resumed, resumption_],
        }
    )


def first_record(task: Task, rundir: RunDir) -> Record:
    """Return the record of a run before it trains."""
    settings, dataset = task.settings, task.dataset
    samples = settings.objective.samples
    return Record(
        name=rundir.name,
        status="running",
        seed=settings.seed,
        epochs=settings.epochs,
        start=now(),
        command=sys.argv,
        git_commit=task.git_commit(),
        versions=environment.versions(),
        device=task.place,
        data=data_facts(settings.data.source, dataset),
        settings=resumption.settled(settings),
        plugs=resumption.plugs_of(settings),
        metrics={
            "unit": "nats per image",
            "estimator": settings.objective.chosen.estimator(samples),
            "binarization": meaning(settings),
            "train": "mean over the epoch, each batch under the parameters that it met",
            "validation": "mean over the split under the parameters at the end of the epoch",
        },
        dimensions=dimensions(settings, dataset.image_shape),
    )
