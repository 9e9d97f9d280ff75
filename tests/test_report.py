"""What a comparison leaves for people: tables, figures, a page; and its command."""

import html
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import colours
from tests.conftest import Vaectl
from tests.test_comparison import SMALL
from vaectl.comparison import plan, publish, words
from vaectl.comparison import summarize as summarizing
from vaectl.comparison.order import order_of
from vaectl.comparison.run import run
from vaectl.comparison.summary import Pair, Summary
from vaectl.optimizers.base import Optimizer
from vaectl.pictures import charts, figures, search
from vaectl.pictures.traces import Trace, marker, outline
from vaectl.runs.directory import RunDir
from vaectl.studies.statistics import Interval

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
SETS = tuple(part for each in SMALL for part in ("--set", each))
OPTIONS = ("--optimizers", "sgd,adam", "--seeds", 2, "--learning-rates", "1e-3,1e9")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Times are shown, however busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaectl.comparison.times.LOADED", math.inf)
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    runs_dir = tmp_path_factory.mktemp("runs")
    settings = plan.load(
        assignments=SMALL,
        options={
            "optimizers": ["sgd", "adam"],
            "seeds": 2,
            "tuning.learning_rates": [1e-3, 1e9],
        },
    )
    result = run(settings, runs_dir=runs_dir, name="c")
    return result.path, publish.publish(result)


def test_the_command_continues_what_is_there_and_prints_table_verdict_and_path(
    vaectl: Vaectl, compared: tuple[Path, Summary]
) -> None:
    path, summary = compared
    sets = [part for each in SMALL for part in ("--set", each)]
    command = (
        "compare-optimizers",
        *OPTIONS,
        *sets,
        "--runs-dir",
        path.parent,
        "--name",
        path.name,
    )
    code, out, err = vaectl(*command, "--quiet")
    assert (code, err) == (0, "")
    assert summary.verdict in out
    assert out.splitlines()[-1] == str(path)
    assert "diverged: sgd, learning rate 1e+09, seed 1000 (tuning): training diverged" in out
    code, out, _ = vaectl(*command, "--quiet", "--json")
    assert code == 0
    assert Summary.model_validate_json(out) == summary
    code, out, err = vaectl(*command, "--epochs", 3)
    assert (code, out) == (2, "")
    assert "base.epochs was 2, is 3\n" in err
    code, out, err = vaectl(
        "compare-optimizers", "--optimizers", "adm", "--seeds", 0, "--learning-rates", ","
    )
    assert code == 2
    assert "--seeds: should be a number" in err
    assert f"--optimizers: should be one of {', '.join(Optimizer.known)}, not 'adm'" in err
    assert "--learning-rates: should be a list of at least one" in err
    assert not Path("runs").exists()


def test_a_member_that_diverges_makes_the_exit_code_5_after_all_is_done(vaectl: Vaectl) -> None:
    sets = (*SETS, "--set", "optimizer.sgd.learning_rate=1e9")
    command = ("compare-optimizers", "--optimizers", "sgd", "--protocol", "paper", "--seeds", 1)
    code, out, err = vaectl(*command, *sets, "--quiet")
    assert code == 5
    assert err.startswith("error: sgd, learning rate 1e+09, seed 0: training diverged")
    path = Path(out.splitlines()[-1])
    assert path == Path("runs/compare-digits-5k-z2-paper")
    assert json.loads((path / "summary.json").read_text())["sides"][0]["diverged"] == 1


def test_an_optimizer_that_no_learning_rate_trains_is_named_and_shown(vaectl: Vaectl) -> None:
    command = ("compare-optimizers", "--optimizers", "sgd", "--learning-rates", "1e9", *SETS)
    code, out, err = vaectl(*command, "--seeds", 1)
    assert code == 5
    assert "sgd: the grid grows by 3.333e+08: all of it diverged\n" in err
    assert "error: sgd: every learning rate that was tried diverged\n" in err
    assert "none trains" in out
    assert "No member finished" in out
    assert Path("runs/compare-digits-5k-z2-tuned/report.html").is_file()


