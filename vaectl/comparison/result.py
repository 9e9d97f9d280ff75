"""The result of a comparison: its trials, how each ended, and what went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vaectl.base.errors import DivergedError, RunError
from vaectl.comparison.plan import Comparison
from vaectl.runs.metrics import Row
from vaectl.runs.record import Evaluation
from vaectl.studies import statistics
from vaectl.studies.ended import Outcome
from vaectl.studies.run import Finished


class Result(NamedTuple):
    """A comparison whose trials have all ended."""

    path: Path
    settings: Comparison
    trials: list[Finished]
    """The trials, in the order of the configuration."""
    problems: list[str]
    """The reasons why runs are damaged, or could not be evaluated."""
    trained: float = 0.0
    """Seconds of the training steps of this command."""

    def check(self) -> None:
        """Raise the problems of single members, after everything else is done.

        A diverged learning rate of a grid is a normal result of a search; it is an error only if
        all of them diverge.

        Raises:
            RunError: members that are damaged, or could not be evaluated.
            DivergedError: members of the result that diverged.
        """
        if self.problems:
            raise RunError(
                "\n".join(self.problems),
                hint="put back what is damaged or gone from a copy, or remove that run, and the "
                "same command trains it again",
            )
        of_result = [each for each in self.trials if each.trial.stage == "result"]
        bad = [f"{trial}: {ended.error}" for trial, ended, _ in of_result if ended.error]
        there = {trial.label for trial, *_ in of_result}
        none = [label for label in self.settings.entries if label not in there]
        bad += [f"{label}: every learning rate that was tried diverged" for label in none]
        if bad:
            raise DivergedError("\n".join(bad), hint=f"all else is done: {self.path}")


class Member(NamedTuple):
    """A trial of the result with its curve and its evaluation."""

    outcome: Outcome
    run_name: str
    curve: list[Row]
    test: Evaluation | None

    def curve_of(self, split: str) -> list[Row]:
        """Return the rows of a split, by epoch."""
        return [row for row in self.curve if row.split == split]

    @property
    def best(self) -> Row:
        """Its validation row of the best epoch."""
        rows = self.curve_of("validation")
        return next(row for row in rows if row.epoch == self.outcome.best_epoch)

    @property
    def finished(self) -> bool:
        """Tell whether it did not diverge."""
        return bool(np.isfinite(self.outcome.score))

    @property
    def scores(self) -> Float[np.ndarray, " epochs"]:
        """The validation score after each epoch."""
        return np.array([row.terms[self.outcome.quantity] for row in self.curve_of("validation")])

    def reached(self, target: float) -> Row | None:
        """Return the validation row of the first epoch at which the target was reached."""
        rows = self.curve_of("validation")
        return statistics.reached(target, self.scores.tolist(), rows)


def members(result: Result) -> dict[str, list[Member]]:
    """Return the trials of the result by label, in the order of seeds."""
    found: dict[str, list[Member]] = {label: [] for label in result.settings.entries}
    for trial, ended, tested in result.trials:
        if trial.stage == "result":
            member = Member(ended.outcome, trial.run_name, ended.rows, tested)
            found[trial.label].append(member)
    return found
