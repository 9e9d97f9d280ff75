import io
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from tests.colours import TEXT, contrast, lightness
from vaectl.base.errors import ConfigError
from vaectl.objectives.base import Objective
from vaectl.optimizers.base import Optimizer
from vaectl.pictures import charts, fields, figures, inspection, responses, search, style, text
from vaectl.pictures import sheets as pictures
from vaectl.pictures.canvas import Figure
from vaectl.pictures.style import DEFAULT, MM, Style
from vaectl.pictures.traces import Trace
from vaectl.runs.directory import save_figure
from vaectl.runs.metrics import Row


def _row(epoch: int, split: Literal["train", "validation"], elbo: float, kl: float) -> Row:
    return Row(epoch, 10 * epoch, split, {"elbo": elbo, "kl": kl, "nll": -elbo - kl}, 1.0)


def _rows(epochs: int) -> list[Row]:
    rows = []
    for epoch in range(1, epochs + 1):
        elbo = -80.0 - 200.0 / epoch
        rows += [_row(epoch, "train", elbo, 20.0), _row(epoch, "validation", elbo - 2, 21.0)]
    return rows


@pytest.mark.parametrize("quantity", ["elbo", "kl", "nll"])
def test_train_is_dashed_validation_solid_and_axes_have_units(quantity: str) -> None:
    rows = _rows(30)
    axes = figures.curves(rows, quantity, title="mnist-z20").axes[0]
    train, validation = axes.lines
    assert (train.get_label(), train.get_linestyle()) == ("train", "--")
    assert (validation.get_label(), validation.get_linestyle()) == ("validation", "-")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "nats per image")
    assert axes.get_title(loc="left") == quantity.upper()
    expected = [row.terms[quantity] for row in rows if row.split == "validation"]
    np.testing.assert_array_equal(validation.get_ydata(), expected)


@pytest.mark.parametrize("epochs", [1, 2, 40, 200])
def test_all_epochs_lie_inside_the_axes(epochs: int) -> None:
    figure = figures.curves(_rows(epochs), title="")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["ELBO", "KL", "NLL"]
    for axes in figure.axes:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        for line in axes.lines:
            x, y = np.asarray(line.get_xydata()).T
            assert len(x) == epochs
            assert left <= x.min() <= x.max() <= right
            assert low <= y.min() <= y.max() <= high


def test_each_number_says_how_it_is_estimated() -> None:
    rows = [Row(1, 1, "train", {"iwae": -1.0, "elbo": -2.0, "kl": 1.0, "nll": 1.0}, 1.0)]
    how = Objective.known["iwae"]().estimators(8)
    titles = [a.get_title(loc="left") for a in figures.curves(rows, title="", how=how).axes]
    assert titles == ["IWAE, K = 8", "ELBO, 8 samples", "KL, closed form", "NLL, 8 samples"]
    for plug in Objective.known.values():
        assert "sample" not in plug().estimators(1)["kl"]


def test_axes_of_a_comparison_fit_what_is_settled_but_for_the_kl_and_say_so() -> None:
    traces = [Trace.of(label, [_rows(100)]) for label in ("adam", "sgd")]
    figure = charts.curves(traces, title="", settled=True)
    for axes, whole in zip(figure.axes, (False, True, False), strict=True):
        low, high = axes.get_ylim()
        values = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
        assert (low < values.min() and values.max() < high) == whole
    assert "ELBO and NLL" in figure.legends[0].get_title().get_text()
    later = charts.curves(traces, title="", first=50).axes[0]
    assert all(np.asarray(line.get_xdata())[0] == 50 for line in later.lines)


LONG = "a run with a long name, " * 9 + 60 * "x"
ODD_NAME = "$x$ $\\frac{ <script>alert(1)</script> &amp; 🎲 數 \x1b[31m \udcff _^%"
ODD_LABELS = [ODD_NAME[:12], *(f"{x:.1f}" for x in np.linspace(-3, 3, 19))]
RNG = np.random.default_rng(0)


