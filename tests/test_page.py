"""The page and the tables of a comparison of twenty optimizers, made up."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.browser import Browser, needs_chromium
from vaectl.cli.tables.runs import _short
from vaectl.cli.tables.studies import show_comparison, show_sweep
from vaectl.comparison import plan, report, words
from vaectl.comparison.order import in_order, order_of
from vaectl.comparison.summary import Pair, Side, Summary, Tried
from vaectl.pictures import charts, fields, search
from vaectl.pictures.style import DEFAULT
from vaectl.pictures.traces import Trace
from vaectl.studies.statistics import Interval
from vaectl.sweeps.plan import load as load_sweep
from vaectl.sweeps.report import render as render_sweep
from vaectl.sweeps.summary import Summary as Sweep

ROOT = Path(__file__).parents[1]
LABELS = ["adam", "adamw", *(f"an_optimizer.no-{number:05d}" for number in range(18))]
"""As long as ordinary labels are, at most."""
RNG = np.random.default_rng(0)


def _interval(mean: float) -> Interval:
    return Interval(mean, mean - 10.25, mean + 10.25, 3)


def _side(place: int, label: str) -> Side:
    score = _interval(-100.0 - place)
    return Side(
        label=label,
        optimizer="adam",
        learning_rate=0.001 * (place + 1),
        best_run=f"runs/field/{label}-s0",
        seeds=3,
        diverged=0,
        final={"elbo": score},
        best={"elbo": score},
        test_elbo=score,
        test_log_likelihood=score,
        test_kl=_interval(20.0),
        active_units=_interval(20.0),
        collapsed=place % 2,
        ranks=[place + 1.0] * 3,
        mean_rank=place + 1.0,
        epochs_to_target=[12, 13, None if place % 3 else 14],
        steps_to_target=[1200, 1300, None if place % 3 else 1400],
        seconds_to_target=[120.0, 130.0, None if place % 3 else 140.0],
        steps_to_baseline=_interval(100.0),
        seconds_per_step=0.1,
        # in another order than the scores; some were not measured
        relative_time=None if place == 7 else 1.0 + (7 * place % 20) / 10,
        ranks_along=[place + 1.0] * 4,
        tunable=1,
        tried=[Tried(learning_rate=0.001, score=-100.0)],
        at_edge=place == 3,
        expected_best=[-100.0],
    )


def _field(count: int) -> Summary:
    labels = LABELS[:count]
    pairs = [
        Pair(
            a=a,
            b=b,
            difference=_interval(15.0),
            probability=1.0,
            seeds=3,
            p_value=0.01,
            adjusted_p=0.6,
        )
        for place, a in enumerate(labels)
        for b in labels[place + 1 :]
    ]
    return Summary(
        name="field",
        path="runs/field",
        verdict="made up",
        protocol="tuned",
        seeds=[0, 1, 2],
        epochs=4,
        code_size=20,
        trials=300,
        diverged=[],
        quantity="elbo",
        baseline="adamw",
        target=-105.25,
        target_told="a number",
        loaded="",
        leaders=[(1, labels[0])],
        crossings=[],
        importance_samples=100,
        intervals="95% t interval over seeds",
        metrics={},
        data={},
        device={},
        versions={},
        places=1,
        kinds={},
        git_commit=None,
        sides=[_side(place, label) for place, label in enumerate(labels)],
        pairs=pairs,
    )


def _traces(count: int) -> list[Trace]:
    def trace(place: int) -> Trace:
        elbo = np.linspace(-200.0, -100.0 - place, 4) + RNG.normal(size=(3, 4))
        values = {"elbo": elbo}
        return Trace(LABELS[place], np.ones((3, 4)).cumsum(axis=1), values, values)

    return [trace(place) for place in range(count)]


def _entries(count: int) -> list[dict[str, object]]:
    return [
        {"name": "sgd", "label": label, "momentum": place / 100}
        for place, label in enumerate(LABELS[:count])
    ]


def _write(path: Path, count: int) -> Path:
    runs = {label: {seed: f"{label}-s{seed}" for seed in range(3)} for label in LABELS[:count]}
    settings = plan.load(options={"optimizers": _entries(count)})
    page = report.render(_field(count), settings, _traces(count), {}, runs)
    path.write_text(page)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("page") / "report.html", 20)


ROWS = """
const rows = table => [...document.querySelectorAll("table")[table].tBodies[0].rows]
  .filter(row => getComputedStyle(row).display !== "none").map(row => row.dataset.labels);
