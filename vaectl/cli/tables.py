"""Tables on stdout."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaectl.base.nearest import did_you_mean_path
from vaectl.base.terminal import say, show, visible
from vaectl.objectives.base import label
from vaectl.runs.diagnosis import Diagnosis, Nats, Samples
from vaectl.runs.find import Summary, age
from vaectl.runs.record import ACTIVE, Estimate, Evaluation

if TYPE_CHECKING:  # these load JAX
    from vaectl.bench.measures import Work
    from vaectl.bench.report import Bench
    from vaectl.comparison import words
    from vaectl.comparison.summary import Summary as Comparison
    from vaectl.config.published import Verdict
    from vaectl.export import Exported
    from vaectl.sweeps.summary import Summary as Sweep

_BEST_POINTS = 10
"""The most points of a sweep in a table."""
_WIDTH_WITHOUT_TERMINAL = 1000
_WIDTH_OF_RESULTS = 100
"""Characters of the tables of a comparison where there is no terminal."""
_HEADING = 12
"""The least characters of a line of a long heading where there is room."""
_LONG_NAME = 40
"""Most characters of a run's name where a terminal is narrow."""


class _Column(NamedTuple):
    """A column of the table of runs."""

    heading: str
    cell: Callable[[Summary], str]
    number: bool = False
    short: Callable[[str, int], str] = lambda cell, _most: cell
    """Shorten a cell where a terminal is narrow, to so many characters if it is a name."""


def show_runs(
    rows: Sequence[Summary],
    runs_dir: Path,
    asked: Sequence[str],
    groups: Sequence[str | None] | None = None,
) -> None:
    """Print one row per run, then what is wrong with any of them.

    Columns that find no place on a terminal are shortened, then left out one after the other, the
    least telling first. A pipe has a line with tabs for each run, after one with the names of the
    columns, and all else goes to stderr.

    Args:
        rows: the runs.
        runs_dir: where they are.
        asked: what selects them: a pattern of names, and conditions.
        groups: what the scores of ranked runs measure, if they are ranked; several are numbered in
            a column.
    """
    if not rows:
        chosen = [each for each in asked if each != "*"]
        match = f" match {', '.join(chosen)}" if chosen else ""
        show(f"no runs in {runs_dir}{match}{did_you_mean_path(runs_dir)}")
        return
    columns = _columns(groups)
    console = _console()
    if not console.is_terminal:
        _show_lines(rows, columns.values())
    else:
        _show_table(rows, columns, console)
    tell = show if console.is_terminal else say
    if groups and len(groups) > 1:
        tell("ranked within each group only: numbers of different groups do not compare")
        for number, measure in enumerate(groups, 1):
            sources = dict.fromkeys(row.data for row in rows if row.measure == measure and row.data)
            tell(f"group {number}: {measure or 'unknown'} ({', '.join(sources)})")
    for row in rows:
        if row.problem is not None:
            tell(row.problem if row.members else f"{row.name}: {row.problem}")


def _columns(groups: Sequence[str | None] | None) -> dict[str, _Column]:
    """Return the columns by their names, which `--sort` and `--where` take, too."""
    now = datetime.now(UTC)
    columns = {
        "name": _Column("name", lambda row: row.name, short=_middle),
        "status": _Column("status", lambda row: row.status),
        "data": _Column("data", lambda row: row.data or "", short=_short),
        "model": _Column("model", lambda row: row.model or ""),
        "optimizer": _Column("optimizer", lambda row: row.optimizer or ""),
        "epochs": _Column("epochs", _epochs, number=True),
        "elbo": _Column("elbo", _best, number=True),
        "group": _Column("group", lambda row: _group(row, groups or ()), number=True),
        "age": _Column("age", lambda row: age(row.start, now) if row.start else "", number=True),
    }
    if groups is None:
        del columns["group"]
    return columns


def _show_lines(rows: Sequence[Summary], columns: Collection[_Column]) -> None:
    """Print the columns of each run as one line with tabs."""
    show("\t".join(column.heading for column in columns))
    for row in rows:
        cells = (_one_line(column.cell(row)).replace("\t", "\\t") for column in columns)
        show("\t".join(cells))


