"""What an older vaectl wrote is read for as long as its format is."""

import csv
import json
import re
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Vaectl
from vaectl.base import surroundings
from vaectl.comparison import plan
from vaectl.comparison.tuning import at_rate
from vaectl.sweeps import plan as sweeps

REFERENCE = Path(__file__).parent.parent / "runs" / "reference"
COMPARISONS = [file.parent.name for file in sorted(REFERENCE.glob("*/comparison.yaml"))]
STUDIES = [file.parent.name for file in sorted(REFERENCE.glob("*/trials.csv"))]
RUNS = sorted((Path(__file__).parent / "formats").glob("run-*.tar.gz"))


@pytest.mark.parametrize("archive", RUNS, ids=lambda path: path.name)
def test_a_stored_run_is_listed_loaded_evaluated_and_resumed(
    archive: Path, vaectl: Vaectl, tmp_path: Path
) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "runs", filter="data")
    (listed,) = json.loads(vaectl("runs", "--json").out)["runs"]
    assert (listed["status"], listed["epoch"], listed["problem"]) == ("finished", 2, None)
    name = listed["name"]
    for command in ("sample", "manifold"):
        assert vaectl(command, name).code == 0
    evaluation = vaectl("evaluate", name, "--split", "validation", "--samples", 100, "--json")
    elbo = json.loads(evaluation.out)["elbo"]["mean"]
    assert elbo == pytest.approx(listed["best_score"], abs=5.0)
    resumed = json.loads(vaectl("train", "--resume", name, "--epochs", 3, "--json").out)
    assert (resumed["status"], resumed["epoch"]) == ("finished", 3)
    assert resumed["validation"]["elbo"] > listed["best_score"]


@pytest.mark.parametrize("archive", RUNS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("was", "is_", "key"),
    [
        ("activation: tanh", "activation: relu", "model.mlp.activation"),
        ("momentum: 0.9", "momentum: 0.8", "optimizer.sgd.momentum"),
    ],
)
def test_a_configuration_of_a_stored_run_that_was_changed_is_refused(
    archive: Path, was: str, is_: str, key: str, vaectl: Vaectl, tmp_path: Path
) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "runs", filter="data")
    (file,) = (tmp_path / "runs").glob("*/config.yaml")
    assert was in file.read_text()
    file.write_text(file.read_text().replace(was, is_))
    for command in (("sample",), ("train", "--epochs", 3, "--resume")):
        answer = vaectl(*command, file.parent.name)
        assert (answer.code, "config.yaml was changed after training" in answer.err) == (4, True)
        before, after = was.partition(": ")[2], is_.partition(": ")[2]
        assert re.search(rf"{re.escape(key)}: {before} .*, {after} now", answer.err)


@pytest.mark.usefixtures("as_if_optimized")
@pytest.mark.parametrize("name", COMPARISONS)
def test_the_trials_of_a_stored_comparison_are_still_its_trials(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that a configuration gained since, at its default, makes no other trial of them."""
    settings = plan.load(REFERENCE / name / "comparison.yaml")
    summary = json.loads((REFERENCE / name / "summary.json").read_text())
    for variable, value in summary["device"].items():  # such as NPROC, by which trials differ
        if surroundings.is_recorded(variable):
            monkeypatch.setenv(variable, value)
    fingerprint = summary["data"]["fingerprint"]
    with (REFERENCE / name / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        entry, rate = settings.entries[row["label"]], float(row["learning_rate"])
        (trial,) = at_rate(entry, rate).trials(row["label"], "result", [int(row["seed"])])
        assert row["key"] in trial.keys(fingerprint)
        # away from its default it does
        optimizer = entry.optimizer.model_copy(update={"weight_decay_on": "weights"})
        entry = entry.model_copy(update={"optimizer": optimizer})
        (trial,) = at_rate(entry, rate).trials(row["label"], "result", [int(row["seed"])])
        assert row["key"] not in trial.keys(fingerprint)


@pytest.mark.usefixtures("as_if_optimized")
def test_the_trials_of_a_stored_sweep_are_still_its_trials() -> None:
    settings = sweeps.load(REFERENCE / "sweep" / "sweep.yaml")
    summary = json.loads((REFERENCE / "sweep" / "summary.json").read_text())
    keys = {
        (trial.label, str(trial.settings.seed)): trial.key(summary["data"]["fingerprint"])
        for trial in settings.trials
    }
    with (REFERENCE / "sweep" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["label"], row["seed"]): row["key"] for row in rows} == keys


@pytest.mark.parametrize("name", STUDIES)
def test_the_tables_of_a_stored_study_are_about_the_same_trials(name: str) -> None:
    with (REFERENCE / name / "curves.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    curves: dict[str, list[float]] = {}
    for row in rows:
        curves.setdefault(row["key"], []).append(float(row["elbo"]))
    with (REFERENCE / name / "trials.csv").open() as file:
        trials = [row for row in csv.DictReader(file) if int(row["epochs"])]
    assert curves.keys() == {row["key"] for row in trials}
    for row in trials:
        curve = curves[row["key"]]
        assert len(curve) == int(row["epochs"])
        assert max(curve) == float(row["best_elbo"])
        assert curve[-1] == float(row["final_elbo"])
