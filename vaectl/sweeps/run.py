"""Run a sweep: train every point at every seed, and evaluate the best point on the test split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Unpack, final

from vaectl.base.errors import DivergedError, RunError
from vaectl.config.schema import Config
from vaectl.executors import Executor, default
from vaectl.runs.metrics import Row
from vaectl.studies import run as studies
from vaectl.studies.directory import Kind
from vaectl.studies.engine import Engine, Steps
from vaectl.studies.estimate import Estimate, estimate
from vaectl.studies.run import Finished, How, Study
from vaectl.studies.trial import Trial, programs
from vaectl.sweeps import plan
from vaectl.sweeps.plan import Sweep
from vaectl.sweeps.scores import best_of, scores_of
from vaectl.sweeps.search import epochs_of as search_epochs
from vaectl.sweeps.search import is_over, steps
from vaectl.sweeps.told import told
from vaectl.training.events import Note, Phase, Watch, ignore

KIND = Kind(plan.KIND, "vaectl sweep", plan.load, plan.differing, plan.default_name)


class Result(NamedTuple):
    """A sweep whose trials have all ended, or were given up."""

    path: Path
    settings: Sweep
    trials: list[Finished]
    """The trials that ended, point by point."""
    paused: Mapping[Trial, Sequence[Row]]
    """Trials that a search gave up early, and their metrics so far; they can go on."""
    problems: list[str]
    """The reasons why runs are damaged, or could not be evaluated."""
    lost: list[str]
    """The trials that were given up, because their workers ended; and why."""
    trained: float = 0.0
    """Seconds of the training steps of this command."""

    def check(self) -> None:
        """Raise the problems of the sweep, after everything else is done.

        Some diverged points are a normal result of a sweep, not an error.

        Raises:
            RunError: trials that were given up, are damaged, or could not be evaluated.
            DivergedError: not one point trained at all seeds.
        """
        if self.lost or self.problems:
            raise RunError(
                "\n".join([*self.lost, *self.problems]),
                hint="all else is done; the same command tries these again",
            )
        if best_of(scores_of(self.settings, self.trials)) is None:
            raise DivergedError(
                "no point trained at all of its seeds",
                hint=f"{self.path / 'trials.csv'} says how each ended; try smaller learning rates",
            )


def run(settings: Sweep, **how: Unpack[How]) -> Result:
    """Train all members that have not been trained, and evaluate the best point.

    For the arguments, and what is raised, see `vaectl.studies.run.run`.
    """
    study = Sweeping(settings)
    found = studies.run(study, **how)
    return Result(settings=study.settings, **found._asdict())


def planned(
    settings: Sweep,
    *,
    device_kind: str = "auto",
    executor: Executor | None = None,
    watch: Watch = ignore,
) -> Estimate:
    """Estimate what a sweep takes, if nothing of it is done.

    Raises:
        ConfigError: no such device, or a point needs more memory than there is.
        DataError: the data set is missing or broken.
    """
    executor = executor or default()
    task = studies.prepare(Sweeping(settings), device_kind, executor, watch)
    watch(Phase("training for a moment, to tell the time"))
    return estimate(settings.trials, task, _epochs(settings), executor.at_once)


def _epochs(settings: Sweep) -> int:
    """Return the epochs of all members together."""
    search = settings.search
    return search_epochs(settings, search) if search else plan.epochs(settings.trials)


@final
class Sweeping(Study):
    """A sweep as a study: a part for each program, so that it is compiled once."""

    kind = KIND

    settings: Sweep

    @property
    def experiments(self) -> Iterable[Config]:
        """The points that need the most memory, since memory grows with every size."""
        return plan.largest(self.settings.points)

    def parts(self, engine: Engine) -> Iterator[Steps]:
        """Yield the trials of each program, all at once; or those of a search."""
        self.settings = settings = _as_before(self.settings, engine)
        trials, search = settings.trials, settings.search
        epochs = _epochs(settings)
        engine.plan(len(trials), epochs)
        missing = [trial for trial in trials if not engine.is_done(trial)]
        left = None
        if missing and not (search and is_over(settings, search, engine)):
            engine.watch(Phase("training for a moment, to tell the time"))
            epochs = epochs if search else plan.epochs(missing)
            left = estimate(missing, engine.task, epochs, engine.workers)
        for line in told(settings, left).splitlines():
            engine.watch(Note(line))
        if search:
            yield steps(settings, search, engine, engine.watch)
            return
        for group in programs(trials):
            yield iter([group])

    def tested(self, found: Sequence[Finished]) -> list[Finished]:
        """Return the trials of the best point."""
        best = best_of(scores_of(self.settings, found))
        label = None if best is None else self.settings.points[best].label
        return [each for each in found if each.trial.label == label]


def _as_before(settings: Sweep, engine: Engine) -> Sweep:
    """Give points that were trained earlier the labels of their existing runs."""
    labels = {}
    for place, point in enumerate(settings.points):
        done = (trial for trial in point.trials(settings.seeds) if engine.has(trial))
        if (trial := next(done, None)) is not None:
            labels[place] = engine.ended(trial).label
    return settings.keeping(labels)
