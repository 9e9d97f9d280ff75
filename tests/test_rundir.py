import contextlib
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from filelock import FileLock
from matplotlib.figure import Figure

from vaectl.base import files
from vaectl.base.errors import ConfigError, RunError
from vaectl.cli.tables.evaluation import show_evaluation
from vaectl.runs import belongings, metrics
from vaectl.runs.directory import RunDir, save_figure
from vaectl.runs.find import find, summaries
from vaectl.runs.metrics import Row
from vaectl.runs.names import check_name
from vaectl.runs.record import FORMAT_VERSION, Estimate, Evaluation, PlugFacts, Record
from vaectl.runs.unfinished import Unfinished

RECORD = Record(
    name="a",
    status="running",
    seed=0,
    epochs=3,
    start="2026-01-01T00:00:00+00:00",
    command=["vaectl", "train"],
    git_commit=None,
    versions={},
    device={},
    data={
        "source": "digits-5k",
        "fingerprint": "0" * 64,
        "image_shape": (28, 28, 1),
        "images": {"train": 4000, "validation": 500, "test": 500},
    },
    metrics={
        "unit": "nats per image",
        "estimator": "ELBO, 1 sample",
        "binarization": "binarized at 0.5",
        "train": "",
        "validation": "",
    },
)
ROWS = [
    Row(1, 10, "train", {"elbo": -150.5, "kl": 20.25, "nll": 130.25}, 0.5),
    Row(1, 10, "validation", {"elbo": -140.0, "kl": 21.0, "nll": 119.0}, 0.125),
]
COLUMNS = metrics.columns(ROWS)
HEADER = metrics.header(COLUMNS)


def _create(runs: Path, name: str | None = None, *, force: bool = False) -> RunDir:
    return RunDir.create(runs, name, "mnist-z20-adam-s0", force=force)


def test_a_run_whose_plug_is_not_loaded_is_listed_with_what_is_known_of_it(
    tmp_path: Path,
) -> None:
    plug = PlugFacts(kind="model", name="mine", source="/a/my_model.py", sha256="0" * 64)
    settings = {
        "model.name": "mine",
        "model.code_size": 7,
        "optimizer.name": "sgd",
        "optimizer.sgd.learning_rate": 0.5,
    }
    record = RECORD.model_copy(update={"plugs": [plug], "settings": settings, "epoch": 2})
    with _create(tmp_path, "a") as run:
        run.write_record(record.model_copy(update={"status": "finished"}))
        run.write_config("model: {name: mine}\n")
    (row,) = summaries(tmp_path)
    assert (row.status, row.epoch, row.epochs) == ("finished", 2, 3)
    assert (row.model, row.optimizer, row.data) == ("mine-7", "sgd 0.5", "digits-5k")
    assert row.problem is not None
    assert str(plug) in row.problem
    with pytest.raises(RunError, match=re.escape(str(plug))) as error:
        find("latest", tmp_path).read_config()
    assert "--plugin" in error.value.hint


def test_curves_of_other_terms_are_replaced_with_their_run(tmp_path: Path) -> None:
    rows = [row._replace(terms={"iwae": -90.0, **row.terms}) for row in ROWS]
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
        run.write_metrics(rows, metrics.columns(rows))
        run.write_figure("iwae", Figure(figsize=(1, 1)), ["png", "svg"])
        run.write_figure("mine", Figure(figsize=(1, 1)), ["png"])
    folder = tmp_path / "a" / "figures"
    half = folder / ".iwae.png.0123abcd"
    half.write_bytes(b"")
    with RunDir(tmp_path / "a").lock():
        assert not half.exists()
    with _create(tmp_path, "a", force=True) as again:
        assert again.left_alone == [str(folder / "mine.png")]
    assert [path.name for path in folder.iterdir()] == ["mine.png"]


