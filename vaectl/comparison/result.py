"""The result of a comparison: its trials, how each ended, and what went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vaectl.base.errors import DivergedError, RunError
from vaectl.comparison.plan import Comparison
from vaectl.studies.run import Finished


class Result(NamedTuple):
    """A comparison whose trials have all ended."""

    path: Path
    settings: Comparison
    trials: list[Finished]
    """The trials, in the order of the configuration."""
    problems: list[str]
    """Why runs are damaged, or could not be evaluated."""

    def check(self) -> None:
        """Tell of what went wrong with single members, now that all else is done.

        A learning rate of a grid that diverges is what a search is for; that none of them trains
        is not.

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
