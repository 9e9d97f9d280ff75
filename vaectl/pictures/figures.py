"""Curves of runs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

from vaectl.config.meaning import estimators, measured
from vaectl.pictures import charts
from vaectl.pictures.canvas import Figure
from vaectl.pictures.style import DEFAULT, Style
from vaectl.pictures.text import plain
from vaectl.pictures.traces import Trace
from vaectl.runs.directory import RunDir, missing_plugs
from vaectl.runs.find import member_label
from vaectl.runs.metrics import Row


def curves(
    rows: Sequence[Row],
    *names: str,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
    how: Mapping[str, str] | None = None,
) -> Figure:
    """Plot numbers of a run by epoch; without names, all of them. Training is dashed.

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

    Members of one study that differ only in their seed are one curve with a band; one alone names
    its seed. All other runs have curves of their own, named by as much of their paths as is needed
    to tell them apart.

    Runs with other data or another kind of likelihood do not compare, and have panels of their own.

    Args:
        runs: the runs, each of them once.
        names: the numbers to draw, which `options.check_curves` has seen; all of them if there
            are none.
        by: the horizontal axis.
        first: the first epoch that is drawn.
        order: labels in the order of their colours, those of a comparison say.
        style: the look.

    Raises:
        RunError: the files of a run are missing or broken.
    """
    groups: dict[_Group, list[RunDir]] = {}
    for run in runs:
        groups.setdefault(_Group.of(run), []).append(run)
    places = _places(groups, order)
    ordered = sorted(groups, key=lambda group: len(order) if (at := places[group]) is None else at)
    labels = _names({group: groups[group] for group in ordered}) if len(runs) > 1 else [""]
    kinds = _kinds(runs)
    traces = [
        _trace(label, groups[group])._replace(
            kind=kinds[groups[group][0].path], place=places[group]
        )
        for group, label in zip(ordered, labels, strict=True)
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


class _Group(NamedTuple):
    """Runs that are one curve: the members of a study that differ in their seed, or a run alone."""

    folder: Path
    label: str
    """The name of the run, of members without their seed."""
    member: bool

    @classmethod
    def of(cls, run: RunDir) -> Self:
        """Find the group of a run."""
        path = run.path.resolve()
        label = member_label(path)
        return cls(path.parent, label or path.name, label is not None)


def _places(groups: Iterable[_Group], order: Sequence[str]) -> dict[_Group, int | None]:
    """Return the place of each group in an order that has them all; else None for each."""
    found = list(groups)
    known = {group.label for group in found if group.member} <= set(order)
    one = len({group.folder for group in found}) == 1 and all(group.member for group in found)
    return {group: order.index(group.label) if known and one else None for group in found}


def _names(groups: Mapping[_Group, Sequence[RunDir]]) -> list[str]:
    """Name each group by as many of the last parts of its path as tell it from all others.

    Members have the name of their study beside runs of other folders, and one alone has its seed.
    """
    several = len({group.folder for group in groups}) > 1
    paths = [
        group.folder / (group.label if len(runs) > 1 else runs[0].name)
        for group, runs in groups.items()
    ]
    parts = [1 + (several and group.member) for group in groups]
    while True:
        names = ["/".join(path.parts[-n:]) for path, n in zip(paths, parts, strict=True)]
        alike = [names.count(name) > 1 for name in names]
        longer = [
            n + (twice and n < len(path.parts))
            for n, twice, path in zip(parts, alike, paths, strict=True)
        ]
        if longer == parts:
            return [plain(name) for name in names]
        parts = longer


def _kinds(runs: Sequence[RunDir]) -> dict[Path, str]:
    """Describe what the numbers of each run measure, as far as the runs differ in that."""
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


def _estimators(run: RunDir) -> dict[str, str]:
    """Say how a run's numbers are estimated; nothing if it needs a plug that is not loaded."""
    if missing_plugs(run.read_record().plugs):
        return {}
    return estimators(run.read_config())


def _trace(label: str, runs: Sequence[RunDir]) -> Trace:
    diverged = ["diverged" in (run.read_record().error or "") for run in runs]
    return Trace.of(label, [run.read_metrics() for run in runs], diverged)
