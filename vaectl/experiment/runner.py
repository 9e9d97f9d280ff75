"""Run an experiment: from a configuration to a run directory; resume one.

The one place where training meets the disk.
"""

import shlex
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from vaectl import config
from vaectl.base import cluster, mesh, plugins
from vaectl.base.errors import InterruptedRunError, RunError
from vaectl.base.interrupts import asked_to_stop
from vaectl.config.naming import name_of
from vaectl.experiment import curves
from vaectl.experiment.going_on import first_record, go_on
from vaectl.experiment.result import Result
from vaectl.experiment.task import Task, opening, prepared, resolved
from vaectl.runs import environment
from vaectl.runs import find as runs
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import check_place
from vaectl.runs.directory import RunDir
from vaectl.runs.names import check_name
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Record
from vaectl.runs.recorder import Recorder
from vaectl.runs.saved import BEGINNING, kept
from vaectl.training import compiled, precision
from vaectl.training import fit as fitting
from vaectl.training.events import Note, Phase, Planned, Started, Stopped, Warned, Watch, ignore
from vaectl.training.fit import Epoch, Saved
from vaectl.training.program import Member, Program, TrainState
from vaectl.training.status import Status
from vaectl.training.step import columns

Stopping = Callable[[], bool]
"""A function that tells whether a signal has asked to stop."""


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
        stream: whether images stay in host memory although the device could hold them.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, an unusable name, or more than the memory holds.
        DataError: the data set is missing or broken.
        RunError: the run directory exists or cannot be written.
        DivergedError: a NaN or an infinity; the last good checkpoint stays.
        InterruptedRunError: SIGINT, SIGTERM or SIGHUP; the state is saved.
    """
    check_name(runs_dir, name, force=force)
    check_place(runs_dir, to_save=True)
    runs.refuse_study(runs_dir)
    settings = resolved(settings, device_kind, watch)
    task = prepared(settings, device_kind, stream, watch)
    with (
        asked_to_stop() as stopping,
        RunDir.create(runs_dir, name, name_of(settings), force=force) as rundir,
    ):
        for path in rundir.left_alone:
            watch(Warned(f"{path}: not vaectl's, and left alone"))
        watch(Note(opening(task)))
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
    """Resume a run in place from its last good checkpoint, to the result of an uninterrupted run.

    Args:
        rundir: of the run.
        settings: the requested settings; they must be those of the run.
        extend: whether the requested number of epochs may differ.
        device_kind: as for `run`, whatever the run began on.
        stream: as for `run`.
        watch: told of what goes on.

    Raises:
        ConfigError: the settings differ from the run's, or the number of epochs is impossible.
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
            if stored.epochs != record.epochs and not extend:
                watch(
                    Warned(
                        f"{rundir.name}: epochs were {record.epochs} when it last trained, and are "
                        f"{stored.epochs} in its config.yaml now: it is trained until then"
                    )
                )
        unmoved = settings.data.source == stored.data.source
        done = record and record.status == "finished" and record.epochs == settings.epochs
        if record and record.stopped and extend:
            done, record = False, record.model_copy(update={"patience_from": record.epoch})
        if record and done and unmoved:
            return _finished(rundir, record, watch)
        fingerprint = record.data["fingerprint"] if record else None
        task = prepared(settings, device_kind, stream, watch, fingerprint)
        record = record or first_record(task, rundir)
        dataset = task.dataset
        record.check_data(settings.data.source, dataset.fingerprint, dataset.image_shape)
        with asked_to_stop() as stopping:
            recorder, saved = go_on(task, rundir, record)
            return _carry_out(task, recorder, saved, stopping)


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


def _carry_out(task: Task, recorder: Recorder, saved: Saved | None, stopping: Stopping) -> Result:
    """Train and draw; the record says how it ended, in any case."""
    path = recorder.rundir.path
    goes_on = _command("--resume", path)
    try:
        with jax.default_device(task.device):
            header = f"the resolved configuration of {recorder.rundir.name}; to repeat it:\n"
            recorder.begin(header + _command(path / "config.yaml"))
            _train(task, recorder, saved, stopping)
            if recorder.rows:
                task.watch(Phase("drawing curves"))
                curves.draw(recorder.rundir, task.settings, recorder.record, recorder.rows)
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


def _command(*arguments: Path | str) -> str:
    """Write a command that trains with the same files of plugs."""
    files = (word for file in plugins.files() for word in ("--plugin", file.path))
    return shlex.join(["vaectl", "train", *map(str, arguments), *files])


def _end(task: Task, recorder: Recorder, status: Status, error: str = "") -> None:
    """Write the last record, and tell of it."""
    recorder.end(status, error)
    if recorder.record.stopped:
        task.watch(Note(f"{recorder.record.stopped}; to go on: --resume with --epochs N"))
    task.watch(Stopped(recorder.rundir.name, status, error))


def _with_way_on(error: RunError, goes_on: str) -> RunError:
    """Add a hint how to resume after the cause is removed."""
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
            "began": saved and saved.began,
        }
    )
    with cluster.prepared():  # this process is ready, but the others may not be
        pass
    fitting.compile_ahead(program, member, train, validation)
    state = first_state(program, member, saved.state if saved else None)
    if stopping():
        return
    name = recorder.rundir.name
    task.watch(Planned(1, settings.epochs))
    task.watch(Started(name, settings, task.dataset, recorder.rundir.path, step))
    saved = saved._replace(state=state) if saved else Saved(state)
    events = fitting.fit(program, member, saved, train, validation)
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

    `saved` is what the first process goes on from; in the others, `resumed` says that they get it.
    """
    if saved is None and not resumed:
        new: TrainState = compiled.init(program, member)
        return new
    if saved is None:
        shapes = compiled.shapes(program, member)
        saved = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state: TrainState = cluster.of_first(saved)
    return state