def test_the_summary_says_what_the_trials_say(compared: tuple[Path, Summary]) -> None:
    _, summary = compared
    first, second = summary.sides
    assert {first.label, second.label} == {"adam", "sgd"}
    assert {*first.best} == {*second.best} == {*first.final} == {"elbo", "kl", "nll"}
    assert first.mean_rank <= second.mean_rank
    gap = summary.pairs[0].difference
    assert gap is not None
    assert gap.mean == pytest.approx(first.best["elbo"].mean - second.best["elbo"].mean)
    # by default the target is what the worst of the members reached: all do
    assert all(epoch is not None for side in summary.sides for epoch in side.epochs_to_target)
    assert summary.target is not None
    assert summary.target <= second.best["elbo"].mean
    times = [side.relative_time for side in summary.sides]
    assert min(filter(None, times)) == 1
    assert all(side.seconds_per_step for side in summary.sides)
    sgd = next(side for side in summary.sides if side.label == "sgd")
    assert sgd.tried[-1].score is None


def test_the_verdict_is_as_sure_as_the_seeds_allow(compared: tuple[Path, Summary]) -> None:
    _, summary = compared

    def verdict(
        low: float | None,
        high: float | None,
        paired: int,
        run: int = 0,
        lost: int = 0,
        *,
        p: float | None = 0.01,
    ) -> str:
        mean = 2.0 if high is None or high > 0 else -2.0
        gap = Interval(mean, low, high, paired) if paired else None
        update = {
            "difference": gap,
            "probability": 0.6,
            "seeds": run or paired,
            "adjusted_p": p,
            "best_p": p,
        }
        pair = summary.pairs[0].model_copy(update=update)
        first, second = (side.model_copy(update={"seeds": run or paired}) for side in summary.sides)
        second = second.model_copy(update={"diverged": lost})
        return words.verdict([first, second], [pair])

    a, b = (side.label for side in summary.sides)
    assert f"{a} is best: its validation ELBO exceeds {b}'s" in verdict(1.0, 3.0, 5)
    assert f"{a} is higher at 60% of them; p = 0.010)" in verdict(1.0, 3.0, 5)
    assert " is ahead of " in verdict(1.0, 3.0, 4)
    assert " cannot be told apart: they differ by 2.00 nats" in verdict(-1.0, 3.0, 5, p=0.3)
    # by itself the pair is told apart, among others it is not
    assert " cannot be told apart: they differ by 2.00 nats" in verdict(0.1, 3.0, 5, p=0.06)
    assert verdict(None, None, 1).startswith("At the one seed that was run ")
    # the order is that of ranks, in which who diverged is last
    worse = verdict(-3.0, -1.0, 4, 6, 2)
    assert worse.startswith(f"{a} has the best mean rank, but on average {b} is above it by 2.00")
    assert f"{a} is higher at 60% of all 6; p = 0.010); {b} diverged at 2 of 6 seeds." in worse
    both = "at the one seed at which both finished it is 2.00 nats"
    assert f"{both} above {b}" in verdict(None, None, 1, 5, 4)
    assert f"{both} below {b}" in verdict(None, -1.0, 1, 5, 4)
    assert "no seed at which it and" in verdict(None, None, 0, 2, 2)
    alone = words.verdict(summary.sides[:1], [])
    assert "reaches a validation ELBO of" in alone


def test_the_best_is_told_from_all_others(compared: tuple[Path, Summary]) -> None:
    _, summary = compared
    gap = Interval(2.0, 1.0, 3.0, 5)
    near = {"difference": gap, "seeds": 5, "p_value": 0.01, "adjusted_p": 0.02, "best_p": 0.02}
    pair = summary.pairs[0].model_copy(update=near)
    sides = [side.model_copy(update={"seeds": 5}) for side in summary.sides]

    def verdict(third: float) -> str:
        wide = pair.model_copy(update={"b": "wide", "adjusted_p": third, "best_p": third})
        return words.verdict(sides, [pair, wide])

    assert " is best: " in verdict(0.02)
    assert " is best: " not in verdict(0.2)
    assert "not told from wide" in verdict(0.2)


