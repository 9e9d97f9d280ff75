"""The part that all commands of studies share: how one is watched, shown and ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaectl.base.spent import Spent
from vaectl.base.terminal import say, show
from vaectl.cli import steps

if TYPE_CHECKING:  # these load JAX
    from pydantic import BaseModel

    from vaectl.studies.run import How
    from vaectl.training.events import Watch


class Asked(NamedTuple):
    """The options of a command of studies, besides the settings of the study."""

    how: How
    plugins: Sequence[Path]
    quiet: bool
    as_json: bool
    account: Spent
    """The time of the command, by parts."""

    @property
    def _at_once(self) -> int | None:
        """The number of workers; None without an executor, or if it is unknown."""
        executor = self.how.get("executor")
        return executor.at_once if executor else None

    def watching(self) -> AbstractContextManager[Watch]:
        """Show the progress of a study."""
        from vaectl.cli import progress

        apart = self.how.get("executor") is not None and self._at_once != 1
        return progress.watching(quiet=self.quiet, apart=apart)

    def show(self, path: Path, summary: BaseModel, tables: Callable[[], None]) -> None:
        """Print a result: as one JSON object, or as tables and the path of its directory."""
        if self.as_json:
            show(steps.with_time(summary.model_dump_json(), self.account))
        else:
            tables()
            show(path)

    def end(self, path: Path, trained: float, *, best: bool) -> None:
        """Print what the time was spent on, and the next steps.

        Args:
            path: of the result.
            trained: seconds of training steps, of all members together.
            best: whether there is a best run.
        """
        if not (self.quiet or self.as_json):
            say(steps.of_time(self.account, trained, self._at_once))
            say(steps.of_study(path, self.how["runs_dir"], self.plugins, best=best))
