"""The command line on the embedded digits, as a user types it."""

import csv
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import vaectl as package
from tests import apart
from tests.conftest import Vaectl
from vaectl.base.errors import DataError

QUICK = ("--epochs", "2", "--hidden-size", "32", "--set", "data.train_size=500")


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def _without_times(run: Path) -> list[dict[str, str]]:
    rows = _rows(run)
    for row in rows:
        del row["seconds"]
    return rows


def test_train_leaves_a_complete_run_directory(vaectl: Vaectl) -> None:
    code, out, err = vaectl("train", *QUICK)
    assert code == 0
    run = Path(out.splitlines()[-1])
    assert run == Path("runs/digits-5k-z20-adam-s0")
    first, *_, explore, evaluate = err.splitlines()[1:]
    assert first.startswith("training mlp 32-20 relu on 500 images of digits-5k")
    assert explore.split()[:3] == ["vaectl", "explore", run.name]
    assert evaluate.split()[:3] == ["vaectl", "evaluate", run.name]
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "config.yaml",
        "run.json",
        "metrics.csv",
        "checkpoints",
        "figures",
    }
    assert {path.name for path in (run / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("curves", "elbo", "kl", "nll") for kind in ("png", "svg")
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"10", "10.json"}
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["seed"] == 0
    assert record["device"]["platform"] in ("cpu", "gpu")
    assert re.fullmatch(r"[0-9a-f]{64}", record["data"]["fingerprint"])
    assert record["versions"]["vaectl"] == package.__version__
    assert record["metrics"]["estimator"] == "ELBO, 1 sample"
    rows = _rows(run)
    assert [(row["epoch"], row["step"], row["split"]) for row in rows] == [
        ("1", "5", "train"),
        ("1", "5", "validation"),
        ("2", "10", "train"),
        ("2", "10", "validation"),
    ]
    for row in rows:
        assert float(row["elbo"]) == pytest.approx(-float(row["kl"]) - float(row["nll"]), abs=1e-5)
    assert float(rows[-1]["elbo"]) > float(rows[1]["elbo"])
    assert "epoch 2/2" in err


def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(vaectl: Vaectl) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert vaectl("train", *QUICK, "--seed", seed, "--name", name, "--quiet").code == 0
    a, b, c = (_without_times(Path("runs") / name) for name in "abc")
    assert a == b
    assert a != c


def test_a_runs_own_config_repeats_it(vaectl: Vaectl, tmp_path: Path) -> None:
    vaectl("train", *QUICK, "--optimizer", "sgd", "--set", "optimizer.sgd.momentum=0.5")
    first = tmp_path / "runs" / "digits-5k-z20-sgd-s0"
    answer = vaectl("train", first / "config.yaml")
    second = Path(answer.out.splitlines()[-1])
    assert second.name == "digits-5k-z20-sgd-s0-2"
    assert _without_times(second) == _without_times(first)


def test_json_is_one_object_and_all_of_stdout(vaectl: Vaectl) -> None:
    code, out, err = vaectl("train", *QUICK, "--json", "--quiet", "--name", "a")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["path"] == "runs/a"
    assert result["status"] == "finished"
    assert result["validation"]["elbo"] == pytest.approx(result["best"]["score"])
    assert result["best"]["quantity"] == "elbo"


def test_the_default_learns_digits(vaectl: Vaectl) -> None:
    """Not a number to quote: a floor that a broken objective or update would not reach."""
    result = json.loads(vaectl("train", "--epochs", 8, "--json", "--quiet").out)
    assert result["validation"]["elbo"] > -130
    assert result["train"]["kl"] > 10


def test_a_name_that_exists_is_refused_before_training_and_replaced_by_force(
    vaectl: Vaectl,
) -> None:
    vaectl("train", *QUICK, "--name", "a")
    before = (Path("runs/a/run.json")).read_text()
    code, out, err = vaectl("train", *QUICK, "--name", "a")
    assert (code, out) == (4, "")
    assert err.startswith("error: runs/a exists already\ntry:   ")
    assert "--name" in err
    assert "--force" in err
    assert Path("runs/a/run.json").read_text() == before
    assert vaectl("train", *QUICK, "--name", "a", "--force", "--seed", 5).code == 0
    assert json.loads(Path("runs/a/run.json").read_text())["seed"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--epochs", "0"], 2, "error: --epochs: should be at least 1"),
        (
            ["--optimizer", "adm"],
            2,
            "error: --optimizer: should be one of adabelief, adafactor, adagrad, adam",
        ),
        (["--learning-rate", "nan"], 2, "should be a finite number"),
        (["--device", "gpu"], 2, "error: --device gpu: JAX sees no GPU here"),
        (["--name", "a/b"], 2, "error: --name a/b: not usable"),
        (["nothing.yaml"], 2, "error: nothing.yaml: cannot be read"),
        (["--set", "data.source=idx:gone"], 3, "gone: cannot be read: No such file or directory"),
        (["--set", "data.train_size=5000"], 3, "5000 to train and 500 to validate are too many"),
        (["--optimizer", "sgd", "--learning-rate", "1e9"], 5, "not finite at epoch 1, step"),
    ],
)
def test_errors_say_what_where_and_what_to_try(
    vaectl: Vaectl, arguments: list[str], code: int, message: str
) -> None:
    if "gpu" in arguments:
        import jax

        if any(device.platform == "gpu" for device in jax.devices()):
            pytest.skip("there is a GPU here")
    answer = vaectl("train", "--quiet", "--hidden-size", "16", *arguments)
    assert answer.code == code
    assert answer.out == ""
    assert message in answer.err
    assert "\ntry:   " in answer.err
    assert "Traceback" not in answer.err


