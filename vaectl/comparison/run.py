"""Run a comparison: per optimizer a search for its learning rate, then all seeds at the best."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Unpack, final

from vaectl.base.errors import RunError
from vaectl.comparison import plan
from vaectl.comparison.plan import Comparison, trials
from vaectl.comparison.result import Result
from vaectl.comparison.seeds import with_those_of_result
from vaectl.config.schema import Config
from vaectl.studies import run as studies
from vaectl.studies.directory import Kind
from vaectl.studies.engine import Engine, Steps
from vaectl.studies.run import Finished, How, Study
from vaectl.studies.trial import Trial
from vaectl.training.events import Note

KIND = Kind(plan.KIND, "vaectl compare-optimizers", plan.load, plan.differing)


def run(settings: Comparison, **how: Unpack[How]) -> Result:
    """Train all members that have not been trained, and evaluate the best models.

    The seeds of a result that is there stay, so that it is overwritten by none of fewer seeds.

    For the arguments, and what is raised, see `vaectl.studies.run.run`.

    Raises:
        RunError: a member was given up, because its workers ended.
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
    return Result(found.path, settings, found.trials, found.problems)


@final
class _Comparing(Study):
    """A comparison as a study: a part for each optimizer."""

    kind = KIND

    def __init__(self, settings: Comparison) -> None:
        self.settings: Comparison = settings
        self.base = settings.base
        self.default_name = plan.default_name(settings)
        self.importance_samples = settings.importance_samples

    @property
    def experiments(self) -> Iterable[Config]:
        return self.settings.entries.values()

    def parts(self, engine: Engine) -> Iterator[Steps]:
        settings = self.settings
        of_each = len(settings.seeds) + (settings.tuning.members if settings.tuning else 0)
        self._plan(engine, of_each * len(settings.entries))
        for label, experiment in settings.entries.items():
            yield self._steps(engine, label, experiment)

    def check(self, engine: Engine) -> None:
        """Refuse to go on without trials that ended their workers: what is paired needs them.

        Raises:
            RunError: there are such trials; all others are done.
        """
        if engine.lost:
            raise RunError(
                "\n".join(f"{trial}: {why}" for trial, why in engine.lost.items()),
                hint="all other trials are done; the same command tries these again, or goes on "
                "without their optimizer or seed if you leave it out",
            )

    def tested(self, found: Sequence[Finished]) -> list[Finished]:
        return [each for each in found if each.trial.stage == "result"]

    def _steps(self, engine: Engine, label: str, settings: Config) -> Iterator[list[Trial]]:
        rates = [settings.optimizer.chosen.learning_rate]
        if self.settings.tuning:
            scores = yield from self._tuned(engine, label, settings, self.settings.tuning)
            if scores is None:
                return
            rates = plan.best_rate(scores)
        if not rates:  # no learning rate trains
            self._plan(engine, -len(self.settings.seeds))
        yield trials(label, "result", settings, rates, self.settings.seeds)

    def _tuned(
        self, engine: Engine, label: str, settings: Config, tuning: plan.Tuning
    ) -> Generator[list[Trial], None, dict[float, float] | None]:
        """Try learning rates until the best of them lies between two others.

        Returns:
            The score of each; None if a trial was given up.
        """
        rates = first = tuning.rates(settings.optimizer.chosen.learning_rate)
        tried: list[Trial] = []
        while True:
            added = trials(label, "tuning", settings, rates, tuning.seeds)
            known = all(map(engine.is_done, added))
            yield added
            tried += added
            if any(trial in engine.lost for trial in tried):
                return None
            scores = plan.scores([engine.ended(trial).outcome for trial in tried])
            wanted = tuning.grown(scores)
            rates = wanted[: tuning.growth - (len(scores) - len(first))]
            if not wanted:
                return scores
            best = plan.best_rate(scores)
            why = f"{best[0]:g} is best, at its edge" if best else "all of it diverged"
            more = " and ".join(f"{rate:g}" for rate in rates)
            grows = f"grows by {more}" if more else "has grown by all that tuning.growth allows"
            if not known:
                engine.watch(Note(f"{label}: the grid {grows}: {why}"))
            if not rates:
                return scores
            self._plan(engine, len(rates) * len(tuning.seeds))

    def _plan(self, engine: Engine, members: int) -> None:
        engine.plan(members, members * self.base.epochs)
