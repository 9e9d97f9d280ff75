"""Performance profiles: the mathematics, the configuration, and the command on two workloads."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apart import draw_nothing
from tests.conftest import Vaectl
from vaectl.base.errors import ConfigError
from vaectl.comparison.plan import OfBaseline
from vaectl.comparison.summary import Pair, Summary
from vaectl.profiles import plan, words
from vaectl.profiles.profile import LIMIT, Profile, areas, corners, factors, profile_of
from vaectl.studies.statistics import Interval
from vaectl.training import fit

QUICK = Path(__file__).parent.parent / "configs" / "compare" / "workloads-quick.yaml"
NEVER = math.inf
STEPS = np.array([[100.0, 200.0, NEVER], [300.0, 150.0, 600.0], [50.0, 50.0, NEVER]])
"""Of three optimizers on three workloads."""
TINY = """\
workloads:
  z2: {model: {code_size: 2, hidden_size: 4}, epochs: 2, data: &data
        {train_size: 200, validation_size: 50, test_size: 50}}
  z3: {model: {code_size: 3, hidden_size: 4}, epochs: 2, data: *data}
target: {at: 0.5}
protocol: paper
optimizers: [adam, sgd]
seeds: 2
importance_samples: 2
"""


def test_factors_profile_and_area_by_hand() -> None:
    found = factors(STEPS)
    assert found.tolist() == [[1, 2, NEVER], [2, 1, 4], [1, 1, NEVER]]
    assert corners(found[:, 0]) == ([1, 2, 4], [2 / 3, 1, 1])
    assert corners(found[:, 2]) == ([1, 4], [0, 1 / 3])  # the limit belongs to it
    # log 2 is half of log 4: twice the steps is worth a half
    assert areas(found) == pytest.approx([2.5 / 3, 2.5 / 3, 0])
    for one, area in zip(found.T, areas(found), strict=True):  # as its definition says
        at, within = corners(one)
        widths = np.diff(np.log(at))
        assert widths @ within[:-1] / math.log(LIMIT) == pytest.approx(area)


def test_a_workload_whose_target_nobody_reaches_counts_for_nobody() -> None:
    found = factors(np.array([[NEVER, NEVER], [10.0, 20.0]]))
    assert found.tolist() == [[NEVER, NEVER], [1, 2]]
    assert areas(found) == pytest.approx([0.5, 0.25])


def _summary(name: str, steps: dict[str, list[int | None]], bounds: dict[str, float]) -> Summary:
    """Fill in what a profile uses."""
    order = sorted(bounds, key=lambda label: -bounds[label])
    sides = [
        {"label": label, "optimizer": label, "steps_to_target": steps[label], "seeds": 3}
        | {"mean_rank": float(place), "best": {"elbo": {"mean": bounds[label], "low": None,
           "high": None, "seeds": 3}}}
        | dict.fromkeys(("learning_rate", "best_run", "test_elbo", "test_log_likelihood"))
        | dict.fromkeys(("test_kl", "active_units", "steps_to_baseline", "seconds_per_step"))
        | dict.fromkeys(("relative_time",))
        | dict.fromkeys(("diverged", "collapsed"), 0) | {"at_edge": False, "final": {}}
        | {key: [] for key in ("ranks", "epochs_to_target", "seconds_to_target", "ranks_along")}
        | {key: [] for key in ("tried", "expected_best")}
        for place, label in enumerate(order, start=1)
    ]  # fmt: skip
    known: dict[str, Any] = {
        "name": name,
        "path": f"runs/p-{name}",
        "verdict": "",
        "protocol": "paper",
        "seeds": [0, 1, 2],
        "epochs": 9,
        "code_size": 2,
        "trials": 6,
        "diverged": [],
        "quantity": "elbo",
        "baseline": order[0],
        "target": -100.0,
        "target_told": "set",
        "loaded": "",
        "leaders": [],
        "crossings": [],
        "importance_samples": 2,
        "intervals": "",
        "metrics": {},
        "data": {},
        "device": {},
        "versions": {},
        "places": 1,
        "kinds": {},
        "git_commit": None,
        "pairs": [],
    }
    return Summary.model_validate({**known, "sides": sides})


def _profile() -> Profile:
    x = _summary("x", {"a": [10, 20, 30], "b": [20, 40, 60]}, {"a": -1.0, "b": -2.0})
    y = _summary("y", {"a": [80, 80, None], "b": [20, None, 20]}, {"a": -9.0, "b": -8.0})
    z = _summary("z", {"a": [None, 5, None], "b": [7, 7, 7]}, {"a": -3.0, "b": -4.0})
    return profile_of(Path("runs/p"), {"x": x, "y": y, "z": z})


def test_steps_are_medians_over_seeds_and_those_that_never_end_are_infinite() -> None:
    profile = _profile()
    x, y, z = profile.workloads
    assert [x.parts["a"].steps, y.parts["a"].steps, z.parts["a"].steps] == [20, 80, None]
    assert [y.parts["a"].factor, z.parts["a"].factor, z.parts["b"].factor] == [4, None, 1]
    # a: 1, 4 and never; b: 2, 1 and 1
    assert {s.label: s.score for s in profile.standings} == pytest.approx(
        {"b": 2.5 / 3, "a": 1 / 3}
    )
    assert profile.firsts("a") == ["x", "z"]
    assert profile.firsts("b") == ["y"]
    json.loads(profile.model_dump_json(), parse_constant=lambda _: pytest.fail("no JSON"))


def test_scores_of_seeds_are_paired() -> None:
    first, other = _profile().standings
    # seed 0: a 1, 4, never; b 2, 1, 1.  seed 1: a 1, 1, 1; b 2, never, 1.4.  seed 2: b 2, 1, 1
    b = np.array([2.5, 0.5 + 1 - math.log(1.4) / math.log(4), 2.5]) / 3
    a = np.array([1, 3, 1]) / 3
    assert first.label == "b"
    assert first.of_seeds is not None
    assert other.behind is not None
    assert first.of_seeds.high == 1  # and not above what a score can be
    assert first.of_seeds.mean == pytest.approx(b.mean())
    assert other.behind.mean == pytest.approx((b - a).mean())
    assert first.behind is None


def test_a_ranking_that_hangs_on_one_workload_is_told() -> None:
    x = _summary("x", {"a": [10] * 3, "b": [11] * 3}, {"a": -1.0, "b": -2.0})
    y = _summary("y", {"a": [40] * 3, "b": [10] * 3}, {"a": -1.0, "b": -2.0})
    (told,) = profile_of(Path("p"), {"x": x, "y": y}).changes
    assert "without y" in told
    assert "a is above b" in told
    (one,) = profile_of(Path("p"), {"x": x}).workloads
    assert one.name == "x"


def test_a_difference_is_taken_only_where_all_ran_on_one_kind_of_device() -> None:
    same: dict[str, list[int | None]] = {"a": [10, 20, 30], "b": [20, 40, 60], "c": [11, 22, 33]}
    x = _summary("x", same, {"a": -1.0, "b": -2.0, "c": -3.0})
    pair = {"a": "a", "difference": None, "probability": 1.0}
    pairs = [Pair(**pair, b="b", seeds=2), Pair(**pair, b="c", seeds=3)]
    mixed = x.model_copy(update={"name": "y", "kinds": {"one": 8, "other": 1}, "pairs": pairs})
    profile = profile_of(Path("p"), {"x": x, "y": mixed})
    assert {s.label: s.behind is not None for s in profile.standings} == {
        "a": False,
        "b": False,
        "c": True,
    }
    assert [s.p_value is None for s in profile.standings if s.label == "b"] == [True]
    assert any("between a and b: at some seed" in note for note in words.notes(profile))
    assert not any("No difference" in note for note in words.notes(_profile()))


def test_what_is_above_the_first_over_seeds_is_told() -> None:
    first, other = _profile().standings
    gap = Interval(-0.2, -0.3, -0.1, 3)
    above = other.model_copy(update={"behind": gap, "p_value": 0.001})
    profile = _profile().model_copy(update={"standings": [first, above]})
    assert words.verdict(profile).endswith("; but by the mean over seeds a is above it.")
    assert "not told apart" not in words.verdict(profile)


def test_a_verdict_claims_nothing_of_one_seed_or_of_ties() -> None:
    assert "not told apart" in words.verdict(_profile())
    one = _profile().model_copy(update={"seeds": [0]})
    assert "one seed" in words.verdict(one)


def test_the_committed_workloads_are_those_that_are_said() -> None:
    assert f"vaectl compare-optimizers configs/compare/{QUICK.name}" in QUICK.read_text()
    found = plan.load(QUICK).workloads
    assert {*found} >= {"z2", "z20", "conv", "iwae"}
    assert all(isinstance(one.target, OfBaseline) for one in found.values())
    assert len({one.model_dump_json(exclude={"base"}) for one in found.values()}) == 1


def test_a_workload_may_be_a_file_and_may_have_its_own_target(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("epochs: 7\n")
    file = tmp_path / "w.yaml"
    file.write_text(
        "workloads:\n  a: base.yaml\n  b: {file: base.yaml, epochs: 5, target: -9}\n"
        "target: {at: 0.5}\n"
    )
    found = plan.load(file, options={"seeds": 2}, assignments=["batch_size=50"]).workloads
    assert [one.base.epochs for one in found.values()] == [7, 5]
    assert [one.target for one in found.values()] == [OfBaseline(at=0.5), -9]
    assert {(one.base.batch_size, *one.seeds) for one in found.values()} == {(50, 0, 1)}


def test_a_target_of_null_leaves_that_of_all_workloads(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("workloads: {a: {target: null}}\ntarget: {at: 0.5}\n")
    assert plan.load(file).workloads["a"].target == OfBaseline(at=0.5)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("workloads: {}\nseeds: 0", ["1: workloads: should be", "2: seeds: should be"]),
        ("workloads: [z2]", ["1: workloads: should be"]),
        (
            "workloads:\n  a: {target: -1}\n  b: {epochs: 2}\n  c: {epoch: 2}\noptimzers: [adam]",
            [
                "3: workloads.b: has no target",
                "4: workloads.c: has no target",
                "4: unknown key workloads.c.epoch; did you mean workloads.c.epochs?",
                "5: unknown key optimzers; did you mean optimizers?",
            ],
        ),
        ("workloads: {a: {epochs: 2}}\ntarget: -3", ["1: workloads.a: has no target, and -3"]),
        (
            "workloads:\n  no name: {}\n  latest: gone.yaml\n  c: 3\ntarget: {at: 0.5}",
            ["2: workloads.no name: not", "3: workloads.latest: not", "3: workloads.latest: ",
             "4: workloads.c: should be"],
        ),
        (
            "workloads: {'a\\b': {epoch: 2}}\ntarget: {at: 0.5}",
            [r"1: workloads.a\b: not", r"1: unknown key workloads.a\b.epoch"],
        ),
        (
            "workloads: {a: {seed: 1}, b: {seed: 2}}\ntarget: {at: 0.5}",
            ["1: workloads.b: the same experiment as a"],
        ),
        (
            "workloads: {a: {}}\nbase: {}\ntarget: {at: 1}\nseeds: 0",
            ["2: base: ", "4: seeds: should be"],
        ),
    ],
)  # fmt: skip
def test_all_problems_are_told_before_anything_runs(
    text: str, problems: list[str], vaectl: Vaectl
) -> None:
    Path("w.yaml").write_text(text)
    answer = vaectl("compare-optimizers", "w.yaml")
    assert answer.code == 2
    told = answer.err.removeprefix("error: ").split("\ntry: ")[0].splitlines()
    assert len(told) == len(problems)
    for line, expected in zip(told, problems, strict=True):
        assert line.strip().startswith(f"w.yaml:{expected}")
    assert not Path("runs").exists()


def test_a_file_with_workloads_is_checked_and_shown_like_other_comparisons(vaectl: Vaectl) -> None:
    assert vaectl("config", "validate", QUICK).code == 0
    shown = vaectl("config", "show", QUICK, "--set", "batch_size=77")
    assert shown.code == 0
    assert shown.out.count("batch_size: 77\n") == len(plan.load(QUICK).workloads)
    Path("shown.yaml").write_text(shown.out)
    assert plan.load(Path("shown.yaml")) == plan.load(QUICK, assignments=["batch_size=77"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a file of two workloads, and what the command made of it."""
    from vaectl import cli

    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_nothing(patch.setattr)
        Path("w.yaml").write_text(TINY)
        patch.setattr("sys.argv", ["vaectl", "compare-optimizers", "w.yaml", "--quiet"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    return folder


@pytest.fixture
def made(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change, in the current directory."""
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    draw_nothing(monkeypatch.setattr)
    return tmp_path / "runs"


def test_each_workload_is_a_comparison_and_the_profile_follows_from_them(
    made: Path, vaectl: Vaectl
) -> None:
    assert sorted(path.name for path in made.iterdir()) == ["w", "w-z2", "w-z3"]
    profile = Profile.model_validate_json((made / "w" / "profile.json").read_text())
    for each in profile.workloads:
        summary = json.loads((made / f"w-{each.name}" / "summary.json").read_text())
        for side in summary["sides"]:
            reached = [NEVER if s is None else s for s in side["steps_to_target"]]
            middle = float(np.median(reached))
            assert each.parts[side["label"]].steps == (None if middle == NEVER else middle)
    page = (made / "w" / "report.html").read_text()
    for name in ("z2", "z3"):
        link = f"../w-{name}/report.html"
        assert f'href="{link}"' in page
        assert (made / "w" / link).is_file()
    assert (made / "w" / "figures" / "profile.svg").is_file()
    listed = vaectl("runs").out
    assert "w-z2" in listed
    assert "not a run" not in listed


def test_the_same_command_trains_nothing(
    made: Path, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (made / "w" / "profile.json").read_text()
    monkeypatch.setattr(fit, "fit", lambda *_, **__: pytest.fail("it trains"))
    answer = vaectl("compare-optimizers", "w.yaml", "--json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert told.pop("time")["parts"]["training"] == 0
    assert told == json.loads(before)
    again = vaectl("compare-optimizers", "w.yaml")
    assert again.out.splitlines()[-1] == "runs/w"
    assert (made / "w" / "profile.json").read_text() == before


def test_a_profile_is_removed_and_its_comparisons_and_strange_files_stay(
    made: Path, vaectl: Vaectl
) -> None:
    (made / "w" / "mine.txt").touch()
    answer = vaectl("runs", "rm", "w", "--yes")
    assert answer.code == 0
    assert [path.name for path in (made / "w").iterdir() if path.name != ".lock"] == ["mine.txt"]
    assert (made / "w-z2" / "summary.json").exists()


def test_a_pattern_removes_a_profile_with_its_comparisons(made: Path, vaectl: Vaectl) -> None:
    answer = vaectl("runs", "rm", "w*", "--yes")
    assert answer.code == 0
    assert not [*made.iterdir()]


def test_what_has_the_name_is_left_alone(made: Path, vaectl: Vaectl) -> None:
    shutil.rmtree(made / "w-z3")
    (made / "w-z3").mkdir()
    (made / "w-z3" / "mine.txt").touch()
    shutil.rmtree(made / "w-z2")
    answer = vaectl("compare-optimizers", "w.yaml")
    assert answer.code == 2
    assert "w-z3" in answer.err
    assert not (made / "w-z2").exists()  # nothing ran before
    # neither is a profile a comparison
    Path("c.yaml").write_text("base: {epochs: 1}\nseeds: 1\n")
    assert vaectl("compare-optimizers", "c.yaml", "--name", "w").code == 2


def test_one_experiment_is_not_trained_of_a_file_with_workloads(vaectl: Vaectl) -> None:
    Path("w.yaml").write_text("workloads: {a: {}}\n")
    answer = vaectl("train", "w.yaml")
    assert answer.code == 2
    assert "compare-optimizers w.yaml" in answer.err


def test_a_workload_that_cannot_run_stops_all_of_them(vaectl: Vaectl) -> None:
    Path("w.yaml").write_text(TINY.replace("data: *data", "data: {source: 'idx:gone'}"))
    answer = vaectl("compare-optimizers", "w.yaml")
    assert answer.code == 3
    assert not Path("runs").exists()


def test_an_error_of_the_configuration_is_one_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("workloads: null\n")
    with pytest.raises(ConfigError, match="null"):
        plan.load(tmp_path / "w.yaml")
