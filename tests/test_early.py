"""Early stopping."""

import json
from pathlib import Path

import pytest

from tests.conftest import Vaectl, assert_equal_runs, cut_off
from vaectl.training.early import last_gain

TINY = (
    "train", "-q", "--hidden-size", "4", "--code-size", "2", "--epochs", "6",
    "--set", "data.train_size=100", "--set", "data.validation_size=20",
    "--set", "data.test_size=20", "--set", "checkpoint.every=1",
)  # fmt: skip
# after the first epoch nothing is enough of a gain
STOPS = ("--set", "early_stopping.patience=2", "--set", "early_stopping.min_delta=1e6")


@pytest.mark.parametrize(
    ("scores", "min_delta", "last"),
    [
        ([], 0, 0),
        ([-3.0], 0, 1),
        ([-3.0, -2.0, -2.5, -2.0], 0, 2),
        ([-3.0, -2.9, -2.8, -2.7], 0.15, 3),
        ([-3.0, -2.0, -1.0], 5, 1),
        ([-3.0, -2.95, -2.89], 0.1, 3),
    ],
)
def test_a_gain_is_above_the_last_one_by_enough(
    scores: list[float], min_delta: float, last: int
) -> None:
    assert last_gain(scores, min_delta) == last


def test_a_run_stops_early_goes_on_when_asked_and_is_the_same_after_an_interrupt(
    vaectl: Vaectl,
) -> None:
    assert vaectl(*TINY, *STOPS, "--name", "early").code == 0
    record = json.loads(Path("runs/early/run.json").read_text())
    assert (record["status"], record["epoch"], record["epochs"]) == ("finished", 3, 6)
    assert "epoch 1" in record["stopped"]
    whole = vaectl(*TINY, "--name", "whole")
    assert whole.code == 0
    ours, theirs = (
        [line.rpartition(",")[0] for line in Path(f"runs/{name}/metrics.csv").read_text().split()]
        for name in ("early", "whole")
    )
    assert ours == theirs[:7]

    cut_off(Path("runs/early"), Path("runs/cut"), epoch=2)
    assert vaectl("train", "--resume", "cut", "-q").code == 0
    assert_equal_runs(Path("runs/early"), Path("runs/cut"))
    # as if the record of its end had not been written
    cut_off(Path("runs/early"), Path("runs/killed"), epoch=3)
    assert vaectl("train", "--resume", "killed", "-q").code == 0
    assert_equal_runs(Path("runs/early"), Path("runs/killed"))

    answer = vaectl("train", "--resume", "early")
    assert answer.code == 0
    assert record["stopped"] in answer.err
    assert "--epochs" in answer.err
    # the patience counts anew, and once more after that
    for epoch, epochs in ((5, 6), (6, 6)):
        assert vaectl("train", "--resume", "early", "--epochs", epochs, "-q").code == 0
        record = json.loads(Path("runs/early/run.json").read_text())
        assert (record["status"], record["epoch"]) == ("finished", epoch)
    assert record["stopped"] is None
    assert_equal_runs(Path("runs/early"), Path("runs/whole"))


@pytest.mark.parametrize(
    "command",
    [
        ("compare-optimizers", *STOPS),
        ("sweep", "--vary", "model.code_size=2,3", *STOPS),
        ("sweep", "--vary", "early_stopping.patience=2,3"),
    ],
)
def test_studies_do_not_stop_early(command: tuple[str, ...], vaectl: Vaectl) -> None:
    answer = vaectl(*command)
    assert answer.code == 2
    assert "early_stopping.patience" in answer.err
    assert not Path("runs").exists()
