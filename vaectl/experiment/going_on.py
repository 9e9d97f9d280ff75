"""Resumption of a run from its last good checkpoint, and its record."""

import sys

import jax

from vaectl.base.errors import ConfigError, RunError
from vaectl.config.meaning import dimensions, meaning
from vaectl.experiment.task import Task
from vaectl.runs import environment
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.directory import RunDir
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Best, Record, Resumption, data_facts, now
from vaectl.runs.recorder import Recorder
from vaectl.runs.saved import BEGINNING, Found, Info, best, find_intact, keep_only, refuse_blocked
from vaectl.training import compiled
from vaectl.training.events import Note, Warned
from vaectl.training.fit import Saved
from vaectl.training.program import Member, TrainState
from vaectl.training.step import columns


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
        command=list(task.command or sys.argv),
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


def go_on(
    task: Task, rundir: RunDir, record: Record, *, unrounded: bool = False
) -> tuple[Recorder, Saved | None]:
    """Take up a run, whose lock is held, at its last good checkpoint; delete the damaged ones.

    Args:
        task: the experiment.
        rundir: of the run.
        record: the run's.
        unrounded: whether its metrics are also kept unrounded, as for a member of a study.

    Returns:
        Its writer, and what was saved; None if it goes on from the beginning.

    Raises:
        ConfigError: it is past the epochs that are asked for.
        RunError: its checkpoints or metrics do not fit the run, or the run ended and all its
            checkpoints are gone.
    """
    found, at = _last_checkpoint(task, rundir, record)
    rows = resumption.read_metrics(rundir, at.epoch, at.metrics)
    if unrounded:
        rows = rundir.read_unrounded(rows)
    state = _restore(task, rundir, found.intact)
    recorder = Recorder(
        rundir,
        task.settings,
        _resumed(task, rundir, record, found, at),
        columns(task.program),
        rows=rows,
        best=best(found.intact),
        unrounded=unrounded,
    )
    return recorder, state and Saved(state, at.sums, at.seconds, at.began)


def _last_checkpoint(task: Task, rundir: RunDir, record: Record) -> tuple[Found, Info]:
    """Find the intact checkpoints, and the one to go on from; without any, the beginning."""
    steps, epochs = task.program.steps_per_epoch, task.settings.epochs
    found = find_intact(rundir.checkpoints)
    at = found.intact[-1] if found.intact else BEGINNING
    found = found._replace(warnings=found.warnings + _lost(rundir, record, at))
    if epochs * steps < at.step:
        raise ConfigError(
            f"{rundir.name} is at {at.where} already, and is to end after epoch {epochs}",
            hint="ask for more by --epochs, or train another run",
        )
    if at.step != at.epoch * steps + at.beyond or at.beyond >= steps:
        raise RunError(
            f"{rundir.checkpoints.path / str(at.step)}: the checkpoint does not fit "
            f"config.yaml: {at.where} is another step there",
            hint="was config.yaml changed after training? Put the old one back",
        )
    refuse_blocked(rundir.checkpoints, at.step, epochs * steps)
    return found, at


def _lost(rundir: RunDir, record: Record, at: Info) -> list[str]:
    """Return a warning if a run trained further than its last checkpoint."""
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


def _resumed(task: Task, rundir: RunDir, record: Record, found: Found, at: Info) -> Record:
    """Return the record of a resumed run; report from where it goes on, and what has changed."""
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
        command=list(task.command or sys.argv),
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