def test_what_is_above_the_first_by_rank_is_no_optimizer_below_it(
    compared: tuple[Path, Summary],
) -> None:
    """One seed that diverges costs an optimizer many ranks; at all others it may be the best."""
    _, summary = compared
    tested = {"seeds": 5, "p_value": 0.001, "adjusted_p": 0.01, "best_p": 0.01}
    below, above = Interval(2.0, 1.0, 3.0, 5), Interval(-3.0, -4.0, -2.5, 4)
    pair = summary.pairs[0].model_copy(update={**tested, "difference": below})
    higher = pair.model_copy(update={"b": "higher", "difference": above})
    sides = [side.model_copy(update={"seeds": 5}) for side in summary.sides]
    third = sides[1].model_copy(update={"label": "higher", "diverged": 1})
    told = summary.model_copy(update={"sides": [*sides, third], "pairs": [pair, higher]})
    said = words.verdict(told.sides, told.pairs)
    assert " is best" not in said
    assert said.startswith(f"{pair.a} ranks first, ahead of {pair.b} by 2.00 nats")
    assert "; but higher is higher where both finished; higher diverged at 1 of 5 seeds." in said
    assert words.close(told.sides, told.pairs) == []
    assert words.standing(told, "higher") == (
        f"higher ranks 3 of 3, 3.00 [2.50, 4.00] nats above {pair.a}, the first, p = 0.010."
    )
    unsure = higher.model_copy(update={"adjusted_p": 0.2, "best_p": 0.2})
    assert words.close(told.sides, [pair, unsure]) == ["higher"]


def test_an_optimizer_that_always_diverged_is_told_apart(compared: tuple[Path, Summary]) -> None:
    _, summary = compared
    gap = Interval(2.0, 1.0, 3.0, 5)
    near = {"difference": gap, "seeds": 5, "p_value": 0.01, "adjusted_p": 0.02, "best_p": 0.02}
    pair = summary.pairs[0].model_copy(update=near)
    none = {"b": "lost", "difference": None, "p_value": None, "adjusted_p": None}
    pairs = [pair, pair.model_copy(update=none)]
    sides = [side.model_copy(update={"seeds": 5}) for side in summary.sides]
    lost = sides[1].model_copy(update={"label": "lost", "diverged": 5, "best": {}})
    told = summary.model_copy(update={"sides": [*sides, lost], "pairs": pairs})
    said = words.verdict(told.sides, told.pairs)
    assert " is best: " in said
    assert "lost diverged at 5 of 5 seeds" in said
    below = next(c for c in words.board(told) if c.heading.startswith("below "))
    assert not any(words.APPROXIMATELY in cell.text for cell in below.cells)


def test_an_optimizer_without_a_run_is_not_said_to_have_run_elsewhere() -> None:
    """None of its learning rates trains, so that it has no run at any seed."""
    scores = {"adam": np.array([-9.0, -8.0]), "lost": np.full(2, -np.inf)}
    ran_on = {("adam", seed): "a CPU" for seed in (0, 1)}
    found = summarizing._pair("adam", "lost", scores, ran_on, [0, 1])
    assert (found.seeds, found.probability, found.difference) == (2, 1.0, None)
    said = words._compared([found], 2, "validation ELBO", [])
    assert said.endswith("there is no seed at which it and lost, the next, both finished")
    ran_on |= {("lost", 0): "a CPU", ("lost", 1): "another CPU"}
    assert summarizing._pair("adam", "lost", scores, ran_on, [0, 1]).seeds == 1


