"""Run a study: the trials that are missing, then the test split, once.

runs/<name>/
  comparison.yaml    the resolved configuration, or sweep.yaml; the command on it continues
  trials/            every trial, sealed; see `vaectl.studies.ledger`
  trials.csv         one row per trial, for people
  curves.csv         one row per trial, epoch and split, for people
  points.csv         of a sweep: one row per trial, with the values of what varies
  <label>-s<seed>/   an ordinary run per trial that leaves one
  summary.json       statistics
  figures/           curves and statistics, drawn
  report.html        all of it on one page
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Required, TypedDict

import jax

from vaectl import data
from vaectl.base import devices, spent
from vaectl.base.errors import ConfigError, InterruptedRunError
from vaectl.base.files import Folder
from vaectl.base.interrupts import asked_to_stop
from vaectl.config.meaning import notes, without_effect
from vaectl.config.schema import Config
from vaectl.executors import Executor, default
from vaectl.executors.base import Surroundings
from vaectl.experiment import Task
from vaectl.runs import environment
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import check_place
from vaectl.runs.metrics import Row
from vaectl.runs.names import check_name
from vaectl.runs.record import Device, Evaluation
from vaectl.sinks.base import Sink
from vaectl.studies import directory, unsealed
from vaectl.studies.directory import Kind
from vaectl.studies.ended import Ended
from vaectl.studies.engine import Engine, Steps
from vaectl.studies.facts import places
from vaectl.studies.ledger import Ledger
from vaectl.studies.testing import Tests
from vaectl.studies.trial import Trial
from vaectl.training import footprint
from vaectl.training.events import Note, Phase, Warned, Watch, ignore


class Study(ABC):
    """The trainings of a study, and their purpose."""

    kind: ClassVar[Kind]

    def __init__(self, settings: Any) -> None:
        """Prepare to train a study with such a configuration."""
        self.settings = settings
        self.base: Config = settings.base
        self.importance_samples: int = settings.importance_samples

    @property
    @abstractmethod
    def experiments(self) -> Iterable[Config]:
        """Its experiments, each at one seed; each of them must fit into memory."""

    @abstractmethod
    def parts(self, engine: Engine) -> Iterable[Steps]:
        """Yield its parts, and tell the engine the number of members and epochs."""

    def check(self, engine: Engine) -> None:  # noqa: B027  # most can do without lost trials
        """Refuse to publish if trials that are needed are missing."""

    def close(  # noqa: B027
        self,
        task: Task,
        folder: Folder,
        found: Sequence[Finished],
        stopping: Callable[[], bool],
    ) -> None:
        """Do what is left to do once all has ended, while the directory is locked.

        Raises:
            KeyboardInterrupt: `stopping` told that a signal has asked to stop.
        """

    @abstractmethod
    def tested(self, found: Sequence[Finished]) -> Sequence[Finished]:
        """Return the trials whose best models are evaluated on the test split."""


class Finished(NamedTuple):
    """A trial that ended."""

    trial: Trial
    ended: Ended
    tested: Evaluation | None = None
    """Its best epoch on the test split; None if it is not evaluated there, or diverged."""


def places_of(found: Iterable[Finished]) -> dict[tuple[str, int], str]:
    """Name what each trial that leaves a run was trained on, by its label and its seed."""
    return places(
        (trial.label, trial.settings.seed, record)
        for trial, ended, _ in found
        if (record := ended.record)
    )


class Outcome(NamedTuple):
    """The outcome of a study."""

    path: Path
    trials: list[Finished]
    """The trials that ended, in the order of the configuration."""
    paused: Mapping[Trial, Sequence[Row]]
    """Trials that can go on, and their metrics so far."""
    problems: list[str]
    """The reasons why runs are damaged, or could not be evaluated."""
    lost: list[str]
    """The trials that were given up, because their workers ended; and why."""
    trained: float
    """Seconds of the training steps of this command."""


class How(TypedDict, total=False):
    """The way in which a study is run, as `run` describes it."""

    runs_dir: Required[Path]
    name: str | None
    force: bool
    retry: bool
    device_kind: str
    executor: Executor | None
    sinks: Sequence[Sink]
    watch: Watch


@spent.watching_compilation()
def run(
    study: Study,
    *,
    runs_dir: Path,
    name: str | None = None,
    force: bool = False,
    retry: bool = False,
    device_kind: str = "auto",
    executor: Executor | None = None,
    sinks: Sequence[Sink] = (),
    watch: Watch = ignore,
) -> Outcome:
    """Train all members that have not been trained, and evaluate the best models.

    Args:
        study: what is trained.
        runs_dir: where the study's directory goes.
        name: of the directory; None for one made from the settings.
        force: whether a study of that name is begun again.
        retry: whether trials that diverged are trained again.
        device_kind: `auto`, `cpu` or `gpu`; members are spread over several, as in `gpu:4`, or
            these share each batch if it has micro-batches.
        executor: where members train; None for the default.
        sinks: follow the members of the result.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, more than its memory holds, an unusable name, or the name of a
            study with other settings.
        DataError: the data set is missing or broken.
        RunError: the directory cannot be written, or another process writes in it.
        InterruptedRunError: SIGINT, SIGTERM or SIGHUP; the same command continues.
    """
    kind, settings = study.kind, study.settings
    check_name(runs_dir / "-", name, force=False)  # an existing directory is checked below
    path = runs_dir / (name or kind.default_name(settings))
    check_place(path, to_save=True)
    directory.check(kind, settings, path, force=force)
    executor = executor or default()
    task = prepare(study, device_kind, executor, watch)

    def tell(text: str) -> None:
        watch(Warned(text))

    with asked_to_stop() as stopping, directory.locked(path, force=force) as left_alone:
        for left in left_alone:
            tell(f"{left}: not vaectl's, and left alone")
        if not force:
            directory.check(kind, settings, path, force=False)  # another process may have been here
        directory.write_settings(kind, path, settings)  # first: by this it is a study
        folder = Folder(path)
        ledger = Ledger(folder, tell, unsealed.seal(folder, tell))
        ledger.check_data(study.base.data.source, task.dataset)
        if retry:
            ledger.forget([trial for trial in ledger.ended.values() if trial.error])
        engine = Engine(folder, task, ledger, stopping, executor.at_once)
        tests = Tests(folder, ledger, task, study.importance_samples, stopping)
        try:
            with executor.open(Surroundings(task, folder, sinks, stopping)) as pool:
                for difference in _differences(ledger, pool.place):
                    tell(f"since trials that are there, {difference}")
                planned = engine.run(pool, study.parts(engine))
            study.check(engine)
            whole = dict.fromkeys(trial.whole for trial in planned)
            found = [Finished(trial, engine.ended(trial)) for trial in whole if engine.has(trial)]
            with jax.default_device(task.device):
                tested = {trial: tests.of(trial, ended) for trial, ended, _ in study.tested(found)}
            study.close(task, folder, found, stopping)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted; trials that are done: {len(ledger.ended)}",
                hint="the same command continues after them, and with what was under way from its "
                "last checkpoint",
            ) from None
        ledger.sync()
        lost = [f"{trial}: {why}" for trial, why in engine.lost.items()]
        trials = [each._replace(tested=tested.get(each.trial)) for each in found]
        return Outcome(path, trials, engine.paused, tests.problems, lost, engine.trained)


def prepare(study: Study, device_kind: str, executor: Executor, watch: Watch) -> Task:
    """Choose the devices and read the data; check that every experiment fits.

    Raises:
        ConfigError: no such device, or an experiment needs more memory than there is.
        DataError: the data set is missing or broken.
    """
    experiments = [*study.experiments]
    if any(one.model.precision == "auto" for one in experiments):
        raise ConfigError(
            "model.precision auto: members are compared at one precision, on whatever device",
            hint="set model.precision to float32 or bfloat16",
        )
    chosen = devices.several(device_kind)
    device = chosen[0]
    if len(chosen) > 1 and not executor.spreads:
        raise ConfigError(
            f"--device {device_kind}: its workers use one device each",
            hint="leave --executor out, and this process uses all of them",
        )
    executor.check(device)
    watch(Phase(f"reading {study.base.data.source}"))
    with spent.on("loading"):
        dataset = data.load(study.base.data, tell=lambda text: watch(Phase(text)))
    held_out = len(dataset.validation.images)
    at_once = executor.processes * (len(chosen) if device.platform == "cpu" else 1)
    commit = cache(environment.git_commit)
    task = Task(study.base, dataset, chosen, False, watch, git_commit=commit)
    programs = dict.fromkeys(task._replace(settings=one).program for one in experiments)
    for each in programs:
        each.check()
    with jax.default_device(device):  # as in training: what is traced here is not traced again
        # each is checked, whatever another one needs
        streamed = {
            footprint.check_training(each, held_out, device, at_once, on_disk=dataset.on_disk)
            for each in programs
        }
    if len(chosen) > 1 and (any(streamed) or dataset.on_disk):
        watch(Note("note: images that are streamed train on one device, one member after another"))
    idle = dict.fromkeys(note for one in experiments for note in without_effect(one))
    for note in (*dataset.notes, *notes(study.base), *idle):
        watch(Note(f"note: {note}"))
    return task._replace(streamed=any(streamed))


def _differences(ledger: Ledger, place: Device) -> list[str]:
    """List differences from the environment of existing trials that may change the last bits."""
    versions = environment.versions()
    records = (record for trial in ledger.ended.values() if (record := trial.record))
    found = (each for r in records for each in resumption.differences(r, versions, place))
    return list(dict.fromkeys(found))