def _curves(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    return figures.curves(_rows(20), title=title, facts=facts, style=how)


def _several(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    names = (text.plain(title)[:80], "b", "from $5 to $10")
    traces = [Trace.of(name, [_rows(9)]) for name in names]
    return charts.curves(traces, title=title, facts=facts, style=how)


def _inspection(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    mu, labels = RNG.normal(size=(300, 12)), RNG.integers(10, size=300).astype(np.int32)
    kl = np.linspace(2, 1, 12)
    return inspection.inspection(_plane(mu, labels), kl, title=title, facts=facts, style=how)


def _plane(mu: np.ndarray, labels: np.ndarray | None = None) -> inspection.Posteriors:
    return inspection.Posteriors((0, 1), mu[:, :2], mu[:, :2] - 3, labels)


def _sheet(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    images = np.zeros((20, 20, 28, 28), np.float32)
    labels = [f"{x:.1f}" for x in np.linspace(-3, 3, 20)]
    panel = pictures.Panel(images, "latent space", ODD_LABELS, labels, "z", "y")
    return pictures.sheet([[panel]], title=title, facts=facts, style=how)


MANY = [*Optimizer.known, "a-label-of-a-users-own-optimizer", 20 * "long"]


def _board(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    bars = [
        fields.Bar(name, -100.0 - place, -101.0 - place, -99.0 - place, [-100.0 - place])
        for place, name in enumerate(MANY)
    ]
    bars.append(fields.Bar("sunk", -900.0, None, None, [-900.0]))
    return fields.board(bars, "elbo", title=title, facts=facts, style=how)


def _along(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    ranks = {name: np.linspace(1.0, place + 1, 12) for place, name in enumerate(MANY)}
    return fields.along(ranks, MANY, title=title, facts=facts, style=how)


def _profile(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    found = {name: ([1, 1 + place, 30], [0, 1, 1]) for place, name in enumerate(MANY)}
    return fields.profile(found, MANY, title=title, facts=facts, style=how)


def _effects(title: str, how: Style = DEFAULT, facts: str = "") -> Figure:
    rows = [responses.Row(name, place, place - 1.0, place + 1.0) for place, name in enumerate(MANY)]
    found = {"optimizer": rows[-4:], "b": rows[:2]}
    return responses.effects(found, "elbo", title=title, facts=facts, style=how)


DRAWINGS: dict[str, Callable[..., Figure]] = {
    "curves": _curves,
    "several": _several,
    "inspection": _inspection,
    "sheet": _sheet,
    "board": _board,
    "effects": _effects,
    "along": _along,
    "profile": _profile,
}
LOOKS = [
    ("paper", "column"),
    ("slides", None),
    ("dark", "column"),
    *(pytest.param(*look, marks=pytest.mark.full) for look in (("paper", "page"), ("dark", "175"))),
]


OF_PAGES = ("board", "effects", "along", "profile")
"""Figures that are only drawn for pages, in one look."""


@pytest.mark.parametrize("kind", OF_PAGES)
def test_figures_of_many_optimizers_are_readable(kind: str) -> None:
    test_figures_are_as_wide_as_wanted_and_nothing_touches(kind, "paper", None)


@pytest.mark.parametrize(("theme", "width"), LOOKS)
@pytest.mark.parametrize("kind", [kind for kind in DRAWINGS if kind not in OF_PAGES])
def test_figures_are_as_wide_as_wanted_and_nothing_touches(
    kind: str, theme: str, width: str | None
) -> None:
    how = style.parse(theme=theme, width=width)
    figure = DRAWINGS[kind](LONG, how)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    wide, high = 25.4 * figure.get_size_inches()
    if how.chosen_width or how.theme.width:
        assert wide == pytest.approx(how.width() / MM, abs=0.1)
    assert high <= how.height(72 * wide / 25.4) * 25.4 / 72 + 0.1
    renderer = canvas.get_renderer()
    (heading,) = figure.texts
    box = heading.get_window_extent(renderer)
    page = Bbox.from_bounds(0, 0, *figure.bbox.size)
    assert heading.get_text().count("\n") >= 1
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    assert box.y1 <= page.y1
    panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
    legends = [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes = [box, *(panel for panel in panels if panel is not None), *legends]
    for each in boxes:
        assert page.x0 - 1 <= each.x0 <= each.x1 <= page.x1 + 1
        assert page.y0 - 1 <= each.y0 <= each.y1 <= page.y1 + 1
    for one, other in itertools.combinations(boxes, 2):
        overlap = Bbox.intersection(one, other)
        assert overlap is None or min(overlap.width, overlap.height) < 1
    written = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    assert min(float(t.get_fontsize()) for t in written) >= 6 - 1e-6
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            found = [label.get_window_extent(renderer) for label in labels if label.get_text()]
            for one, other in itertools.pairwise(found):
                assert Bbox.intersection(one, other) is None


@pytest.mark.parametrize("kind", DRAWINGS)
def test_a_heading_is_replaced_or_turned_off(kind: str) -> None:
    def shown(title: str | None) -> tuple[str, float]:
        figure = DRAWINGS[kind]("own", style.parse(title=title), facts="what it means")
        texts = "".join(t.get_text() for t in figure.texts)
        return texts, float(figure.get_size_inches()[1])

    (own, high), (mine, _), (none, less) = shown(None), shown("mine"), shown("none")
    assert (own, mine, none) == ("own\nwhat it means", "mine\nwhat it means", "")
    assert less < high


def test_a_latent_space_is_drawn_where_there_is_room() -> None:
    test_figures_are_as_wide_as_wanted_and_nothing_touches("inspection", "paper", "60")
    with pytest.raises(ConfigError, match="--width 59: too narrow"):
        _inspection("", style.parse(width="59"))


def test_the_range_of_seeds_that_reached_the_end_is_whole_though_one_did_not() -> None:
    trace = Trace.of("adam", [_rows(100), _rows(50)])
    axes = charts.curves([trace], title="").axes[0]
    assert axes.get_ylim()[0] < -282


def test_times_within_a_decade_have_a_linear_axis() -> None:
    traces = [Trace.of("adam", [_rows(100)])]
    for first, scale in ((1, "log"), (40, "linear")):
        axes = charts.curves(traces, "seconds", title="", first=first).axes[0]
        assert axes.get_xscale() == scale
    alone = charts.curves(traces, "seconds", title="", first=100).axes[0]
    assert alone.get_xlim()[0] < 100 < alone.get_xlim()[1]


def test_epochs_that_took_no_measurable_time_are_drawn() -> None:
    for times in ((0.0, 0.0, 0.0), (0.0, 0.001, 0.001)):
        rows = [_row(epoch, "train", -90.0, 20.0) for epoch in (1, 2, 3)]
        timed = [row._replace(seconds=time) for row, time in zip(rows, times, strict=True)]
        axes = charts.curves([Trace.of("", [timed])], "seconds", title="").axes[0]
        assert axes.get_xscale() == "linear"
        assert axes.get_xlim()[0] < 0 < axes.get_xlim()[1]


def test_an_interval_beyond_the_axis_has_an_arrow() -> None:
    wide = fields.Bar("wide", -104.0, -504.0, 296.0, [-103.0, -105.0])
    good = fields.Bar("good", -100.0, -101.0, -99.0, [-100.0])
    for bars, arrows in (([good, wide], {"<", ">"}), ([good], set())):
        axes = fields.board(bars, "elbo", title="").axes[0]
        assert {line.get_marker() for line in axes.lines} - {"|", "o"} == arrows
        assert ("arrow" in axes.get_xlabel()) == bool(arrows)


def test_steps_of_one_height_are_told_apart_by_their_markers() -> None:
    found = {name: ([1, 2 + place, 30], [0.0, 1.0, 1.0]) for place, name in enumerate("abcdefg")}
    axes = fields.profile(found, [*found], title="").axes[0]
    marks = [line.get_marker() for line in axes.lines]
    assert all(marks.count(mark) == 2 for mark in marks)  # of a line, and beside its name
    assert len(set(marks)) == 7


def test_crosses_at_one_rate_do_not_hide_each_other() -> None:
    tried = {f"{i}": [(1e-3, -90.0), (1.0, None)] for i in range(12)}
    figure = search.sensitivity(tried, "elbo", title="")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    lines = figure.axes[0].lines
    crosses = [e for e in lines if e.get_marker() == "x" and np.size(e.get_xdata())]
    heights = {round(float(line.get_transform().transform((1.0, 0.0))[1])) for line in crosses}
    assert len(crosses) == len(heights) == 11  # one of those without a colour


def test_the_codes_that_are_drawn_are_named_and_names_do_not_touch() -> None:
    labels = np.arange(300, dtype=np.int32) % 10
    angle = 2 * np.pi * labels / 10
    mu = np.stack([2 * np.cos(angle), 2 * np.sin(angle)], 1) + 0.2 * RNG.normal(size=(300, 2))
    mu = np.concatenate([mu, RNG.normal(size=(300, 58))], axis=1)
    for how in (DEFAULT, style.parse(theme="dark", width="column")):
        kl = np.linspace(2, 0, 60)
        figure = inspection.inspection(_plane(mu, labels), kl, title="", style=how)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        names = [text for text in figure.axes[1].texts if text.get_text().isdigit()]
        assert sorted(int(text.get_text()) for text in names) == list(range(10))
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.axes[1].texts]
        for one, other in itertools.combinations(boxes, 2):
            assert Bbox.intersection(one, other) is None
        bars = figure.axes[0]
        ticks = [label.get_text() for label in bars.get_yticklabels()]
        assert ticks == [*map(str, range(len(ticks) - 1)), "others"]
        assert len(bars.patches) == len(ticks) < 60
        (last,) = bars.patches[-1:]
        assert isinstance(last, Rectangle)
        assert last.get_width() == pytest.approx(kl[len(ticks) - 1 :].mean())


def test_classes_that_lie_everywhere_have_no_name_but_all_have_a_key() -> None:
    labels = RNG.integers(10, size=400).astype(np.int32)
    mu = RNG.normal(size=(400, 2))
    axes = inspection.inspection(_plane(mu, labels), np.ones(2), title="").axes[1]
    assert sum(text.get_text().isdigit() for text in axes.texts) < 5
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [str(i) for i in range(10)]


@pytest.mark.parametrize("kl", [3e-8, 2.4e-4, 1e-3, 0.09, 3.2, 3e4])
@pytest.mark.parametrize("how", [("paper", "page"), ("slides", "slide")])
def test_numbers_of_the_kl_axis_do_not_touch(kl: float, how: tuple[str, str]) -> None:
    mu = RNG.normal(size=(50, 2))
    figure = inspection.inspection(
        _plane(mu), np.full(20, kl), title="", style=style.parse(theme=how[0], width=how[1])
    )
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    drawn = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in drawn]
    assert len(boxes) >= 2
    assert not axes.xaxis.get_offset_text().get_text()
    for one, other in itertools.pairwise(boxes):
        assert one.x1 + 2 < other.x0


@pytest.mark.parametrize("kind", ["classes", "no classes", "a prior"])
def test_a_code_of_one_dimension_has_rows_and_no_circles(kind: str) -> None:
    mu = RNG.normal(size=(300, 1))
    labels = None if kind == "no classes" else np.arange(300, dtype=np.int32) % 3
    prior = RNG.normal(size=(300, 1)) if kind == "a prior" else None
    found = inspection.Posteriors((0,), mu, mu - 3, labels, ("a", "b", "c"), prior)
    figure = inspection.inspection(found, np.ones(1), title="")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    _, means, density = figure.axes
    assert means.get_xlabel() == "z₀"
    assert means.get_ylabel() == ("" if labels is None else "class")
    rows = means.lines[: 1 if labels is None else 3]
    for row, line in enumerate(rows):
        x, y = np.asarray(line.get_data())
        np.testing.assert_array_equal(x, mu[slice(None) if labels is None else labels == row, 0])
        assert np.abs(y - row).max() < 0.5
    lines = {tuple(np.asarray(line.get_xdata()).tolist()) for line in means.lines[len(rows) :]}
    if prior is None:
        assert lines == {(x, x) for x in (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)}
    drawn = [str(line.get_label()) for line in density.lines]
    assert drawn == ["z₀", "prior" if prior is None else "prior, z₀"]


@pytest.mark.parametrize("epochs", [1, 2, 3, 150])
def test_curves_of_few_epochs_are_told_apart_point_by_point(epochs: int) -> None:
    axes = figures.curves(_rows(epochs), "elbo", title="").axes[0]
    train, validation = axes.lines
    for line, filled in ((train, False), (validation, True)):
        marked = line.get_marker() not in ("", "None")
        assert marked == (epochs <= 3)
        assert (line.get_markerfacecolor() == line.get_color()) == filled
    ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
    assert all(float(tick).is_integer() for tick in ticks)
    assert set(ticks) >= set(range(1, epochs + 1)) or epochs > 3


def test_every_row_of_panels_has_units() -> None:
    other = [row._replace(terms={"iwae": -80.0, "kl": 20.0}) for row in _rows(9)]
    traces = [
        Trace.of(kind, [rows])._replace(kind=kind) for kind, rows in (("a", _rows(9)), ("b", other))
    ]
    figure = charts.curves(traces, title="")
    units = {axes.get_title(loc="left"): axes.get_ylabel() for axes in figure.axes}
    assert {title for title, unit in units.items() if unit == "nats per image"} == {
        "ELBO\na",
        "KL\nb",
    }


def test_a_short_curve_beside_a_long_one_is_seen() -> None:
    traces = [Trace.of(str(epochs), [_rows(epochs)]) for epochs in (3, 150)]
    axes = charts.curves(traces, title="").axes[0]
    short = axes.transAxes.inverted().transform(axes.transData.transform([[1, 0], [3, 0]]))
    assert short[1, 0] - short[0, 0] > 0.15


@pytest.mark.parametrize("width", ["column", "page"])
def test_what_does_not_compare_has_its_own_axes(width: str) -> None:
    kinds = ("densities of grey levels", "binarized at 0.5", "densities of grey levels")
    traces = [Trace.of(str(i), [_rows(9)])._replace(kind=k) for i, k in enumerate(kinds)]
    figure = charts.curves(traces, title="", style=style.parse(width=width))
    drawn = {
        axes.get_title(loc="left"): {str(line.get_label()).strip("_") for line in axes.lines}
        for axes in figure.axes
    }
    assert len(drawn) == 6
    for title, names in drawn.items():
        assert names == ({"1"} if "binarized" in title.replace("\n", " ") else {"0", "2"})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    slides = style.parse(theme="slides")
    assert charts.curves(traces, title="", style=slides)
    others = [trace._replace(kind=str(i)) for i, trace in enumerate(traces)]
    with pytest.raises(ConfigError, match="9 panels have no room on a slide") as refused:
        charts.curves(others, title="", style=slides)
    assert "--term" in refused.value.hint
    # a colour and a marker stand for a run, wherever it is drawn
    marks: dict[Any, set[Any]] = {}
    for line in (line for axes in figure.axes for line in axes.lines):
        marks.setdefault(str(line.get_label()).strip("_"), set()).add(
            (line.get_color(), line.get_marker())
        )
    assert len(set.union(*marks.values())) == len(marks) == 3


@pytest.mark.parametrize("theme", style.THEMES.values(), ids=lambda theme: theme.name)
def test_colours_differ_in_grey_too(theme: style.Theme) -> None:
    levels = sorted(lightness(colour) for colour in theme.palette)
    assert np.diff(levels).min() >= 5.5
    first = sorted(lightness(colour) for colour in theme.palette[:4])  # most figures need few
    assert np.diff(first).min() >= 10
    paper = lightness(theme.paper)
    assert all(contrast(colour, theme.paper) >= TEXT for colour in (theme.ink, theme.accent))
    assert min(abs(paper - each) for each in levels) > 20


def test_points_are_the_smaller_the_more_there_are() -> None:
    sizes = []
    for count in (50, 500, 10_000):
        mu, labels = RNG.normal(size=(count, 2)), np.arange(count, dtype=np.int32) % 3
        figure = inspection.inspection(_plane(mu, labels), np.ones(2), title="")
        points = figure.axes[1].lines[:3]
        assert len({line.get_marker() for line in points}) == 3
        assert all(line.get_rasterized() == (count > 2000) for line in points)
        sizes.append(points[0].get_markersize())
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] > 2
    assert sizes[2] < 1


def test_lines_are_broken_where_they_are_too_wide() -> None:
    for line in ("one two three " * 20, 200 * "x", "short", "a\n" + "b " * 90):
        found = text.wrapped(line, 100, 8)
        assert text.widest(found.splitlines(), 8) <= 100
        assert re.sub(r"\s", "", found) == re.sub(r"\s", "", line)
    assert text.wrapped("short", 100, 8) == "short"
    assert text.width("wide", 16) == pytest.approx(2 * text.width("wide", 8))


@pytest.mark.parametrize("width", ["", "colum", "39", "1001", "nan", "8e5"])
def test_what_is_no_width_is_refused(width: str) -> None:
    with pytest.raises(ConfigError, match=f"--width {width}"):
        style.parse(width=width)
    assert style.parse(width="120mm").chosen_width == style.parse(width="120").chosen_width == 120


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_short_runs_are_drawn_too(epochs: int) -> None:
    figure = figures.curves(_rows(epochs), "elbo", title="short")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    pixels = np.asarray(Image.open(file))[..., :3]
    assert pixels.shape[1] == pytest.approx(120 / 25.4 * 300, abs=1)
    assert pixels.min() < 100
    assert (pixels == 255).mean() > 0.5


@pytest.mark.parametrize("kind", ["svg", "pdf"])
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_text_stays_text_and_names_are_neither_mathematics_nor_markup(
    drawing: str, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{kind}"
    save_figure(file, DRAWINGS[drawing](ODD_NAME))
    if kind == "svg":
        elements = list(ElementTree.parse(file).iter())  # noqa: S314  # our own
        assert not [each for each in elements if each.tag.endswith("}script")]
        texts = ["".join(e.itertext()) for e in elements if e.tag.endswith("}text")]
        assert any("$x$ $\\frac{ <script>" in found for found in texts)
    else:
        assert b"/FontFile2" in file.read_bytes()
        assert b"/Type3" not in file.read_bytes()