def test_debug_shows_the_traceback(vaectl: Vaectl) -> None:
    with pytest.raises(DataError):
        vaectl("train", "--debug", "--set", "data.source=idx:gone")


def test_config_show_prints_what_would_run(vaectl: Vaectl) -> None:
    Path("c.yaml").write_text("seed: 3\n")
    code, out, _ = vaectl("config", "show", "c.yaml", "--set", "model.code_size=2")
    assert code == 0
    assert out.startswith("seed: 3\n")
    assert "  code_size: 2\n" in out
    Path("d.yaml").write_text(out)
    assert vaectl("config", "show", "d.yaml").out == out


def test_config_schema_is_json(vaectl: Vaectl) -> None:
    assert "optimizer" in json.loads(vaectl("config", "schema").out)["properties"]


def test_data_commands(vaectl: Vaectl) -> None:
    assert "digits-5k" in vaectl("data", "list").out
    code, out, _ = vaectl("data", "prepare", "digits-5k")
    assert code == 0
    assert out.startswith("digits-5k: 4500 training and 500 test images of 28x28 pixels")
    assert vaectl("data", "prepare", "cifar").code == 3


def test_version_and_usage(vaectl: Vaectl) -> None:
    assert vaectl("--version").out == f"vaectl {package.__version__}\n"
    assert vaectl("train", "--epochs", "many").code == 2
    assert vaectl("no-such-command").code == 2


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.mark.parametrize("command", [["--version"], ["config", "schema"], ["runs"]])
def test_a_reader_that_has_seen_enough_is_no_error(command: list[str], tmp_path: Path) -> None:
    """As `head`; a short answer meets the closed pipe only when it is flushed."""
    for name in range(100):
        (tmp_path / "runs" / f"{name}-{100 * 'a'}" / "checkpoints").mkdir(parents=True)
    process = apart.start("-m", "vaectl", *command, cwd=tmp_path, **PIPES)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize("command", [["config", "show"], ["runs"], ["--help"]])
def test_a_full_disk_behind_stdout_is_an_error_without_a_traceback(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = apart.run("-m", "vaectl", *command, **PIPES | {"stdout": full})
    assert process.stderr == "error: stdout: cannot be written: No space left on device\n"
    assert process.returncode == 1


def test_ctrl_c_saves_the_state_and_exits_130(tmp_path: Path) -> None:
    process = apart.start(
        *("-m", "vaectl", "train", "--epochs", "100000", "--name", "a"),
        *("--hidden-size", "16", "--set", "checkpoint.every=1000000"),
        cwd=tmp_path,
        **PIPES,
    )
    run = tmp_path / "runs" / "a"
    deadline = time.monotonic() + 120
    metrics = run / "metrics.csv"
    while time.monotonic() < deadline:
        if metrics.is_file() and metrics.read_text().count("\n") >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert re.search(r"error: interrupted after epoch \d+ of 100000\n", err)
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert len(_rows(run)) == 2 * record["epoch"]
    assert (run / "checkpoints" / f"{40 * record['epoch']}.json").is_file()
