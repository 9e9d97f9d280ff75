"""Run a comparison: per optimizer a search for its settings, then all seeds at the best."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Unpack, final

from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.base.plural import plural
from vaectl.comparison import plan, times
from vaectl.comparison.plan import Comparison
from vaectl.comparison.result import Result
from vaectl.comparison.seeds import with_those_of_result
from vaectl.comparison.tuning import Point, Tuning, at_rate, best_of, rate_of, scores
from vaectl.config.schema import Config
from vaectl.executors import Executor, default
from vaectl.experiment import Task
from vaectl.studies import run as studies
from vaectl.studies.directory import Kind
from vaectl.studies.engine import Engine, Steps
from vaectl.studies.estimate import estimate
from vaectl.studies.run import Finished, How, Study
from vaectl.studies.trial import Stage, Trial
from vaectl.training.events import Note, Phase, ignore

KIND = Kind(plan.KIND, "vaectl compare-optimizers", plan.load, plan.differing, plan.default_name)


def run(settings: Comparison, **how: Unpack[How]) -> Result:
    """Train all members that have not been trained, and evaluate the best models.

    The seeds of an existing result stay, so that a result with fewer seeds never replaces it.

    For the arguments, and what is raised, see `vaectl.studies.run.run`.

    Raises:
        RunError: a member was given up because its workers ended.
    """
    if not how.get("force"):
        path = how["runs_dir"] / (how.get("name") or plan.default_name(settings))
        asked, settings = settings.seeds, with_those_of_result(settings, path)
        if settings.seeds != asked and "watch" in how:
            kept = ", ".join(map(str, settings.seeds))
            how["watch"](
                Note(f"{path} keeps its result of seeds {kept}; for fewer, choose another --name")
            )
    found = studies.run(_Comparing(settings), **how)
    return Result(found.path, settings, found.trials, found.problems, found.trained)


def check(settings: Comparison, device_kind: str, executor: Executor | None) -> None:
    """Refuse a comparison that cannot run, before other comparisons are run.

    Raises:
        ConfigError: no such device, or more than its memory holds.
        DataError: the data set is missing or broken.
    """
    studies.prepare(_Comparing(settings), device_kind, executor or default(), ignore)


@final
class _Comparing(Study):
    """A comparison as a study: a part for each optimizer."""

    kind = KIND

    settings: Comparison

    @property
    def experiments(self) -> Iterable[Config]:
        return self.settings.entries.values()

    def parts(self, engine: Engine) -> Iterator[Steps]:
        settings = self.settings
        of_each = len(settings.seeds) + (settings.tuning.members if settings.tuning else 0)
        self._plan(engine, of_each * len(settings.entries))
        self._tell_budget(engine)
        for label, experiment in settings.entries.items():
            yield self._steps(engine, label, experiment, partial(self._plan, engine))

    def check(self, engine: Engine) -> None:
        """Refuse to publish without the trials that were given up: paired statistics need them.

        Raises:
            RunError: there are such trials; all others are done.
        """
        if engine.lost:
            raise RunError(
                "\n".join(f"{trial}: {why}" for trial, why in engine.lost.items()),
                hint="all other trials are done; the same command tries these again, or goes on "
                "without their optimizer or seed if you leave it out",
            )

    def close(
        self,
        task: Task,
        folder: Folder,
        found: Sequence[Finished],
        stopping: Callable[[], bool],
    ) -> None:
        experiments: dict[str, Config] = {}
        for trial, ended, _ in found:
            if trial.stage == "result" and not ended.error:  # its first seed that finished
                experiments.setdefault(trial.label, trial.settings)
        times.measure(experiments, task, folder, stopping)

    def tested(self, found: Sequence[Finished]) -> list[Finished]:
        return [each for each in found if each.trial.stage == "result"]

    def _steps(
        self, engine: Engine, label: str, settings: Config, plan: Callable[[int], None]
    ) -> Iterator[list[Trial]]:
        """Yield the trials of an optimizer, and report changes of the number of members."""
        points = self.settings.points[label]
        if self.settings.tuning:
            tried = yield from self._tried(engine, label, settings, self.settings.tuning, plan)
            if tried is None:
                return
            points = tried
        if not points:  # none trains
            plan(-len(self.settings.seeds))
        yield _at(points, label, "result", self.settings.seeds)

    def _tried(
        self,
        engine: Engine,
        label: str,
        settings: Config,
        tuning: Tuning,
        plan: Callable[[int], None],
    ) -> Generator[list[Trial], None, list[Point] | None]:
        """Try points; go on with a grid until its best learning rate lies between two others.

        Returns:
            The best point, none if all diverged; None if a trial was given up.
        """
        points = added = self.settings.points[label]
        while True:
            trials = _at(added, label, "tuning", tuning.seeds)
            known = all(map(engine.is_done, trials))
            yield trials
            tried = _at(points, label, "tuning", tuning.seeds)
            if any(trial in engine.lost for trial in tried):
                return None
            found = scores([(trial, engine.ended(trial).outcome) for trial in tried])
            best = best_of(found)
            wanted = tuning.grown(found)
            left = tuning.growth - (len(points) - len(self.settings.points[label]))
            rates = wanted[:left]
            if wanted and not known:
                edge = f"{rate_of(best):g} is best, at its edge" if best else "all of it diverged"
                more = " and ".join(f"{rate:g}" for rate in rates)
                grows = f"grows by {more}" if more else _ends(tuning)
                engine.watch(Note(f"{label}: the grid {grows}: {edge}"))
            if not rates:
                return [point for point in points if point.values == best]
            added = [at_rate(settings, rate) for rate in rates]
            points = points + added
            plan(len(rates) * len(tuning.seeds))

    def _left(self, engine: Engine, label: str, settings: Config) -> tuple[list[Trial], int]:
        """Return the trials left to train for an optimizer, and how many of them leave a run.

        Only trials that are known before the search are included.
        """
        for trials in self._steps(engine, label, settings, lambda _: None):
            missing = [trial for trial in trials if not engine.is_done(trial)]
            if missing and trials[0].stage == "tuning":
                # the points that a search finds share a program with its first points
                first, seeds = self.settings.points[label][0], self.settings.seeds
                return missing + first.trials(label, "tuning", seeds), len(seeds)
            if missing:
                return missing, len(missing)
        return [], 0

    def _tell_budget(self, engine: Engine) -> None:
        """Report how much is left to do, and how long it takes, unless everything is done."""
        lefts = [self._left(engine, *each) for each in self.settings.entries.items()]
        wanted = [trial for trials, _ in lefts for trial in trials]
        if not wanted:
            return
        engine.watch(Phase("training for a moment, to tell the time"))
        left = estimate(
            wanted,
            engine.task,
            len(wanted) * self.base.epochs,
            engine.workers,
            runs=sum(runs for _, runs in lefts),
        )
        engine.watch(Note(f"{self._budget()}\n{left.members:,} members to train: {left}"))

    def _budget(self) -> str:
        """Describe the budget of each optimizer, in trials and epochs."""
        settings, tuning = self.settings, self.settings.tuning
        each = f"{plural(len(settings.seeds), 'seed')} of {plural(self.base.epochs, 'epoch')}"
        if tuning:
            what = "point" if tuning.trials else "learning rate"
            count = plural(tuning.members // len(tuning.seeds), what)
            more = (
                ""
                if tuning.trials
                else f", up to {tuning.growth} more where the best is at the edge"
            )
            search = f"a search of {count} at {plural(len(tuning.seeds), 'seed')}{more}; then "
            each = search + each
        return f"{plural(len(settings.entries), 'optimizer')}, each with {each}"

    def _plan(self, engine: Engine, members: int) -> None:
        engine.plan(members, members * self.base.epochs)


def _ends(tuning: Tuning) -> str:
    """Say why a grid does not grow."""
    if tuning.growth:
        return "has grown by all that tuning.growth allows"
    return "does not grow, since tuning.growth is 0"


def _at(points: Iterable[Point], label: str, stage: Stage, seeds: Sequence[int]) -> list[Trial]:
    """Return the trial of each point at each seed."""
    return [trial for point in points for trial in point.trials(label, stage, seeds)]