def test_default_names_are_made_unique_by_a_number(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with _create(tmp_path / "new" / "runs") as run:
            names.append(run.name)
    assert names == ["mnist-z20-adam-s0", "mnist-z20-adam-s0-2", "mnist-z20-adam-s0-3"]


def test_runs_started_at_once_get_directories_of_their_own(tmp_path: Path) -> None:
    names: list[str] = []

    def create() -> None:
        with _create(tmp_path) as run:
            names.append(run.name)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 8


def test_a_taken_name_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
    with pytest.raises(RunError, match="a exists already"):
        _create(tmp_path, "a")
    with pytest.raises(RunError, match="exists already"):
        check_name(tmp_path, "a", force=False)
    assert RunDir(tmp_path / "a").read_record() == RECORD


def test_force_replaces_a_run_and_nothing_else(tmp_path: Path) -> None:
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
        run.write_figure("elbo", Figure(), ["png"])
    with _create(tmp_path, "a", force=True) as run:
        assert [path.name for path in run.path.iterdir()] == [".lock"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not a run"):
        _create(tmp_path, "thesis", force=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_run_that_was_killed_before_it_wrote_anything_is_replaced(tmp_path: Path) -> None:
    with _create(tmp_path, "a"):
        pass
    with _create(tmp_path, "a", force=True) as run:
        assert run.name == "a"


@pytest.mark.parametrize("name", ["file", "thesis"])
def test_force_is_refused_before_anything_is_computed(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match=f"{name} is not a run, so --force does not replace it"):
        check_name(tmp_path, name, force=True)


def test_force_deletes_nothing_through_a_link(tmp_path: Path) -> None:
    with _create(tmp_path, "real") as run:
        run.write_record(RECORD)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(RunError, match="link is a link, and --force deletes nothing behind one"):
        _create(tmp_path, "link", force=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    for name in ("figures", "checkpoints", "nowhere"):
        (run.path / name).symlink_to(elsewhere if name != "nowhere" else tmp_path / "gone")
    (run.path / "metrics.csv").symlink_to(elsewhere / "precious")
    for name in ("metrics.csv", "checkpoints", "figures"):
        with pytest.raises(RunError, match=f"{name}: cannot be written: it is a link"):
            _create(tmp_path, "real", force=True)
        (run.path / name).unlink()
    with _create(tmp_path, "real", force=True) as run:
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "nowhere"]
        assert run.left_alone == [str(run.path / "nowhere")]
    assert (elsewhere / "precious").read_text() == "x"


def test_a_lock_that_is_a_link_harms_nothing(tmp_path: Path) -> None:
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
    (tmp_path / "precious").write_text("x")
    (run.path / ".lock").unlink(missing_ok=True)
    (run.path / ".lock").symlink_to(tmp_path / "precious")
    run.is_locked()
    with contextlib.suppress(RunError):
        _create(tmp_path, "a", force=True).__exit__(None, None, None)
    assert (tmp_path / "precious").read_text() == "x"


def test_a_run_that_cannot_be_deleted_is_an_error_and_stays_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
        run.write_metrics(ROWS, COLUMNS)

    unlink = os.unlink
    for refused in ("metrics.csv", "run.json"):

        def unlink_others(name: str, *, dir_fd: int, refused: str = refused) -> None:
            if name == refused:
                raise PermissionError(errno.EACCES, "Permission denied", name)
            unlink(name, dir_fd=dir_fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", unlink_others)
            with pytest.raises(RunError, match=f"{refused}: cannot be written: Permission denied"):
                _create(tmp_path, "a", force=True)
        assert RunDir(tmp_path / "a").read_record() == RECORD
    # the record goes last
    assert not (tmp_path / "a" / "metrics.csv").exists()


def test_a_run_that_is_being_written_is_not_replaced(tmp_path: Path) -> None:
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
        with pytest.raises(RunError, match="another process writes in it"):
            _create(tmp_path, "a", force=True)
        assert run.read_record() == RECORD


def test_an_error_after_the_lock_was_taken_releases_it(tmp_path: Path) -> None:
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
    (run.path / "figures").symlink_to(tmp_path)
    with pytest.raises(RunError, match="figures") as of_lock:  # keeps what it was raised from
        RunDir(run.path).lock()
    with pytest.raises(RunError, match="figures") as of_create:
        _create(tmp_path, "a", force=True)
    (run.path / "figures").unlink()
    with RunDir(run.path).lock():
        assert of_lock.value is not of_create.value


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from vaectl.runs.directory import RunDir\n"
        f"run = RunDir.create(Path({str(tmp_path)!r}), 'a', 'a', force=False)\n"
        "(run.path / 'run.json').write_text('')\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with _create(tmp_path, "a", force=True) as run:
        assert run.name == "a"


@pytest.mark.parametrize("allowed", [os.O_RDONLY, None])
def test_a_lock_of_another_user_is_tried_if_it_can_be_read(
    allowed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be read counts as held, since the run may well be going on."""
    really = os.open

    def refuse(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if path == ".lock" and flags & os.O_ACCMODE != allowed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, flags, *args, **kwargs)

    with _create(tmp_path, "a") as run:
        monkeypatch.setattr(os, "open", refuse)
        assert RunDir(run.path).is_locked()
    assert run.is_locked() == (allowed is None)


def test_a_disk_without_locks_knows_who_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lustre, mounted without them."""

    def refuse(_file: object, _how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="flock not supported"), _create(tmp_path, "a") as run:
        assert RunDir(run.path).is_locked()
    assert not run.is_locked()


def test_a_run_that_was_moved_away_does_not_come_back(tmp_path: Path) -> None:
    part = np.zeros((1, 1), np.float32)
    told: list[str] = []
    with _create(tmp_path, "a") as run:
        run.write_record(RECORD)
        finished = Unfinished(run, {}, told.append)
        run.path.rename(tmp_path / "b")
        writes: list[Callable[[], object]] = [
            RunDir(run.path).lock,
            lambda: run.write_record(RECORD),
            lambda: run.write_evaluation(_evaluation("test")),
            lambda: run.write_figure("elbo", Figure(figsize=(1, 1)), ["png"]),
            lambda: run.write_page("explore", b"<!doctype html>"),
        ]
        for write in writes:
            with pytest.raises(RunError, match="a: cannot be written: No such file or directory"):
                write()
        finished["test-0"] = part
        assert len(told) == 1
    assert not RunDir(run.path).is_locked()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_figure_is_drawn_before_its_file_is_begun(tmp_path: Path) -> None:
    """Drawing takes up to minutes, and an interrupt ends the process at once."""

    class Watched(Figure):
        def savefig(self, *args: Any, **kwargs: Any) -> None:
            super().savefig(*args, **kwargs)
            assert not [*tmp_path.rglob("*.png*")]

    RunDir(tmp_path).write_figure("elbo", Watched(figsize=(1, 1)), ["png"])
    (tmp_path / "figures" / "elbo.png").unlink()
    save_figure(tmp_path / "elbo.png", Watched(figsize=(1, 1)))


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", ".hidden", "-x", "latest", "a b", "é", "<script>", "a" * 101, "a\n"]
)
def test_names_that_are_no_directory_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not usable as the name of a run"):
        _create(tmp_path, name)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written") as error:
        _create(tmp_path / "file" / "runs")
    assert "--runs-dir" in error.value.hint


def test_metrics_read_back_and_have_a_fixed_layout(tmp_path: Path) -> None:
    with _create(tmp_path) as run:
        run.write_metrics(ROWS, COLUMNS)
        assert run.read_metrics() == ROWS
        assert (run.path / "metrics.csv").read_text() == (
            "epoch,step,split,elbo,kl,nll,seconds\n"
            "1,10,train,-150.500000,20.250000,130.250000,0.500\n"
            "1,10,validation,-140.000000,21.000000,119.000000,0.125\n"
        )


def test_records_read_back(tmp_path: Path) -> None:
    with _create(tmp_path) as run:
        run.write_record(RECORD)
        assert run.read_record() == RECORD


def test_records_of_before_images_had_channels_are_read(tmp_path: Path) -> None:
    content = json.loads(RECORD.model_dump_json())
    content["data"]["image_shape"] = [28, 28]
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert RunDir(tmp_path).read_record() == RECORD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not the record of a run"),
        ('{"name": "a"}', "not the record of a run"),
        (
            RECORD.model_copy(update={"start": "2026-01-01T00:00:00"}).model_dump_json(),
            "not the record of a run",
        ),
        (
            RECORD.model_copy(update={"start": "yesterday"}).model_dump_json(),
            "not the record of a run",
        ),
        (
            RECORD.model_copy(update={"format_version": FORMAT_VERSION + 1}).model_dump_json(),
            "newer",
        ),
        ('{"format_version": 3, "of": "other fields"}', "format 3 is newer than this vaectl reads"),
    ],
)
def test_broken_records_are_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=message) as error:
        RunDir(tmp_path).read_record()
    assert error.value.exit_code == 4


def _evaluation(split: Literal["train", "validation", "test"]) -> Evaluation:
    some = Estimate(mean=-100.0, standard_error=1.0)
    return Evaluation(
        run="a",
        epoch=1,
        split=split,
        images=10,
        binarization="binarized at 0.5",
        seed=0,
        samples=1,
        elbo=some,
        kl=some,
        nll=some,
        importance_samples=0,
        log_likelihood=None,
        code_size=1,
        active_units=1,
        activity=[1.0],
        kl_by_dimension=[1.0],
        seconds=0.5,
    )


def test_a_small_kl_of_a_dimension_has_two_digits(capsys: pytest.CaptureFixture[str]) -> None:
    small = {"kl_by_dimension": [0.00025, 2.0, 0.0, 0.051], "code_size": 4}
    show_evaluation(_evaluation("test").model_copy(update=small))
    assert "largest first: 2.00 0.051 0.00025 0\n" in capsys.readouterr().out


def test_evaluations_that_end_at_once_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RunDir._write

    def write_slowly(run: RunDir, name: str, text: str) -> None:
        time.sleep(0.05)
        write(run, name, text)

    monkeypatch.setattr(RunDir, "_write", write_slowly)
    evaluations = [_evaluation("train"), _evaluation("validation"), _evaluation("test")]
    threads = [
        threading.Thread(target=RunDir(tmp_path).write_evaluation, args=(evaluation,))
        for evaluation in evaluations
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(RunDir(tmp_path).read_evaluations()) == {"train", "validation", "test"}


def test_evaluations_that_cannot_be_read_are_not_written_over(tmp_path: Path) -> None:
    RunDir(tmp_path).write_evaluation(_evaluation("train"))
    file = tmp_path / "evaluation.json"
    broken = file.read_text().replace('"epoch": 1', '"epoch": "one"')
    file.write_text(broken)
    with pytest.raises(RunError, match=r"evaluation\.json: it was changed, is damaged") as error:
        RunDir(tmp_path).write_evaluation(_evaluation("test"))
    assert error.value.hint
    assert file.read_text() == broken


def test_what_cannot_be_written_into_a_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDir(tmp_path / "file")
    with pytest.raises(RunError, match="file: cannot be written: Not a directory"):
        run.write_figure("elbo", Figure(), ["png"])
    with pytest.raises(RunError, match="file: cannot be written: Not a directory"):
        run.write_evaluation(_evaluation("test"))


def test_a_lock_is_not_lost_to_one_who_only_asks_for_it(tmp_path: Path) -> None:
    reader = FileLock(tmp_path / ".lock", thread_local=False)
    reader.acquire()
    moment = threading.Timer(0.1, reader.release, kwargs={"force": True})
    moment.start()
    with RunDir(tmp_path).lock():
        moment.join()
        assert RunDir(tmp_path).is_locked()


def test_evaluations_of_before_they_knew_their_step_are_read(tmp_path: Path) -> None:
    RunDir(tmp_path).write_evaluation(_evaluation("test"))
    file = tmp_path / "evaluation.json"
    evaluations = json.loads(file.read_text())
    for key in ("step", "where"):
        del evaluations["test"][key]
    del evaluations["seal"]
    file.write_text(json.dumps(evaluations))
    assert RunDir(tmp_path).read_evaluations() == {"test": _evaluation("test")}


@pytest.mark.parametrize(
    "content",
    [
        None,
        "epoch,step\n1,2\n",
        "x\n",
        "epoch,step,split\na,b,c\n",
        f"{HEADER}1,2,{'t' * 200_000},1,1,1,1\n",
        f"{HEADER}1,2,trian,1,1,1,1\n",
    ],
)
def test_broken_metrics_are_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(RunError, match=r"metrics\.csv"):
        RunDir(tmp_path).read_metrics()


def test_an_objective_may_report_hundreds_of_terms(tmp_path: Path) -> None:
    terms = {f"mean_of_dimension_{number}": -1234567.0 for number in range(300)}
    rows = [Row(1, 10, split, terms, 0.5) for split in metrics.SPLITS.values()]
    run = RunDir(tmp_path)
    run.write_metrics(rows, [*terms])
    assert run.read_metrics(until=1) == rows
    (tmp_path / "mean_of_dimension_299.png").write_bytes(b"\x89PNG Matplotlib")
    left = belongings.remove(run.folder, belongings.curves(run.folder))
    assert left == ["metrics.csv"]


@pytest.mark.parametrize("lost", [1, 20, 42])
def test_metrics_that_a_power_cut_has_torn_are_read_up_to_there(lost: int, tmp_path: Path) -> None:
    lines = [f"{e},{e},{split},-1,1,0,1\n" for e in (1, 2) for split in ("train", "validation")]
    whole = HEADER + "".join(lines)
    (tmp_path / "metrics.csv").write_text(whole[:-lost])
    rows = RunDir(tmp_path).read_metrics()
    assert [(row.epoch, row.split) for row in rows] == [(1, "train"), (1, "validation")]


@pytest.mark.parametrize("name", ["a" * 255, "a" + "é" * 127])
def test_the_longest_names_can_be_written(name: str, tmp_path: Path) -> None:
    with files.replacing(tmp_path / name) as out:
        (half,) = tmp_path.iterdir()
        assert half.name[1:].startswith(name[:100])
        out.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail_half_way() -> None:
        with files.replacing(file) as out:
            out.write(b"half of the n")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail_half_way()
    assert file.read_text() == "old"
    with files.replacing(file) as out:
        out.write(b"new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    os.umask(umask := os.umask(0))
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.access(file, os.R_OK)


def test_the_same_figure_gives_the_same_files(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        with _create(tmp_path) as run:
            paths = run.write_figure("elbo", Figure(figsize=(1, 1)), ["png", "svg"])
            assert [path.name for path in paths] == ["elbo.png", "elbo.svg"]
            written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
