"""Curves of runs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from vaectl.config.meaning import estimators, measured
from vaectl.pictures import charts
from vaectl.pictures.canvas import Figure
from vaectl.pictures.style import DEFAULT, Style
from vaectl.pictures.traces import Trace
from vaectl.runs.directory import RunDir, missing_plugs
from vaectl.runs.find import is_study
from vaectl.runs.metrics import Row


def curves(
    rows: Sequence[Row],
    *names: str,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
    how: Mapping[str, str] | None = None,
) -> Figure:
    """Plot numbers of a run by epoch, all of them if none is named: training dashed.

    Args:
        rows: the rows of metrics.csv.
        names: the numbers to draw.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
        how: how each number is estimated.
    """
    trace = Trace.of("", [rows])
    return charts.curves([trace], title=title, facts=facts, style=style, names=names, how=how)


def curves_of(
    runs: Sequence[RunDir],
    names: Sequence[str],
    *,
    by: Literal["epoch", "seconds"] = "epoch",
    first: int = 1,
    order: Sequence[str] = (),
    style: Style = DEFAULT,
) -> Figure:
    """Plot numbers of several runs in the same axes; members of a comparison by their label.

    Members that differ only in their seed are one curve with a band; one alone names its seed.

    Runs with other data or another kind of likelihood do not compare, and have panels of their own.

    Args:
        runs: the runs.
        names: the numbers to draw, which `options.check_curves` has seen; all of them if there
            are none.
        by: the horizontal axis.
        first: the first epoch that is drawn.
        order: labels in the order of their colours, those of a comparison say.
        style: the look.

    Raises:
        RunError: the files of a run are missing or broken.
    """
    alike: dict[str, list[RunDir]] = {}
    several = len({run.path.resolve().parent for run in runs}) > 1
    for run in runs:
        alike.setdefault(_label(run, several), []).append(run)
    alike = {label: alike[label] for label in sorted(alike, key=_place_in(order))}
    if len(runs) == 1:
        alike = {"": list(runs)}
    kinds = _kinds(runs)
    traces = [
        _trace(label if len(members) > 1 else _full(label, members[0]), members)._replace(
            kind=kinds[members[0].path], place=place
        )
        for (label, members), place in zip(alike.items(), _places(alike, order), strict=True)
    ]
    found = [_estimators(run) for run in runs]
    how = {
        name: words for name, words in found[0].items() if all(f.get(name) == words for f in found)
    }
    meanings = {run.read_record().meaning: None for run in runs}
    title = runs[0].name if len(runs) == 1 else ""
    facts = next(iter(meanings)) if len(meanings) == 1 else ""
    return charts.curves(
        *(traces, by), title=title, facts=facts, style=style, names=names, how=how, first=first
    )


def _place_in(order: Sequence[str]) -> Callable[[str], int]:
    """Return a key that sorts labels in that order, and others after them."""
    places = {label: place for place, label in enumerate(order)}
    return lambda label: places.get(label, len(places))


def _places(labels: Iterable[str], order: Sequence[str]) -> list[int | None]:
    """Return the place of each label in an order that has them all; else None for each."""
    found = list(labels)
    known = set(found) <= set(order)
    return [order.index(label) if known else None for label in found]


def _kinds(runs: Sequence[RunDir]) -> dict[Path, str]:
    """Say what each run's numbers are of, as far as the runs differ in it."""
    records = {run.path: run.read_record() for run in runs}
    data = {path: record.data for path, record in records.items()}
    several = len({facts["fingerprint"] for facts in data.values()}) > 1
    named = {(facts["source"], facts["fingerprint"]) for facts in data.values()}
    unclear = len({source for source, _ in named}) < len(named)
    kinds = {}
    for run in runs:
        record = records[run.path]
        needs_more = missing_plugs(record.plugs)  # only with these its configuration can be read
        parts = [record.metrics["binarization"] if needs_more else measured(run.read_config())]
        if several:
            source, fingerprint = data[run.path]["source"], data[run.path]["fingerprint"]
            parts.insert(0, f"{source} {fingerprint[:8]}" if unclear else source)
        kinds[run.path] = ", ".join(parts)
    return kinds


def _label(run: RunDir, several: bool) -> str:
    """Return the name of a run; of a comparison's member, the label without the seed.

    Args:
        run: the run.
        several: whether there are runs of other places, so that a label has its comparison's name.
    """
    member, parent = re.fullmatch(r"(.+)-s\d+(\.\d+)?", run.name), run.path.resolve().parent
    if not member or not is_study(parent):
        return run.name
    return f"{parent.name}/{member[1]}" if several else member[1]


def _full(label: str, run: RunDir) -> str:
    """Return the label of a run that is drawn alone, with the seed of a comparison's member."""
    return f"{label}{run.name.removeprefix(label.rpartition('/')[2])}" if label else ""


def _estimators(run: RunDir) -> dict[str, str]:
    """Say how a run's numbers are estimated; nothing if it needs a plug that is not loaded."""
    if missing_plugs(run.read_record().plugs):
        return {}
    return estimators(run.read_config())


def _trace(label: str, runs: Sequence[RunDir]) -> Trace:
    diverged = ["diverged" in (run.read_record().error or "") for run in runs]
    return Trace.of(label, [run.read_metrics() for run in runs], diverged)
