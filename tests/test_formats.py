"""What an older vaectl wrote is read for as long as its format is."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Vaectl

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
    assert elbo == pytest.approx(listed["best_validation_elbo"], abs=5.0)
    resumed = json.loads(vaectl("train", "--resume", name, "--epochs", 3, "--json").out)
    assert (resumed["status"], resumed["epoch"]) == ("finished", 3)
    assert resumed["validation"]["elbo"] > listed["best_validation_elbo"]
