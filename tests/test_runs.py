"""`vaectl runs`: what is listed and how wide it is; and what `vaectl runs rm` removes."""

import errno
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.conftest import Vaectl
from vaectl.base.errors import ConfigError, RunError
from vaectl.cli.runs import Order
from vaectl.cli.tables.runs import show_runs
from vaectl.runs import listing
from vaectl.runs.directory import RunDir
from vaectl.runs.find import Summary, find, find_all, summaries, to_remove
from vaectl.runs.record import now

ADAM = {"optimizer.name": "adam", "model.code_size": 20, "optimizer.adam.nesterov": False}
ROWS = [
    Summary("a", "finished", "tfds:mnist", "500-20 tanh", "adam 0.001", 9, 9, "elbo", -103.0,
            "2026-01-02T00:00:00+00:00", settings=ADAM),
    Summary("b", "failed", "idx:/home/me/data/mnist", "conv", "sgd 0.1", 3, 9, "iwae", -90.0,
            "2026-01-03T00:00:00+00:00", settings={"optimizer.name": "sgd", "model.code_size": 2}),
    Summary("c/adam-s0", "finished", "digits-5k", "500-20 tanh", "adam 0.01", 2, 2, "elbo", -120.0,
            "2026-01-01T00:00:00+00:00", settings=ADAM),
    Summary("c/sgd-s0", "failed", "digits-5k", "500-20 tanh", "sgd 0.01", 1, 2, "elbo", -130.0,
            "2026-01-01T00:00:09+00:00"),
    Summary("d", "not a run", problem="run.json: broken"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["optimizer=adam"], ["a", "c/adam-s0"]),
        (["optimizer!=adam"], ["b", "c/sgd-s0"]),
        (["status=failed"], ["b", "c/sgd-s0"]),
        (["data=mnist"], ["a", "b"]),
        (["data=*5k"], ["c/adam-s0", "c/sgd-s0"]),
        (["elbo>-125"], ["a", "c/adam-s0"]),
        (["elbo <= -120", "optimizer = sgd"], ["c/sgd-s0"]),
        (["iwae>=-90"], ["b"]),
        (["model.code_size=20"], ["a", "c/adam-s0"]),
        (["optimizer.adam.nesterov=false"], ["a", "c/adam-s0"]),
        (["epochs<3"], ["c/adam-s0", "c/sgd-s0"]),
        (["name=c/*"], ["c/adam-s0", "c/sgd-s0"]),
        (["age<2d"], ["b"]),
        (["age >= 50 h"], ["a", "c/adam-s0", "c/sgd-s0"]),
    ],
)
def test_conditions_select_runs(
    conditions: list[str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.fromisoformat("2026-01-04T02:00:00+00:00").timestamp()
    monkeypatch.setattr(
        listing,
        "_seconds_since",
        lambda start: now - datetime.fromisoformat(start).timestamp(),
    )
    found = listing.parse(conditions, ROWS)
    assert [row.name for row in ROWS if all(each.holds(row) for each in found)] == names


@pytest.mark.parametrize(
    "text", ["optimizr=adam", "adam", "=adam", "model.codesize=2", "age<2", "age=2d", "age<x d"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        listing.parse([text], ROWS)


def test_runs_are_sorted_by_every_column() -> None:
    def names(by: str) -> list[str]:
        return [row.name for row in listing.ordered(ROWS, by)]

    assert names("elbo") == ["a", "c/adam-s0", "c/sgd-s0", "b", "d"]
    assert names("age") == ["b", "a", "c/sgd-s0", "c/adam-s0", "d"]
    assert names("optimizer") == ["a", "c/adam-s0", "c/sgd-s0", "b", "d"]
    for by in listing.COLUMNS:
        assert sorted(names(by)) == sorted(row.name for row in ROWS)


def test_the_names_of_columns_are_the_keys(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    header = vaectl("runs").out.splitlines()[0].split("\t")
    assert set(header) == {*listing.COLUMNS} == {*get_args(Order)}
    for key in header:
        assert vaectl("runs", "--sort", key).code == 0
        value = "'age<9d'" if key == "age" else f"{key}!=1"
        assert vaectl("runs", "--where", value.strip("'")).code == 0
    for old, new in (("epoch", "epochs"), ("optimiser", "optimizer"), ("ELBO", "elbo")):
        assert f"did you mean {new}?" in vaectl("runs", "--sort", old).err
        assert f"did you mean {new}?" in vaectl("runs", "--where", f"{old}>1").err
    wide = Console(width=200, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr("vaectl.cli.tables.runs.console", lambda: wide)
    assert vaectl("runs").out.split()[: len(header)] == header


def test_scores_that_measure_something_else_are_not_ranked_together() -> None:
    density = ROWS[0]._replace(name="density", best_score=900.0, measure="a density")
    rows = [density, *ROWS]
    assert listing.measures(rows) == [None, "a density"]
    names = [row.name for row in listing.ordered(rows, "elbo")]
    assert names == ["a", "c/adam-s0", "c/sgd-s0", "density", "b", "d"]


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"binarization": "intensities from 0 to 1: the NLL is that of a density"}},
        {"metrics": {"unit": "bits per pixel"}},
        {"data": {"fingerprint": 64 * "0"}},
        {"data": {"images": {"train": 1000, "validation": 99, "test": 120}}},
    ],
)
def test_what_a_score_measures_is_read_from_the_record(
    change: dict[str, dict[str, object]], vaectl: Vaectl, runs: Path
) -> None:
    assert "do not compare" not in vaectl("runs", "--sort", "elbo").err
    run = RunDir(runs / "z2")
    record = run.read_record()
    ((part, values),) = change.items()
    run.write_record(record.model_copy(update={part: {**getattr(record, part), **values}}))
    code, _, err = vaectl("runs", "--sort", "elbo")
    assert code == 0
    assert "do not compare" in err
    assert "group 2: " in err
    assert "group" not in vaectl("runs", "--sort", "name").out
    told = json.loads(vaectl("runs", "--sort", "elbo", "--json").out)["runs"]
    assert len({row["measure"] for row in told}) == 2


def test_members_of_a_comparison_are_one_row() -> None:
    a, b, c, d = listing.folded(ROWS)
    assert (a, b, d) == (ROWS[0], ROWS[1], ROWS[4])
    assert (c.name, c.members, c.best_score) == ("c", 2, -120.0)
    assert (c.least_epoch, c.epoch, c.epochs) == (1, 2, 2)
    assert c.status == "1 finished, 1 failed"
    assert c.optimizer == "adam, sgd"
    assert c.start == "2026-01-01T00:00:09+00:00"


@pytest.mark.parametrize("width", [250, 120, 100, 80, 60, 40, 24])
def test_a_row_is_one_line_of_the_terminal_and_no_number_is_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ROWS[0]._replace(name="a-long-name-" + 70 * "x", data="idx:/a/very/long/path/of/mnist")
    monkeypatch.setattr(
        "vaectl.cli.tables.runs.console",
        lambda: Console(width=width, force_terminal=True, color_system=None),
    )
    show_runs([long, *listing.folded(ROWS[1:4])], Path("runs"), [])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) == 2 + 3
    assert all(cell_len(line) <= width for line in lines)
    for line, score in zip(lines[2:], ("-103.00", "-90.00 (IWAE)", "-120.00"), strict=True):
        assert score in line
    assert ("idx:/a/very/long/path/of/mnist" in lines[2]) == (width == 250)


def test_a_pipe_has_everything(vaectl: Vaectl, runs: Path, trained_runs: Path) -> None:
    name = "z2-" + 90 * "x"
    (runs / "z2").rename(runs / name)
    (runs / "z5" / "run.json").write_text("{")
    for arguments in ((), ("--sort", "elbo")):
        header, *lines = vaectl("runs", *arguments).out.splitlines()
        assert [line.split("\t")[0] for line in lines if "\t" in line] == [name, "z5"]
        assert {line.count("\t") for line in lines} == {header.count("\t")}
    shutil.copytree(trained_runs / "z5", runs / "z5", dirs_exist_ok=True)
    answer = vaectl("runs", "--where", "model.code_size=5", "--json")
    (row,) = json.loads(answer.out)["runs"]
    assert row["name"] == "z5"
    assert row["settings"]["model.code_size"] == 5
    assert vaectl("runs", "--where", "nothing=5").code == 2
    assert "no runs in runs match elbo>0" in vaectl("runs", "--where", "elbo>0").out


@pytest.mark.parametrize(
    "odd", [{"model": 3}, {".".join("a" * 3000): 1}, {"model.name.of": 1}, {"epochs": "many"}]
)
def test_a_record_of_odd_settings_is_listed_by_its_configuration(
    odd: dict[str, object], vaectl: Vaectl, runs: Path
) -> None:
    file = runs / "z2" / "run.json"
    fields = json.loads(file.read_text())
    fields["settings"] = odd | fields["settings"]
    del fields["seal"]
    file.write_text(json.dumps(fields))
    answer = vaectl("runs", "--json")
    assert answer.code == 0
    rows = {row["name"]: row for row in json.loads(answer.out)["runs"]}
    assert rows["z2"]["model"] == rows["z5"]["model"].replace("5", "2")


def test_the_list_has_the_record_of_a_run_whose_configuration_is_broken(
    vaectl: Vaectl, runs: Path
) -> None:
    """It is said where the configuration is used."""
    before = vaectl("runs").out
    (runs / "z2" / "config.yaml").write_text("{")
    assert vaectl("runs").out == before
    answer = vaectl("sample", "z2")
    assert answer.code == 4
    assert "config.yaml" in answer.err


def test_members_are_listed_on_request(vaectl: Vaectl, finished: Path) -> None:
    shutil.copytree(finished, "runs/c")
    assert "c\t4 finished\t" in vaectl("runs").out
    for arguments in (("--members",), ("c/*",)):
        assert "c/adam-s0" in vaectl("runs", *arguments).out
    assert len(json.loads(vaectl("runs", "--json").out)["runs"]) == 4


def test_only_files_of_vaectl_are_removed(vaectl: Vaectl, runs: Path, finished: Path) -> None:
    shutil.copytree(finished, "runs/c")
    (runs / "z2" / "notes.txt").write_text("mine")
    answer = vaectl("runs", "rm", "z2", "z5", "c", "--yes")
    assert (answer.code, answer.out.split()) == (0, ["runs/z2", "runs/z5", "runs/c"])
    assert "notes.txt" in answer.err
    assert sorted(path.name for path in runs.rglob("*") if path.name != ".lock") == [
        "notes.txt",
        "z2",
    ]
    assert vaectl("runs", "rm", "z5", "--yes").code == 4


def test_a_study_that_cannot_be_listed_hides_its_own_runs_only(
    runs: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user, or one that is removed meanwhile."""
    shutil.copytree(finished, runs / "theirs")
    listdir = os.listdir

    def refuse(path: Any) -> list[str]:
        names = listdir(path)
        if "comparison.yaml" in names:
            raise PermissionError(errno.EACCES, "Permission denied")
        return names

    monkeypatch.setattr(os, "listdir", refuse)
    assert [row.name for row in summaries(runs)] == ["z2", "z5"]
    assert find("latest", runs).name in ("z2", "z5")
    with pytest.raises(RunError, match="no run of that name"):
        find("z3", runs)
    for look in (find, find_all):
        with pytest.raises(RunError, match="theirs: cannot be read: Permission denied"):
            look("theirs", runs)


@pytest.mark.parametrize(("said", "left"), [("y\n", False), ("n\n", True)])
def test_a_question_is_asked_first(
    said: str, left: bool, vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert vaectl("runs", "rm", "z2").code == 2
    monkeypatch.setattr("sys.stdin", Terminal(said))
    answer = vaectl("runs", "rm", "z2", "z[25]")
    assert answer.code == 0
    for name in ("z2", "z5"):
        assert f" MB  runs/{name}" in answer.err
        assert (runs / name).exists() == left
    assert answer.err.count("?") == 1


def test_patterns_name_runs_and_studies_but_no_members(
    vaectl: Vaectl, runs: Path, finished: Path
) -> None:
    shutil.copytree(finished, "runs/c")
    (runs / "other").mkdir()
    assert vaectl("runs", "rm", "z*", "q*", "--yes").code == 4
    assert vaectl("runs", "rm", "*-s0", "--yes").code == 4
    assert vaectl("runs", "rm", "*", "--yes", "--runs-dir", "gone").code == 4
    assert {path.name for path in runs.iterdir()} == {"z2", "z5", "c", "other"}
    with RunDir(runs / "z2").lock():
        answer = vaectl("runs", "rm", "*", "c/adam-s0", "--yes")
    assert (answer.code, answer.out.split()) == (4, ["runs/c", "runs/z5"])
    assert "z2" in answer.err
    assert {path.name for path in runs.iterdir()} == {"z2", "other"}


def test_a_run_that_trains_or_is_a_link_is_not_removed(vaectl: Vaectl, runs: Path) -> None:
    with RunDir(runs / "z2").lock():
        assert vaectl("runs", "rm", "z2", "--yes").code == 4
    (runs / "link").symlink_to(runs / "z2")
    assert vaectl("runs", "rm", "link", "--yes").code == 4
    assert (runs / "z2" / "run.json").exists()


def test_of_two_runs_within_a_second_the_later_one_is_the_latest(runs: Path) -> None:
    first = now()
    time.sleep(0.002)
    starts = {"z2": now(), "z5": first}
    for name, start in starts.items():
        run = RunDir(runs / name)
        run.write_record(run.read_record().model_copy(update={"start": start}))
    assert find("latest", runs).name == "z2"


def test_the_latest_run_to_resume_is_one_that_train_made(
    vaectl: Vaectl, runs: Path, finished: Path
) -> None:
    """Later ones are a comparison's, or an imported one, which nothing can resume."""
    z2 = RunDir(runs / "z2")
    shutil.copytree(runs / "z5", runs / "imported")
    imported = RunDir(runs / "imported")
    later = {"start": "2100-01-01T00:00:00+00:00"}
    imported.write_record(imported.read_record().model_copy(update={**later, "status": "imported"}))
    shutil.copytree(finished, "runs/c")
    member = RunDir(runs / "c" / "adam-s0")
    member.write_record(member.read_record().model_copy(update=later))
    z2.write_record(z2.read_record().model_copy(update={"start": "2099-01-01T00:00:00+00:00"}))
    assert find("latest", runs).name == "imported"
    answer = vaectl("train", "--resume", "latest")
    assert (answer.code, answer.err.splitlines()[0]) == (0, "resuming runs/z2")
    for name in ("z2", "z5"):
        shutil.rmtree(runs / name)
    answer = vaectl("train", "--resume", "latest")
    assert answer.code == 4
    assert "c/adam-s0" in answer.err
    answer = vaectl("train", "--resume", "latest", "--runs-dir", "runs/c")
    assert (answer.code, "comparison c" in answer.err) == (2, True)
    shutil.rmtree(runs / "imported")
    assert vaectl("sample", "latest").code == 4


def test_a_foreign_file_in_a_checkpoint_stops_force_and_outlives_the_run(
    vaectl: Vaectl, runs: Path
) -> None:
    saved = runs / "z5" / "checkpoints"
    step = max(int(file.stem) for file in saved.glob("*.json"))
    foreign = saved / f"{step}" / ".DS_Store"
    foreign.write_bytes(b"seen")
    answer = vaectl("train", "--epochs", "1", "--name", "z5", "--force", "-q")
    assert answer.code == 4
    assert f"{step}/.DS_Store: not made by vaectl" in answer.err
    assert (runs / "z5" / "run.json").exists()
    answer = vaectl("runs", "rm", "z5", "--yes")
    assert f"{step}/.DS_Store" in answer.out + answer.err
    files = {path for path in (runs / "z5").rglob("*") if path.is_file()}
    assert files - {runs / "z5" / ".lock"} == {foreign}


def test_the_directory_is_listed_once_however_many_runs_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    listed: list[Path] = []
    iterdir = Path.iterdir

    def noted(path: Path) -> Iterator[Path]:
        listed.append(path)
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", noted)
    assert to_remove(names, tmp_path) == [tmp_path / name for name in names]
    assert listed == [tmp_path]
