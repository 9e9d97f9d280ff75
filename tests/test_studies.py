"""What users meet in comparisons and sweeps alike: names, summaries, and what to do next."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.apart import draw_nothing
from tests.conftest import Vaectl
from tests.edits import SETTINGS
from vaectl.comparison import plan
from vaectl.comparison.run import KIND
from vaectl.comparison.seeds import with_those_of_result
from vaectl.pictures.figures import curves_of
from vaectl.runs.directory import RunDir
from vaectl.runs.find import find_all
from vaectl.studies import directory
from vaectl.studies.naming import name_of_file


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("quick.yaml", "protocol: paper\n", "quick"),
        ("two keys (1).yml", "vary: {epochs: [1, 2]}\n", "two-keys-1"),
        # a sweep of one experiment is named after what varies, too
        ("mnist.yaml", "epochs: 3\n", None),
        ("latest.yaml", "protocol: paper\n", None),
        ("(.yaml", "protocol: paper\n", None),
    ],
)
def test_a_study_is_named_after_its_file(
    file: str, text: str, name: str | None, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    assert name_of_file(tmp_path / file) == name


@pytest.mark.parametrize("kind", ["comparison", "sweep"])
def test_the_file_in_a_study_names_that_study(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / f"{kind}.yaml"
    file.write_text("protocol: paper\nvary: {}\n")
    assert name_of_file(file) == kind  # a file of the user's own
    (tmp_path / "mine" / "trials.csv").touch()
    assert name_of_file(file) == "mine"
    assert name_of_file(None) is None


@pytest.fixture
def done(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished comparison of two seeds that a test may break, with its file c.yaml beside it."""
    draw_nothing(monkeypatch.setattr)
    (tmp_path / "c.yaml").write_text(SETTINGS)
    return Path(shutil.copytree(finished, tmp_path / "runs" / "c"))


def test_a_study_in_place_of_a_run_is_answered_with_its_runs(vaectl: Vaectl, done: Path) -> None:
    code, _, err = vaectl("sample", "c")
    assert code == 4
    assert "4 runs" in err
    members = {path.parent.name for path in done.glob("*/run.json")}
    named = {*re.findall(r"\bc/([\w-]+)", err)}
    assert "best" in named
    assert 2 <= len(named - {"best"}) < len(members)
    assert named - {"best"} < members


def test_fewer_seeds_keep_the_result_of_more(vaectl: Vaectl, done: Path) -> None:
    before = (done / "summary.json").read_bytes()
    code, out, err = vaectl("compare-optimizers", "c.yaml", "--seeds", 1)
    assert (code, out.splitlines()[-1]) == (0, "runs/c")
    assert (done / "summary.json").read_bytes() == before
    assert "seeds 0, 1" in err
    # with --quiet the table says it
    assert "2 seeds" in vaectl("compare-optimizers", "c.yaml", "--seeds", 1, "--quiet").out


def test_fewer_seeds_keep_the_result_after_more_were_interrupted(tmp_path: Path) -> None:
    """The configuration has the seeds that were to be added, the result has those before."""
    folder = tmp_path / "c"
    folder.mkdir()
    three, five, two = (plan.load(options={"seeds": count}) for count in (3, 5, 2))
    directory.write_settings(KIND, folder, five)
    (folder / "summary.json").write_text(json.dumps({"seeds": three.seeds}))
    assert with_those_of_result(two, folder).seeds == [0, 1, 2]
    assert with_those_of_result(five, folder).seeds == [0, 1, 2, 3, 4]
    (folder / "summary.json").write_text(json.dumps({"seeds": ["a"]}))
    assert with_those_of_result(two, folder) == two


def test_seeds_without_a_result_are_not_kept(vaectl: Vaectl, done: Path) -> None:
    """A comparison that turned out too long can be cut short."""
    (done / "summary.json").unlink()
    assert vaectl("compare-optimizers", "c.yaml", "--seeds", 1, "--quiet").code == 0
    assert json.loads((done / "summary.json").read_bytes())["seeds"] == [0]


def test_one_experiment_is_no_comparison_and_its_command_is_told(
    vaectl: Vaectl, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text("epochs: 3\n")
    code, _, err = vaectl("compare-optimizers", "one.yaml")
    assert code == 2
    assert "vaectl train one.yaml" in err


def test_a_mistyped_key_of_the_base_is_answered_with_that_of_its_optimizer(
    vaectl: Vaectl, tmp_path: Path
) -> None:
    answer = vaectl("compare-optimizers", "--set", "optimizer.lr=1e-3").err
    assert "unknown key optimizer.lr; did you mean optimizer.adam.learning_rate?" in answer
    # a key of the study is none of the base
    answer = vaectl("compare-optimizers", "--set", "target=3").err
    assert "unknown key target" in answer
    assert "did you mean target?" not in answer
    (tmp_path / "c.yaml").write_text("base:\n  optimizer: {name: sgd, lr: 3}\n")
    answer = vaectl("compare-optimizers", "c.yaml").err
    assert "did you mean base.optimizer.sgd.learning_rate?" in answer


def test_a_study_ends_with_what_to_do_next(vaectl: Vaectl, done: Path) -> None:
    command = ("compare-optimizers", "c.yaml")
    code, out, err = vaectl(*command)
    assert (code, out.splitlines()[-1]) == (0, "runs/c")
    page, sample = err.splitlines()[-2:]
    assert "runs/c/report.html" in page
    assert "vaectl sample c/best" in sample
    assert "sample" not in vaectl(*command, "--quiet").err
    # elsewhere by the path
    here = vaectl(*command, "--runs-dir", done.parent).err
    assert f"vaectl sample {done}/best" in here


def test_curves_of_single_members_name_their_seeds(finished: Path) -> None:
    def legend(*names: str) -> list[str]:
        runs = [RunDir(finished / name) for name in names]
        (found,) = curves_of(runs, ["elbo"], order=["adam", "sgd"]).legends
        return [text.get_text() for text in found.get_texts()]

    assert legend("sgd-s0", "adam-s1") == ["adam-s1", "sgd-s0"]
    assert legend("sgd-s0", "adam-s1", "adam-s0") == ["adam", "sgd-s0"]


def test_runs_set_aside_are_no_members(finished: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(finished, tmp_path / "c"))
    shutil.copytree(study / "adam-s0", study / "adam-s0.1")
    found = find_all("c", tmp_path)
    assert [run.name for run in found] == ["adam-s0", "adam-s1", "sgd-s0", "sgd-s1"]
    aside = [*find_all("c/adam-s0", tmp_path), *find_all("c/adam-s0.1", tmp_path)]
    (legend,) = curves_of(aside, ["elbo"]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["adam-s0", "adam-s0.1"]