def test_an_optimizer_that_is_added_is_told_from_the_first(
    compared: tuple[Path, Summary],
) -> None:
    assert [*plan.load(added=["lion"]).entries] == ["adam", "rmsprop", "adagrad", "sgd", "lion"]
    first, second = (side.label for side in compared[1].sides)
    assert words.standing(compared[1], first) == f"{first} ranks 1 of 2."
    gap = compared[1].pairs[0].difference
    assert gap is not None
    told = words.standing(compared[1], second)
    assert told.startswith(f"{second} ranks 2 of 2, {gap.mean:.2f} [")
    assert f"nats below {first}, the first, p " in told


def test_pairs_are_tested_with_regard_to_all_of_them(compared: tuple[Path, Summary]) -> None:
    def pair(number: int, p: float | None) -> Pair:
        gap = Interval(2.0, 1.0, 3.0, 5)
        return Pair(a="a", b=f"{number}", difference=gap, probability=1, seeds=5, p_value=p)

    given = [pair(0, 0.04), pair(1, None), pair(2, 0.01)]
    adjusted = summarizing.adjusted(given, "a")
    assert [each.adjusted_p for each in adjusted] == [0.04, None, 0.02]
    assert [each.apart for each in adjusted] == [True, False, True]
    assert "all 2 pairs;" in words.told_tests(adjusted)
    # whether the first is the best is a question of a smaller family
    other = pair(3, 0.02).model_copy(update={"a": "b"})
    of_all = summarizing.adjusted([*given, other], "a")
    assert [each.adjusted_p for each in of_all] == [0.04, None, 0.03, 0.04]
    assert [each.best_p for each in of_all] == [0.04, None, 0.02, None]
    assert [each.order for each in of_all[:3]] == ["below", "unknown", "below"]
    assert "all 3 pairs;" in words.told_tests(of_all)
    assert "the 2 pairs with it" in words.told_tests(of_all)
    # a summary of an older vaectl has no tests
    assert not given[0].apart
    ours = compared[1].pairs[0]
    assert ours.adjusted_p == ours.best_p == ours.p_value is not None


def test_a_target_that_most_seeds_do_not_reach_is_not_reached(
    compared: tuple[Path, Summary],
) -> None:
    def shown(epochs: list[int | None]) -> str:
        first, *others = compared[1].sides
        sides = [first.model_copy(update={"epochs_to_target": epochs}), *others]
        board = words.board(compared[1].model_copy(update={"sides": sides}))
        return next(c.cells[0].text for c in board if c.heading.startswith("epochs to "))

    assert shown([3, 9, 4]) == "4"
    assert shown([3, None, 4]) == "4 (1 of 3 did not)"
    assert shown([3, None, None]) == "not reached (1 of 3 seeds reach it)"
    assert shown([100, None]) == "not reached (1 of 2 seeds reach it)"
    assert shown([None, None]) == "not reached"


def test_figures_are_drawn_and_the_page_refers_to_nothing_outside(
    compared: tuple[Path, Summary],
) -> None:
    path, summary = compared
    names = ("along", "board", "budget", "curves", "curves-seconds", "learning-rates")
    assert {file.name for file in (path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }
    page = (path / "report.html").read_text()
    links = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page)
    # but to the runs beside it
    assert sorted(links) == [f"{label}-s{seed}/" for label in ("adam", "sgd") for seed in (0, 1)]
    assert all((path / link).is_dir() for link in links)
    assert not re.search(r"@import|url\(\s*['\"]?http", page)
    assert summary.verdict.replace("'", "&#39;") in page


