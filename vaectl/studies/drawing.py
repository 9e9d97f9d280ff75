"""Drawing the curves of the best run of a study, as `vaectl train` draws those of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.experiment import curves
from vaectl.experiment.curves import CURVES, FORMATS
from vaectl.runs.directory import RunDir
from vaectl.studies.run import Finished


def draw(found: Iterable[Finished], best: str | None, path: Path) -> list[str]:
    """Draw the best run, if it has no curves yet; return why it cannot be drawn.

    `vaectl curves` draws the other runs: eight figures per run would take longer than the training
    of a small model.

    Args:
        found: the trials of the study.
        best: the path of the best run; None if there is none.
        path: of the study.
    """
    problems = []
    for trial, ended, _ in found:
        if trial.stage == "result" and best and trial.run_name == Path(best).name:
            rundir = RunDir(Folder(path).folder(trial.run_name))
            try:
                if not rundir.has_figures([f"{CURVES}.{kind}" for kind in FORMATS]):
                    curves.draw(rundir, trial.settings, rundir.read_record(), ended.rows)
            except RunError as error:
                problems.append(error.message)
    return problems