def _show_table(rows: Sequence[Summary], columns: dict[str, _Column], console: Console) -> None:
    """Print a table that fits the terminal."""
    if "group" in columns and len({columns["group"].cell(row) for row in rows} - {""}) < 2:
        del columns["group"]
    unbounded = console.options.update(width=_WIDTH_WITHOUT_TERMINAL)

    def missing(table: Table) -> int:
        return console.measure(table, options=unbounded).maximum - console.width

    table = _runs_table(rows, columns.values())
    for dropped in ("", "data", "model", "age", "epochs", "optimizer", "status"):
        if missing(table) <= 0:
            break
        columns.pop(dropped, None)
        table = _runs_table(rows, columns.values(), most=_LONG_NAME)
    if missing(table) > 0:
        table = _runs_table(rows, columns.values(), most=_LONG_NAME - missing(table))
    console.print(table)


def _runs_table(
    rows: Sequence[Summary], columns: Collection[_Column], *, most: int | None = None
) -> Table:
    """Build the table; `most` is how many characters of a name there is place for, None for all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.number else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        cells = [column.cell(row) for column in columns]
        if most is not None:
            pairs = zip(columns, cells, strict=True)
            cells = [column.short(cell, most) for column, cell in pairs]
        # as text: names and sources may contain characters of markup, or end lines
        table.add_row(*(Text(_one_line(cell)) for cell in cells))
    return table


def _one_line(cell: str) -> str:
    return visible(cell).replace("\n", "\\n")


def _epochs(row: Summary) -> str:
    if row.epochs is None:
        return ""
    fewest = "" if row.least_epoch in (None, row.epoch) else f"{row.least_epoch}-"
    return f"{fewest}{row.epoch}/{row.epochs}"


def _best(row: Summary) -> str:
    if row.best_score is None:
        return ""
    other = row.best_quantity not in (None, "elbo")
    return f"{row.best_score:.2f}" + (f" ({label(row.best_quantity or '')})" if other else "")


def _group(row: Summary, groups: Sequence[str | None]) -> str:
    """Number the group of a ranked run."""
    ranked = row.best_quantity == "elbo" and row.best_score is not None
    return f"{groups.index(row.measure) + 1}" if ranked else ""


def _middle(name: str, most: int) -> str:
    """Leave out the middle of a long name."""
    half = max(most // 2, 2)
    return name if len(name) <= 2 * half else f"{name[:half]}…{name[1 - half :]}"


def _short(source: str, _most: int) -> str:
    """Shorten the path in a source to its last part, as in SCHEME:…/mnist."""
    scheme, colon, path = source.partition(":")
    return f"{scheme}:…/{path.rpartition('/')[2]}" if colon and path.count("/") > 1 else source


def show_evaluation(e: Evaluation) -> None:
    """Print means and standard errors, with split, binarization and estimators."""
    where = e.where or f"epoch {e.epoch}"
    show(f"{e.run}, {where}: {e.split} split, {e.images:,} images, {e.binarization}")
    bits = e.bits_per_dimension
    in_bits = ("bits per dimension", "standard error") if bits else ()
    table = _table("nats per image", "mean", "standard error", *in_bits)
    drawn = f"{e.samples} sample{'s' * (e.samples > 1)}"
    rows = {"elbo": f"ELBO, {drawn}", "kl": "KL", "nll": f"NLL, {drawn}"}
    if e.log_likelihood:
        rows["log_likelihood"] = e.bound
    for key, name in rows.items():
        found = [f"{x:.2f}" for _, x in getattr(e, key)]
        found += [f"{x:.4f}" for _, x in getattr(bits, key)] if bits else []
        table.add_row(name, *found)
    _print(table)
    show(f"active units: {e.active_units} of {e.code_size} (A_u > {ACTIVE})")
    largest = sorted(e.kl_by_dimension, reverse=True)
    shown = " ".join(f"{kl:.2f}" for kl in largest[:20])
    show(f"KL by dimension, largest first: {shown}{' ...' * (len(largest) > 20)}")
    if e.broken_samples is not None:
        share = f"{e.broken_samples / e.prior_samples:.1%} of {e.prior_samples:,}"
        show(
            f"samples from the prior that look broken: {share}{_told_base(e.broken_images)}, by "
            "their ink or their distance to the training images; blurred ones do not count"
        )
    if 2 * e.active_units < e.code_size:
        show("warning: posterior collapse: most dimensions of the code are not used")


def show_verdict(measure: str, verdict: Verdict) -> None:
    """Print a published value and ours, with its standard error."""
    table = _table(f"{measure}, nats per image", "value", "standard error")
    published = "a curve" if verdict.published is None else f"{verdict.published:.2f}"
    table.add_row("published", published, "not given")
    ours = "not run" if verdict.ours is None else f"{verdict.ours:.2f}"
    error = "" if verdict.standard_error is None else f"{verdict.standard_error:.2f}"
    table.add_row("ours", ours, error)
    _print(table)


def show_diagnosis(d: Diagnosis) -> None:
    """Print where the nats go, how log p(x) is known, and the advice."""
    where = d.where or f"epoch {d.epoch}"
    show(f"{d.run}, {where}: {d.binarization}; standard errors in brackets")
    splits = (d.held_out, d.train)
    table = _table("nats per image", *(f"{nats.split}, {nats.images:,}" for nats in splits))
    rows: dict[str, Callable[[Nats], Estimate]] = {
        "NLL": lambda nats: nats.nll,
        "KL": lambda nats: nats.kl,
        "ELBO = -(NLL + KL)": lambda nats: nats.elbo,
        "amortization gap, encoder to best Gaussian": lambda nats: nats.amortization,
        "approximation gap, best Gaussian to posterior": lambda nats: nats.approximation,
        f"log {d.of_image} = ELBO + gaps": lambda nats: nats.log_p,
    }
    for name, part in rows.items():
        table.add_row(name, *(_told(part(nats)) for nats in splits))
    _print(table)
    for nats in splits:
        a = nats.annealing
        show(
            f"{nats.subset} {nats.split} images: log {d.of_image} {_told(a.log_p)} by annealing "
            f"from the {d.origin}, effective {a.effective:.1f} of {d.chains} chains; "
            f"IW-{d.importance_samples} is {_told(a.difference)} below it, effective "
            f"{a.importance_effective:.1f} samples"
        )
    b = d.bracket
    show(
        f"{b.images} simulated images: log {d.of_image} from {b.lower.mean:.2f} to "
        f"{b.upper.mean:.2f}, {_told(b.gap)} apart"
    )
    g = d.aggregate
    mixture = (
        f"mixtures of the posteriors of each class, {g.posteriors:,} in all, leaves at most the "
        "logarithm of their number as"
        if d.conditional
        else f"a mixture of N = {g.posteriors:,} posteriors, leaves at most log N = "
        f"{math.log(g.posteriors):.1f} nats of"
    )
    show(
        f"KL({d.of_codes} || p(z)) of the aggregate posterior, in nats: at least "
        f"{_told(g.least)}, at most {_told(g.most)}; the upper bound, by {mixture} mutual "
        "information"
    )
    show(f"active units: {d.active_units} of {d.code_size} (A_u > {ACTIVE})")
    show(
        f"overfitting: encoder {_told(d.encoder_overfitting)} (amortization gap, held-out minus "
        f"train), decoder {_told(d.decoder_overfitting)} (log {d.of_image}, train minus held-out)"
    )
    if d.samples:
        show(_told_samples(d.samples))
    for sentence in d.advice:
        show(f"advice: {sentence}")
    for warning in d.warnings:
        show(f"warning: {warning}")


def _told(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} ({estimate.standard_error:.2f})"


def _told_base(share: float | None) -> str:
    """Say how many images look broken; an older vaectl did not count them."""
    return "" if share is None else f", and {share:.1%} of held-out images"


def _told_samples(s: Samples) -> str:
    """Say how many samples look broken, and why."""
    told = (
        f"{s.prior:,} of {s.count:,} samples from the prior look broken, {s.aggregate:,} from the "
        f"aggregate posterior{_told_base(s.images)}"
    )
    if not s.prior:
        return told
    return (
        f"{told}; of those from the prior, {s.ink:,} because of their ink, {s.prior - s.ink:,} "
        f"only because of their distance to the training images; {s.holes:,} have codes that "
        "hardly any image has"
    )


def show_exports(exported: Sequence[Exported]) -> None:
    """Print the formats of an exported model, with their largest differences from the run."""
    table = _table("format")
    table.add_column("files", overflow="fold")
    for heading in ("bytes", "difference of encode", "of decode", "kept up to", "seconds"):
        table.add_column(heading, justify="right")
    for each in exported:
        found = each.differences
        numbers = ("", "", "")
        if found is not None:
            numbers = (f"{found.encode:.1e}", f"{found.decode:.1e}", f"{each.tolerance:.0e}")
        names = ", ".join(path.name for path in each.files)
        table.add_row(each.format, names, f"{each.bytes:,}", *numbers, f"{each.seconds:.1f}")
    _print(table)


def show_bench(b: Bench) -> None:
    """Print speeds with their floors, the parts of a step, and the cost of members."""
    threads = f", {b.device['cpu_threads']} threads" if b.device["platform"] == "cpu" else ""
    show(
        f"{b.device['kind']} ({b.device['platform']}{threads}), products of training in "
        f"{b.precision}, medians of {b.rounds} rounds"
    )
    _print(_work_table("work", b.work))
    parts = _table("a training step", "ms", "share")
    for part in b.parts:
        parts.add_row(part.name, f"{part.milliseconds:.3f}", f"{part.share:.0%}")
    _print(parts)
    if b.scaling:
        _print(_work_table("training with", b.scaling))
    p = b.population
    show(f"compilation without a cache: {b.compile_seconds:.1f} s")
    show(f"peak memory: {b.peak_memory / 2**20:,.0f} MiB")
    show(f"images streamed from host memory: {b.streamed:.0%} of the speed")
    show(
        f"cost of each of {p.members} members, relative to one run: {p.together:.2f} together, "
        f"{p.in_turn:.2f} in turn"
    )
    show(f"on this machine, members train {p.chosen}: {p.reason}")


def _work_table(heading: str, rows: Sequence[Work]) -> Table:
    table = _table(heading, "images/s", "seconds", "matrix products alone", "ratio")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.images_per_second:,.0f}",
            f"{row.seconds:.3f}",
            f"{row.floor:.3f}",
            f"{row.ratio:.2f}",
        )
    return table


def show_comparison(c: Comparison, added: Sequence[str] = ()) -> None:
    """Print tables with a row for each optimizer, what they rest on, and the verdict."""
    from vaectl.comparison import words
    from vaectl.studies.statistics import told_outliers

    seeds, brackets = len(c.seeds), f" [{c.intervals}]" if len(c.seeds) > 1 else ""
    show(
        f"{c.name}: protocol {c.protocol}, {seeds} seed{'s' * (seeds > 1)}, {c.epochs} epochs, "
        f"{c.trials} trials; nats per image{brackets}"
    )
    labels = [side.label for side in c.sides]
    columns = [words.board(c), words.details(c)]
    for of_table in columns:
        show_columns(labels, [column for column in of_table if not column.wide])
    show("")
    cells = [[cell.text for cell in column.cells] for table in columns for column in table]
    near = words.close(c.sides, c.pairs)
    lines = [
        f"{words.APPROXIMATELY}: not told apart from {labels[0]}" * bool(near),
        words.told_tests(c.pairs),
        told_outliers(*cells),
        f"The target is {c.target_told}." * (c.target is not None),
        words.told_times(c),
        *words.told_along(c),
        words.told_pairs(c),
        *(f"diverged: {trial}" for trial in c.diverged),
        c.verdict,
        *(words.standing(c, label) for label in added),
    ]
    for line in filter(None, lines):
        show(line)


def show_columns(labels: Sequence[str], columns: Sequence[words.Column]) -> None:
    """Print columns in as few tables below each other as the width needs; no interval breaks."""
    console = _console()
    width = console.width if console.is_terminal else _WIDTH_OF_RESULTS
    unbounded = console.options.update(width=_WIDTH_WITHOUT_TERMINAL)

    def tables(*, folded: bool) -> list[Table]:
        found: list[Table] = []
        some: list[words.Column] = []
        for column in columns:
            table = _of_columns(labels, [*some, column], width, folded=folded)
            if some and console.measure(table, options=unbounded).maximum > width:
                table, some = _of_columns(labels, [column], width, folded=folded), []
            found[-1 if some else len(found) :] = [table]
            some.append(column)
        return found

    for table in min(tables(folded=False), tables(folded=True), key=len):
        show("")
        console.print(table)


def _of_columns(
    labels: Sequence[str], columns: Sequence[words.Column], width: int, *, folded: bool
) -> Table:
    """Build a table in which long labels break, and headings wider than what is below them.

    Args:
        labels: the names of the rows; none has one if all are empty.
        columns: the others.
        width: that of the terminal.
        folded: give what is in parentheses a line of its own, and break headings at every space.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    named = any(labels)
    if named:
        table.add_column("", overflow="fold", max_width=width // 4)
    filled = []
    for column in columns:
        cells = [each.text.replace(" (", "\n(") if folded else each.text for each in column.cells]
        widths = [len(line) for cell in cells for line in cell.splitlines()]
        least = 0 if folded else min(len(column.heading), _HEADING)
        most = max([*widths, *map(len, column.heading.split()), least])
        table.add_column(
            Text(textwrap.fill(visible(column.heading), most, break_on_hyphens=False)),
            justify="right" if column.numbers else "left",
            no_wrap=most < width // 2,  # settings that were found may be long
        )
        filled.append(cells)
    for name, *texts in zip(labels, *filled, strict=True):
        table.add_row(*[Text(visible(name))] * named, *map(Text, texts))
    return table


def _told_columns(
    columns: Mapping[str, Sequence[str]], left: Collection[str] = ()
) -> list[words.Column]:
    """Return columns of text, some of them aligned to the left."""
    from vaectl.comparison.words import Cell, Column

    return [
        Column(name, [Cell(visible(text)) for text in texts], numbers=name not in left)
        for name, texts in columns.items()
    ]


def show_sweep(s: Sweep) -> None:
    """Print the best points, the effects of what varies, and the verdict."""
    from vaectl.studies.statistics import shown, told_outliers
    from vaectl.sweeps.summary import told_pairs, value_of, written

    seeds, brackets = len(s.seeds), f" [{s.intervals}]" if len(s.seeds) > 1 else ""
    show(
        f"{s.name}: {s.points:,} points, {seeds} seed{'s' * (seeds > 1)}, {s.trials:,} "
        f"trial{'s' * (s.trials != 1)}{' to the end' if s.search else ''}; "
        f"nats per image{brackets}"
    )
    best = s.ranked[:_BEST_POINTS]
    ranks = [f"{rank}" for rank in range(1, len(best) + 1)]
    columns = {key: [value_of(point.values[key]) for point in best] for key in s.keys}
    columns[f"best validation {label(s.quantity)}"] = [shown(point.score) for point in best]
    if s.search:
        columns["epochs"] = [f"{point.epochs}" for point in best]
    left = [seeds - point.diverged - point.missing for point in best]
    columns["seeds"] = [f"{count} of {seeds}" for count in left]
    show_columns(ranks, _told_columns(columns))
    if len(s.ranked) > _BEST_POINTS:
        show(f"\nthe best {_BEST_POINTS} of {len(s.ranked):,} points; points.csv has all trials")
    if s.effects:
        rows = [
            {
                "key": "" if number else " with ".join(effect.keys),
                "value": ", ".join(map(value_of, level.values.values())),
                "effect, on average over all else": shown(level.effect),
                "diverged": f"{level.diverged} of {level.trials}" if level.diverged else "",
            }
            for effect in s.effects
            for number, level in enumerate(effect.levels)
        ]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        if not any(columns["diverged"]):
            del columns["diverged"]
        show_columns([""] * len(rows), _told_columns(columns, left=["key"]))
    show("")
    for trend in s.trends:
        show(f"{trend.key}: rank correlation with the score {shown(trend.correlation)}")
    if s.places > 1:
        show(f"trained with {s.places} sets of devices, threads and versions: times do not compare")
    if len(s.kinds) > 1:
        show(told_pairs(s))
    if outliers := told_outliers(map(shown, written(s, _BEST_POINTS))):
        show(outliers)
    for trial in s.diverged:
        show(f"diverged: {trial}")
    show(s.verdict)
    if s.best and s.best.test_elbo:
        bound = f", IW-{s.importance_samples} {shown(s.best.test_log_likelihood)}"
        show(f"test ELBO of the best {shown(s.best.test_elbo)}{bound}")


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def _table(heading: str, *numbers: str) -> Table:
    """Begin a table: a column of text, and columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(heading)
    for each in numbers:
        table.add_column(each, justify="right")
    return table


def _print(table: Table) -> None:
    _console().print(table)