def test_the_page_and_the_curves_of_its_runs_have_the_same_colours_and_markers(
    vaectl: Vaectl, compared: tuple[Path, Summary], tmp_path: Path
) -> None:
    """The comparison has sgd before adam, its directory adam before sgd."""
    path, _ = compared
    page = (path / "report.html").read_text()
    (drawn,) = re.findall(r'<script id="drawn" type="application/json">(.*?)</script>', page)
    wanted = {t["label"]: (t["colour"], t["mark"]) for t in json.loads(drawn)["traces"]}
    assert list(wanted) == ["sgd", "adam"]
    adam = [path / f"adam-s{seed}" for seed in range(2)]
    for runs in (sorted(each.parent for each in path.glob("*/run.json")), adam):
        rundirs, order = [RunDir(run) for run in runs], order_of(runs)
        figure = figures.curves_of(rundirs, ["elbo"], order=order)
        (legend,) = figure.legends
        for line, label in zip(legend.get_lines(), legend.get_texts(), strict=True):
            number = list(wanted).index(label.get_text())
            assert (line.get_color(), outline(number)) == wanted[label.get_text()]
            assert line.get_marker() == marker(number)
    assert vaectl("curves", path, "--out", tmp_path / "a.svg").code == 0
    lines = (tmp_path / "a.svg").read_text()
    assert lines.index(">sgd<") < lines.index(">adam<")


def test_text_of_the_page_is_readable(compared: tuple[Path, Summary]) -> None:
    css = (compared[0] / "report.html").read_text()
    (theme,) = colours.variables(css)
    for name in ("ink", "soft"):
        assert colours.contrast(theme[name], theme["ground"]) >= colours.TEXT
    assert colours.contrast(colours.text_of_drawings(css, theme), theme["ground"]) >= colours.TEXT
    # whatever colour a curve has, words are not written in it
    assert not re.search(r"[^-]color:\s*var\(--colour\)", css)


def test_train_is_dashed_and_the_band_reaches_from_the_lowest_to_the_highest_seed() -> None:
    elbo = np.array([[-5.0, -3.0, -1.0], [-7.0, -5.0, -3.0]])
    values = dict.fromkeys(("elbo", "kl", "nll"), elbo)
    seconds = np.where(np.isfinite(elbo), [[1.0, 2.0, 3.0]], np.nan)
    figure = charts.curves([Trace("adam", seconds, values, values)], "epoch", title="")
    axes = figure.axes[0]
    assert [line.get_linestyle() for line in axes.lines] == ["--", "-"]
    np.testing.assert_allclose(np.asarray(axes.lines[1].get_ydata()), [-6.0, -4.0, -2.0])
    corners = axes.collections[1].get_paths()[0].get_extents()
    assert (corners.ymin, corners.ymax) == (-7, -1)
    assert "lowest to highest of 2 seeds" in figure.legends[0].get_title().get_text()


def test_a_number_of_one_split_is_drawn_for_that_split() -> None:
    values = np.array([[3.0, 2.0, 1.0]])
    trace = Trace("adam", values, {"elbo": -values, "free_bits": values}, {"elbo": -values})
    axes = charts.curves([trace], "epoch", title="").axes
    assert [a.get_title(loc="left") for a in axes] == [
        "ELBO",
        "free bits",
    ]
    assert axes[0].get_ylabel() == "nats per image"
    assert [len(a.lines) for a in axes] == [2, 1]


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("last", [-5.0, -1e6])
def test_a_seed_that_diverged_has_a_curve_of_its_own_up_to_there(
    last: float, settled: bool
) -> None:
    """The one that goes on is the faster one. It alone is the mean; nothing flattens it."""
    elbo = np.array([[-5.0, -4.0, -3.0], [-7.0, last, np.nan]])
    values = dict.fromkeys(("elbo", "kl", "nll"), elbo)
    seconds = np.array([[1.0, 2.0, 3.0], [5.0, 10.0, np.nan]])
    trace = Trace("adam", seconds, values, values, diverged=(1,))
    np.testing.assert_allclose(trace.elapsed, [3.0, 6.0, 7.0])
    axes = charts.curves([trace], "seconds", title="", settled=settled).axes[0]
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    (at,) = np.asarray(cross.get_xydata())
    assert at[0] == 6.0
    assert at[1] == pytest.approx(max(last, axes.get_ylim()[0]))
    assert axes.get_ylim()[0] > -20
    ends = {len(np.asarray(line.get_xdata())) for line in axes.lines if line is not cross}
    assert ends == {2, 3}
    mean = max(axes.lines, key=lambda line: line.get_linewidth())
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), elbo[0])
    assert axes.get_legend_handles_labels()[1] == ["adam (1 of 2 seeds remain)"]


