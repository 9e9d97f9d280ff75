"""Curves of runs."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from vaectl.base.errors import ConfigError, RunError
from vaectl.base.nearest import did_you_mean
from vaectl.pictures import charts
from vaectl.pictures.canvas import Figure
from vaectl.pictures.charts import Trace
from vaectl.pictures.style import DEFAULT, Style
from vaectl.runs.directory import RunDir, missing_plugs
from vaectl.runs.find import is_comparison
from vaectl.runs.metrics import Row


def curves(
    rows: Sequence[Row],
    *names: str,
    title: str,
    style: Style = DEFAULT,
    how: Mapping[str, str] | None = None,
) -> Figure:
    """Plot numbers of a run by epoch, all of them if none is named: training dashed.

    Args:
        rows: the rows of metrics.csv.
        names: the numbers to draw.
        title: the heading.
        style: the look.
        how: how each number is estimated.
    """
    return charts.curves([Trace.of("", [rows])], title=title, style=style, names=names, how=how)


def curves_of(
    runs: Sequence[RunDir],
    names: Sequence[str],
    *,
    by: Literal["epoch", "seconds"] = "epoch",
    first: int = 1,
    style: Style = DEFAULT,
) -> Figure:
    """Plot numbers of several runs in the same axes; members of a comparison by their label.

    Args:
        runs: the runs.
        names: the numbers to draw; all of them if there are none.
        by: the horizontal axis.
        first: the first epoch that is drawn.
        style: the look.

    Raises:
        ConfigError: no run has a number of that name, or so many epochs.
        RunError: the files of a run are missing or broken.
    """
    alike: dict[str, list[RunDir]] = {}
    for run in runs:
        alike.setdefault(_label(run), []).append(run)
    if len(runs) == 1:
        alike = {"": list(runs)}
    traces = [_trace(label, each) for label, each in alike.items()]
    known = charts.quantities(traces)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--term {name}: no curve of that name{did_you_mean(name, known)}",
                hint=f"choose of {', '.join(known)}",
            )
    most = max(trace.epochs for trace in traces)
    if not most:
        raise RunError(
            f"{', '.join(run.name for run in runs)}: no epochs to draw",
            hint="a run has curves once its first epoch has ended; an imported one has none",
        )
    if first > most:
        raise ConfigError(f"--from {first}: there are {most} epochs", hint="use a smaller number")
    found = [_estimators(run) for run in runs]
    how = {
        name: words for name, words in found[0].items() if all(f.get(name) == words for f in found)
    }
    meanings = {run.read_record().metrics["binarization"]: None for run in runs}
    title = "\n".join(
        [*([runs[0].name] * (len(runs) == 1)), *(meanings if len(meanings) == 1 else [])]
    )
    return charts.curves(traces, by, title=title, style=style, names=names, how=how, first=first)


def _label(run: RunDir) -> str:
    """Return the name of a run; of a comparison's member, the label without the seed."""
    member = re.fullmatch(r"(.+)-s\d+(\.\d+)?", run.name)
    return member[1] if member and is_comparison(run.path.resolve().parent) else run.name


def _estimators(run: RunDir) -> dict[str, str]:
    """Say how a run's numbers are estimated; nothing if it needs a plug that is not loaded."""
    if missing_plugs(run.read_record().plugs):
        return {}
    objective = run.read_config().objective
    return objective.chosen.estimators(objective.samples)


def _trace(label: str, runs: Sequence[RunDir]) -> Trace:
    diverged = sum("diverged" in (run.read_record().error or "") for run in runs)
    return Trace.of(label, [run.read_metrics() for run in runs], diverged)
