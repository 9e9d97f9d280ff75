"""Drawing a study: its figures, and the curves of its best run as `vaectl train` draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.experiment import curves
from vaectl.experiment.curves import CURVES, FORMATS
from vaectl.pictures.canvas import Figure
from vaectl.runs.directory import RunDir
from vaectl.studies.run import Finished


def replace(path: Path, figures: Mapping[str, Figure], known: Iterable[str]) -> dict[str, Path]:
    """Write the figures of a study, and remove those that an earlier result had.

    Args:
        path: of the study.
        figures: by their names.
        known: the names of all figures that such a study may have.

    Returns:
        The SVG file of each figure.

    Raises:
        RunError: a file cannot be written or removed.
    """
    rundir = RunDir(path)
    for name in {*known} - {*figures}:
        rundir.remove_figure(name, FORMATS)
    return {name: rundir.write_figure(name, f, FORMATS)[1] for name, f in figures.items()}


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