def test_seeds_that_all_diverged_have_no_mean_and_one_that_was_cut_off_no_cross() -> None:
    elbo = np.array([[-5.0, -4.0, -1e7], [-7.0, np.nan, np.nan]])
    values = {"elbo": elbo}
    gone = Trace("gone", -elbo, values, values, diverged=(0, 1))
    cut = Trace("cut", -elbo, values, values)
    figure = charts.curves([gone], title="")
    assert figure.legends[0].get_texts()[0].get_text() == "gone (all 2 seeds diverged)"
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    axes = charts.curves([cut], title="").axes[0]
    assert not [line for line in axes.lines if line.get_marker() == "x"]
    alone = charts.curves([gone._replace(label="")], title="")
    assert alone.axes[0].lines


def test_a_rate_that_spoils_all_does_not_flatten_the_others() -> None:
    tried = [(1e-3, -90.0), (3e-3, -85.0), (1e9, -1e6), (1e10, None)]
    axes = search.sensitivity({"adam": tried}, "elbo", title="").axes[0]
    assert axes.get_ylim()[0] > -200
    assert "-1e+06" in axes.get_title(loc="left")
    whole = search.sensitivity({"adam": tried[:2]}, "elbo", title="").axes[0]
    assert "below" not in whole.get_title(loc="left")


PROBE = """
<script>
(async () => {
  const lines = () => document.querySelectorAll("polyline").length;
  const found = { before: lines() };
  const legend = document.querySelector("#legend button");
  legend.click();
  found.without = lines();
  found.pressed = legend.getAttribute("aria-pressed");
  legend.click();
  found.again = lines();
  for (const button of document.querySelectorAll("#axis button")) {
    button.click();
    found[button.dataset.axis] = document.querySelector("#charts").innerHTML;
  }
  document.querySelector("[data-axis=epoch]").click();
  const svg = document.querySelector("#charts svg"), box = svg.getBoundingClientRect();
  svg.dispatchEvent(new PointerEvent("pointermove",
    { clientX: box.left + 0.7 * box.width, clientY: box.top + 50 }));
  found.ticks = [...svg.querySelectorAll("text[text-anchor=middle]")].map(t => t.textContent);
  found.cut = document.querySelectorAll("[clip-path] path").length;
  found.markers = svg.querySelectorAll("path.marker").length;
  found.tip = document.querySelector(".tip").textContent;
  document.documentElement.style.width = "360px";
  found.overflow = document.body.scrollWidth - 360;
  found.errors = errors;
  document.body.innerHTML = "";
  document.body.append("RESULT" + JSON.stringify(found) + "END");
})();
</script>
"""
CATCH = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
console.error = console.warn = (...parts) => errors.push(parts.join(" "));
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found, to open the report in")
def test_the_page_works_in_a_browser(compared: tuple[Path, Summary], tmp_path: Path) -> None:
    page = (compared[0] / "report.html").read_text()
    page = page.replace("<head>", f"<head>{CATCH}").replace("</body>", f"{PROBE}</body>")
    (tmp_path / "page.html").write_text(page)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer = re.search(r"RESULT(.*)END", done.stdout, re.DOTALL)
    assert answer, done.stderr
    found = json.loads(html.unescape(answer[1]))
    assert found["errors"] == []
    # three charts, two optimizers, two splits
    assert (found["before"], found["without"], found["again"]) == (12, 6, 12)
    assert found["pressed"] == "false"
    drawn = [found[axis] for axis in ("epoch", "seconds", "log")]
    assert len({*drawn}) == 3
    assert "NaN" not in "".join(drawn)
    assert "adam epoch 2" in found["tip"]
    # of two epochs, with a marker of each optimizer and split at both
    assert found["ticks"] == ["1", "2", "epoch"]
    assert (found["markers"], found["cut"]) == (8, 0)
    assert found["overflow"] <= 0