const buttons = state => [...document.querySelectorAll("#legend button")]
  .filter(each => each.checkVisibility() && each.getAttribute("aria-pressed") === state)
  .map(each => each.textContent);
const curves = () => [...new Set([...document.querySelectorAll("#charts [data-label]")]
  .map(each => each.dataset.label))];
"""


def test_each_member_is_linked_to_its_run_beside_the_page(page: Path) -> None:
    links = re.findall(r'href="(?!data:)([^"]*)"', page.read_text())
    assert links == [f"{label}-s{seed}/" for label in LABELS for seed in range(3)]


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 700, 1200])
def test_nothing_is_cut_or_hidden_at_any_width(page: Path, chromium: Browser, width: int) -> None:
    chromium.open(page, width=width)
    found = chromium.ask(
        "const wide = e => e.checkVisibility() && (e.scrollWidth > e.clientWidth + 1 && "
        "e.clientWidth || e.getBoundingClientRect().right > innerWidth + 1);"
        "return [document.documentElement.scrollWidth - innerWidth, "
        "[...document.querySelectorAll('td, th, p, button, dd')].filter(wide)"
        ".map(e => e.textContent)]"
    )
    assert found == [0, []]
    # a value on a card has its heading before it
    told = chromium.ask(
        "const cell = document.querySelector('tbody td');"
        "return getComputedStyle(cell, '::before').content"
    )
    assert ("rank" in told) == (width < 800)
    assert chromium.errors == []


@needs_chromium
def test_a_heading_sorts_and_what_is_not_known_goes_last(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    find = (
        "[...document.querySelectorAll('th button')].find(b => b.textContent === 'time of a step')"
    )
    times = [side.relative_time for side in _field(20).sides]
    known = sorted((place for place in range(20) if times[place]), key=lambda at: times[at] or 0.0)
    for order, state in ((known, "ascending"), (known[::-1], "descending")):
        chromium.ask(f"{find}.focus()")
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        chromium.send("Input.dispatchKeyEvent", type="keyDown", **key)
        chromium.send("Input.dispatchKeyEvent", type="keyUp", **key)
        found = chromium.ask(
            f"{ROWS} return [rows(0), {find}.closest('th').ariaSort, "
            "document.querySelectorAll('table')[0].querySelectorAll("
            "'[aria-sort$=ending]').length]"
        )
        assert found == [[LABELS[at] for at in (*order, 7)], state, 1]
    # a telephone has no headings, but a list of them
    chromium.open(page, width=390)
    found = chromium.ask(
        f"{ROWS} const list = document.querySelector('.sorting select');"
        "const before = [list.checkVisibility(), list.selectedOptions[0].textContent];"
        "list.value = '1 -1'; list.dispatchEvent(new Event('change'));"
        "return [...before, rows(0)]"
    )
    assert found == [True, "rank, up", LABELS[::-1]]


@needs_chromium
@pytest.mark.parametrize("width", [390, 1200])
def test_the_filter_holds_for_tables_legend_and_curves(
    page: Path, chromium: Browser, width: int
) -> None:
    chromium.open(page, width=width)
    first = chromium.ask(f"{ROWS} return [curves(), buttons('true'), buttons('false')]")
    assert first == [LABELS[:5], LABELS[:5], LABELS[5:]]
    found = chromium.ask(
        f"{ROWS} const box = document.getElementById('filter');"
        "box.value = 'ADAM, 00017'; box.dispatchEvent(new Event('input'));"
        "const found = [rows(0), rows(1), curves(), buttons('true'), buttons('false')];"
        "document.querySelector('[data-all=true]').click(); found.push(curves());"
        "document.querySelector('[data-all=\"\"]').click(); found.push(curves());"
        "box.value = ''; box.dispatchEvent(new Event('input'));"
        "return [...found, rows(1), curves()]"
    )
    kept = [*LABELS[:2], LABELS[19]]
    assert found == [kept, kept, LABELS[:2], LABELS[:2], kept[2:], kept, [], LABELS, LABELS[2:5]]
    assert chromium.errors == []


@needs_chromium
def test_many_pairs_do_not_swamp_the_page(page: Path, chromium: Browser, tmp_path: Path) -> None:
    ask = (
        f"{ROWS} return [rows(2).length, document.querySelector('.others table') && rows(3).length]"
    )
    chromium.open(page)
    # those of the first, and those of the baseline, which is the second
    assert chromium.ask(ask) == [19 + 18, 190 - 37]
    assert chromium.ask("return document.querySelector('.others').open") is False
    chromium.open(_write(tmp_path / "few.html", 4))
    assert chromium.ask(ask) == [6, None]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("count", [1, 20])
def test_tables_fit_the_terminal_and_break_no_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, count: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    summary = _field(count)
    show_comparison(summary)
    lines = capsys.readouterr().out.splitlines()
    *_, last = (number for number, line in enumerate(lines) if not line.strip())
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in lines[1:last]]
    assert max(map(len, lines)) <= width
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert {line.count("[") - line.count("]") for line in lines} == {0}
    # all of the columns, whatever the width
    text = "\n".join(lines)
    assert text.count("-100.00 [-110.25, -89.75]") == 2
    headings = " ".join(text.split())
    for heading in ("rank", "tried", "active"):
        assert heading in headings


def _sweep() -> Sweep:
    told = json.loads((ROOT / "runs/reference/sweep/summary.json").read_text())
    return Sweep.model_validate(told | {"kinds": {}})


@needs_chromium
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_of_a_sweep_is_cut_at_any_width(
    chromium: Browser, width: int, tmp_path: Path
) -> None:
    summary = _sweep()
    summary.data["class_names"] = []
    settings = load_sweep(ROOT / "runs/reference/sweep/sweep.yaml")
    (tmp_path / "report.html").write_text(render_sweep(summary, settings, {}))
    chromium.open(tmp_path / "report.html", width=width)
    beyond = "each => each.scrollWidth > each.clientWidth"
    ask = f"return [document.body, ...document.querySelectorAll('.scroll')].some({beyond})"
    assert chromium.ask(ask) is False
    words = chromium.ask("return document.body.innerText")
    assert ("class_names" in words, "drawings" in words) == (False, False)
    links = chromium.ask("return [...document.links].map(each => each.getAttribute('href'))")
    assert links[0] == "learning_rate-0.003-s0/"
    assert len(links) == 9


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("idx:data/raw/mnist", "idx:…/mnist"),
        ("idx:/data/raw/mnist", "idx:…/mnist"),
        ("images:a/b", "images:a/b"),
        ("tfds:mnist", "tfds:mnist"),
        ("digits-5k", "digits-5k"),
    ],
)
def test_a_source_is_shortened_after_its_scheme(source: str, short: str) -> None:
    assert _short(source, 40) == short


def test_a_page_names_tuning_where_there_was_one_and_breaks_no_p_value() -> None:
    runs: dict[str, dict[int, str]] = {label: {} for label in LABELS[:2]}
    summary = _field(2)
    for protocol, heading in (("tuned", "Seeds and tuning"), ("paper", "Seeds")):
        options = {"optimizers": _entries(2), "protocol": protocol}
        settings = plan.load(options=options)
        text = report.render(summary, settings, _traces(2), {"Board": b""}, runs)
        assert f"<h2>{heading}</h2>" in text
    pairs = [
        pair.model_copy(update={"p_value": 1e-9, "adjusted_p": 1e-9}) for pair in summary.pairs
    ]
    text = report.render(
        summary.model_copy(update={"pairs": pairs}), settings, _traces(2), {}, runs
    )
    assert "&lt;\N{NO-BREAK SPACE}0.001" in text


@pytest.mark.parametrize("width", [80, 120])
def test_tables_of_a_sweep_break_no_interval_and_no_key(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "vaectl.cli.tables.studies.console",
        lambda: Console(highlight=False, width=width, force_terminal=True, color_system=None),
    )
    show_sweep(_sweep())
    lines = capsys.readouterr().out.split("Best: ")[0].splitlines()[1:]
    assert max(map(len, lines)) <= width
    assert {line.count("[") - line.count("]") for line in lines} == {0}
    assert sum("model.code_size" in line for line in lines) == 2
    assert sum("optimizer.learning_rate" in line for line in lines) == 2


def test_an_optimizer_with_a_seed_that_diverged_has_curves_by_seconds_too() -> None:
    traces = _traces(2)
    traces[1] = traces[1]._replace(diverged=(2,))
    settings = plan.load(options={"optimizers": _entries(2)})
    runs: dict[str, dict[int, str]] = {label: {} for label in LABELS[:2]}
    page = report.render(_field(2), settings, traces, {}, runs)
    (drawn,) = re.findall(r'<script id="drawn" type="application/json">(.*?)</script>', page)
    assert [bool(trace["seconds"]) for trace in json.loads(drawn)["traces"]] == [True, True]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [([1, 2], "1.5"), ([2, 3], "2.5"), ([2, 4], "3"), ([60, 60], "60"), ([1, 2, 2000], "2")],
)
def test_a_median_between_two_numbers_is_not_rounded(seconds: list[float], shown: str) -> None:
    assert words._median(seconds).text == shown


def test_an_optimizer_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    for count in (3, 12):
        ranked = LABELS[:count][::-1]
        order = in_order(LABELS[:count], ranked)
        assert order == (LABELS[:count] if count == 3 else ranked)
        # and so have the curves of the runs
        study = tmp_path / f"{count}"
        study.mkdir()
        (study / "comparison.yaml").write_text(json.dumps({"optimizers": _entries(count)}))
        assert order_of([study / "a"]) == LABELS[:count]
        sides = [{"label": label} for label in ranked]
        (study / "summary.json").write_text(json.dumps({"sides": sides}))
        assert order_of([study / "a"]) == order
        ranks = {label: np.array([1.0, 2.0]) for label in LABELS[:count]}
        places = {label: place for place, label in enumerate(order)}
        for text in fields.along(ranks, ranked, places, title="").axes[0].texts:
            if ranked.index(text.get_text()) < fields.COLOURED:
                assert text.get_color() == DEFAULT.colour(places[text.get_text()])


def test_of_many_curves_the_first_have_names_and_the_others_are_grey_behind_them() -> None:
    traces = [trace._replace(grey=place >= report.FEW) for place, trace in enumerate(_traces(20))]
    bad = {"elbo": traces[-1].validation["elbo"] - 1e4}
    traces[-1] = traces[-1]._replace(train=bad, validation=bad)
    figure = charts.curves(traces, title="")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == LABELS[:5]
    assert "15 others" in legend.get_title().get_text()
    axes = figure.axes[0]
    grey = [line for line in axes.lines if str(line.get_label()).startswith("_child")]
    assert len({line.get_color() for line in grey}) == 1
    assert len(grey) == 15
    assert max(line.get_zorder() for line in grey) < min(
        line.get_zorder() for line in axes.lines if line not in grey
    )
    # nothing is said of marks that only coloured lines have
    early = [trace._replace(diverged=(0,) * trace.grey) for trace in traces]
    seconds = np.where(np.arange(early[-1].epochs) < 3, early[-1].seconds, np.nan)
    early[-1] = early[-1]._replace(seconds=seconds)
    (legend,) = charts.curves(early, title="").legends
    assert "cross" not in legend.get_title().get_text()
    assert "thin" not in legend.get_title().get_text()
    # a grey line does not flatten the others
    assert axes.get_ylim()[0] > -300


def test_of_many_optimizers_as_many_as_colours_are_named_in_figures_of_tuning() -> None:
    tried = {
        label: [(10.0**power, -100.0 - place if power else None) for power in range(-5, 1)]
        for place, label in enumerate(LABELS)
    }
    expected = {label: [-100.0 - place] * 3 for place, label in enumerate(LABELS)}
    for figure, more in (
        (search.sensitivity(tried, "elbo", title=""), ["a seed diverged"]),
        (search.budget(expected, "elbo", title=""), []),
    ):
        (legend,) = figure.legends
        names = [text.get_text() for text in legend.get_texts()]
        assert names == [*LABELS[:10], "10 others", *more]
        ((_, height),) = [figure.size(axes) for axes in figure.axes]
        assert height > 72


def test_a_wide_interval_and_a_bad_one_do_not_flatten_a_board() -> None:
    good = [
        fields.Bar(label, -100.0 - place, -101.0 - place, -99.0 - place, [-100.0 - place])
        for place, label in enumerate(LABELS[:5])
    ]
    wide = fields.Bar("wide", -104.0, -504.0, 296.0, [-103.0, -105.0])
    sunk = fields.Bar("sunk", -900.0, None, None, [-900.0])
    axes = fields.board([*good, wide, sunk], "elbo", title="").axes[0]
    low, high = axes.get_xlim()
    assert -130 < low < -105
    assert -99 < high < -85
    # two that are near to each other are both shown
    few = [good[0], fields.Bar("near", -108.0, None, None, [-100.5, -115.5])]
    low, _ = fields.board(few, "elbo", title="").axes[0].get_xlim()
    assert low < -108
