"""Faults of every kind against short runs: nothing is lost.

The suite runs a few of each. All of them, with a table in the end:

    python -m pytest -m full tests/test_faults.py
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from tests import apart
from tests.apart import draw_nothing
from tests.conftest import Happened, Vaectl, assert_equal_runs
from tests.disk import CUTS, Call, Directory, Disk, File, loop_disk, record
from tests.edits import COMMAND, SETTINGS, C, drill, numbers
from vaectl import experiment
from vaectl.runs.directory import RunDir
from vaectl.runs.names import is_run
from vaectl.runs.saved import BEGINNING, find_intact, kept

EPOCHS = 20
SHORT = (
    *("--epochs", str(EPOCHS), "--hidden-size", "8", "--code-size", "2", "--batch-size", "20"),
    *("--learning-rate", "0.01"),
    *("--set", "data.train_size=300", "--set", "data.validation_size=50"),
    *("--set", "checkpoint.every=1"),
)
"""A few seconds, most of which go into saving."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    process, _ = _start(folder, "train", *SHORT, "--name", "whole")
    assert process.wait(300) == 0
    return folder / "runs" / "whole"


def _start(
    folder: Path, *arguments: str, log: Path | None = None
) -> tuple[subprocess.Popen[str], Path]:
    """Start the command line in a folder, as a process with its stderr in a file."""
    log = log or folder / "stderr.txt"
    with log.open("w") as err:
        process = apart.start(
            *("-m", "vaectl", *arguments), cwd=folder, stdout=subprocess.DEVNULL, stderr=err
        )
    return process, log


def _finish(run: Path) -> None:
    """Resume a run, in this process: it saves the time of a start."""
    rundir = RunDir(run)
    assert experiment.resume(rundir, rundir.read_config()).record.status == "finished"
    left = {path.name for path in run.rglob("*")}
    assert not [name for name in left if "tmp" in name or name.startswith((".run", ".metrics"))]
    for info in kept(rundir.checkpoints):
        assert f"{info.step}.json" in left


PHASES = {"epoch": "training and saving", "drawing": "drawing", "compiling": "compiling"}
AFTER_THE_END = "after the end"


def _phase(log: Path) -> str:
    """What a process was at, by the last that it said."""
    last = log.read_text().splitlines()[-1:] or [""]
    return PHASES.get(last[0].partition(" ")[0], "starting")


def _strike(
    folder: Path, number: signal.Signals, delay: float, when: str = ""
) -> tuple[subprocess.Popen[str], str, float]:
    """Train in a folder, or go on there, and send a signal; say at what, and how long it took.

    Args:
        folder: of the process.
        number: of the signal.
        delay: how long to wait, in seconds.
        when: for what word on stderr to wait before that.
    """
    goes_on = is_run(folder / "runs" / "a")
    arguments = ("--resume", "a") if goes_on else (*SHORT, "--name", "a", "--force")
    process, log = _start(folder, "train", *arguments)
    while when and process.poll() is None and when not in log.read_text():
        time.sleep(0.005)
    time.sleep(delay)
    phase, start = _phase(log), time.monotonic()
    if process.poll() is not None:
        phase = AFTER_THE_END
    process.send_signal(number)
    process.wait(60)
    return process, phase, time.monotonic() - start


def _kill(folder: Path, whole: Path, happened: Happened, delay: float, when: str) -> bool:
    """Kill a run; a copy of what is left must finish in the right bits. Say if it was in time."""
    process, phase, _ = _strike(folder, signal.SIGKILL, delay, when)
    run = folder / "runs" / "a"
    assert process.returncode in (0, -signal.SIGKILL)
    checkpoints = run / "checkpoints"
    names = {path.name for path in checkpoints.iterdir()} if checkpoints.is_dir() else set()
    if any("tmp" in name or f"{name}.json" not in names for name in names if "json" not in name):
        phase += ", in a save"
    if is_run(run):
        copy = folder / "copy"
        shutil.copytree(run, copy)
        _finish(copy)
        assert_equal_runs(copy, whole)
        shutil.rmtree(copy)
    if process.returncode == 0:
        shutil.rmtree(run)  # and from the beginning again
        return False
    happened("kill -9", phase)
    return True


def test_killed_runs_end_in_the_right_bits(tmp_path: Path, whole: Path, happened: Happened) -> None:
    for delay, when in ((0.0, "compiling"), (0.2, "epoch 1/")):
        _kill(tmp_path, whole, happened, delay, when)


@pytest.mark.full
def test_a_hundred_kills_lose_nothing(tmp_path: Path, whole: Path, happened: Happened) -> None:
    chance = random.Random(0)  # noqa: S311
    killed = 0
    while killed < 100:
        # most of them where there is something to lose
        when, most = chance.choice(
            [("", 3.0), ("compiling", 3.0), ("epoch", 2.0), ("drawing", 0.5)]
        )
        killed += _kill(tmp_path, whole, happened, chance.uniform(0, most), when)


def _signal(
    folder: Path,
    whole: Path,
    happened: Happened,
    number: signal.Signals,
    delay: float,
    when: str,
) -> None:
    process, phase, seconds = _strike(folder, number, delay, when)
    run = folder / "runs" / "a"
    said = (folder / "stderr.txt").read_text()
    assert "Traceback" not in said
    assert seconds < 10  # 5, and a chunk of work; the machine may be busy
    if phase != AFTER_THE_END:
        assert process.returncode in ((130, -number) if not said else (130, 0)), said
    if is_run(run) and (run / "run.json").exists():
        status = RunDir(run).read_record().status
        if process.returncode == 130 and phase not in ("starting", AFTER_THE_END):
            assert status in ("interrupted", "finished")
        copy = folder / "copy"
        shutil.copytree(run, copy)
        _finish(copy)
        assert_equal_runs(copy, whole)
        shutil.rmtree(copy)
        if status == "finished":
            shutil.rmtree(run)
    happened(number.name, phase, seconds)


def test_signals_save_and_leave_with_130(tmp_path: Path, whole: Path, happened: Happened) -> None:
    for number, delay, when in (
        (signal.SIGINT, 0.05, "epoch"),
        (signal.SIGTERM, 0.0, "drawing"),
    ):
        _signal(tmp_path, whole, happened, number, delay, when)


@pytest.mark.full
def test_signals_at_random_moments(tmp_path: Path, whole: Path, happened: Happened) -> None:
    chance = random.Random(1)  # noqa: S311
    for number in range(40):
        when = ("", "compiling", "epoch", "epoch", "drawing")[number % 5]
        kind = (signal.SIGINT, signal.SIGTERM)[number % 2]
        _signal(tmp_path, whole, happened, kind, chance.uniform(0.1, 1.5), when)


def test_a_second_signal_leaves_at_once_and_does_no_harm(
    tmp_path: Path, whole: Path, happened: Happened
) -> None:
    process, log = _start(tmp_path, "train", *SHORT, "--name", "a")
    while process.poll() is None and "epoch 1/" not in log.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    _finish(tmp_path / "runs" / "a")
    assert_equal_runs(tmp_path / "runs" / "a", whole)
    happened("SIGTERM twice", "training and saving")


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes() or b"x")
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped byte": lambda path: _flip(_largest(path)),
    "a truncated file": lambda path: os.truncate(_largest(path), 10),
    "a missing file": lambda path: _largest(path).unlink(),
    "garbage": lambda path: _write_garbage(_largest(path)),
    "no directory": shutil.rmtree,
    "no JSON": lambda path: path.with_name(f"{path.name}.json").unlink(),
    "half a JSON": lambda path: os.truncate(path.with_name(f"{path.name}.json"), 40),
    "another digest": lambda path: _flip_digest(path.with_name(f"{path.name}.json")),
    "another ELBO": lambda path: _raise_elbo(path.with_name(f"{path.name}.json")),
}


def _largest(path: Path) -> Path:
    return max((f for f in path.rglob("*") if f.is_file()), key=lambda file: file.stat().st_size)


def _write_garbage(file: Path) -> None:
    file.write_bytes(os.urandom(100))


def _flip_digest(file: Path) -> None:
    text = file.read_text()
    at = text.index('"digest": "') + 11
    file.write_text(text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :])


def _raise_elbo(file: Path) -> None:
    """By what would make a state the best for ever."""
    file.write_text(file.read_text().replace('"score": -', '"score": '))


def _damage(kind: str, index: int, folder: Path, whole: Path, happened: Happened) -> None:
    """Damage one of a finished run's checkpoints, by its place from the end; resume."""
    run = folder / "a"
    shutil.copytree(whole, run)
    rundir = RunDir(run)
    record = rundir.read_record()
    rundir.write_record(record.model_copy(update={"status": "running"}))
    step = kept(rundir.checkpoints)[index].step
    damaged = rundir.checkpoints.path / str(step)
    DAMAGE[kind](damaged)
    (warning,) = find_intact(rundir.checkpoints).warnings
    assert warning.startswith(f"{damaged}: the checkpoint is damaged")
    _finish(run)
    assert_equal_runs(run, whole)
    shutil.rmtree(run)
    happened("a damaged checkpoint", kind)


def test_a_damaged_checkpoint_is_skipped_for_one_before_it(
    tmp_path: Path, whole: Path, happened: Happened
) -> None:
    for kind in ("a flipped byte", "half a JSON", "another ELBO"):
        _damage(kind, -1, tmp_path, whole, happened)


@pytest.mark.full
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_every_kind_to_every_checkpoint(
    kind: str, tmp_path: Path, whole: Path, happened: Happened
) -> None:
    for index in range(len(kept(RunDir(whole).checkpoints))):
        _damage(kind, index, tmp_path, whole, happened)


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a disk of its own on a folder; yield what remounts it by other options."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes the right to mount one")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)  # noqa: S607

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


# with more room it ends
FULL = [pytest.param(f"{size}k", marks=pytest.mark.full) for size in range(100, 640, 45)]


@pytest.mark.parametrize("size", ["350k", *FULL])
def test_a_full_disk_is_an_error_and_with_room_the_run_goes_on(
    size: str, vaectl: Vaectl, tmp_path: Path, whole: Path, happened: Happened
) -> None:
    with _small_disk(tmp_path / "runs", size) as remount:
        answer = vaectl("train", *SHORT, "--name", "a", "--quiet")
        assert answer.code == 4
        assert "No space left on device" in answer.err
        assert answer.err.count("\n") == 2, answer.err
        # "running" where not even that could be written
        assert RunDir(tmp_path / "runs/a").read_record().status in ("failed", "running")
        remount("size=20m")
        assert vaectl("train", "--resume", "a", "--quiet").code == 0
        assert_equal_runs(tmp_path / "runs" / "a", whole)
    happened("a full disk", "of 100 kB to 600 kB")


def test_a_read_only_disk_is_an_error_and_the_run_goes_on_later(
    vaectl: Vaectl, tmp_path: Path, whole: Path, happened: Happened
) -> None:
    with _small_disk(tmp_path / "runs", "20m") as remount:
        process, _, _ = _strike(tmp_path, signal.SIGKILL, 0.0, "epoch 1/")
        process.wait()
        remount("ro")
        for arguments in (("--resume", "a"), (*SHORT, "--name", "b")):
            answer = vaectl("train", *arguments)
            assert answer.code == 4
            assert "Read-only file system" in answer.err
        remount("rw")
        assert vaectl("train", "--resume", "a", "--quiet").code == 0
        assert_equal_runs(tmp_path / "runs" / "a", whole)
    happened("a read-only disk", "after a kill")


def test_a_limit_on_the_size_of_files_is_an_error(
    vaectl: Vaectl, tmp_path: Path, whole: Path, happened: Happened
) -> None:
    """As a quota: checkpoints meet it."""
    limit = ("bash", "-c", 'ulimit -f 6; exec "$@"', "-")
    command = ("-m", "vaectl", "train", *SHORT, "--name", "a", "--quiet")
    done = apart.run(*command, before=limit, cwd=tmp_path)
    assert done.returncode == 4
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr
    assert vaectl("train", "--resume", "a", "--quiet").code == 0
    assert_equal_runs(tmp_path / "runs" / "a", whole)
    happened("a limit on file sizes", "saving")


LATE = """
import asyncio, atexit
from vaectl import __main__, cli

kept = []
atexit.register(kept.clear)  # the last of its kind to be called

class Late:
    def __init__(self, word): self.word = word
    def __del__(self): raise RuntimeError(self.word)

async def fail():
    raise ValueError("File too large")

async def start():
    return asyncio.ensure_future(fail()), await asyncio.sleep(0.01)

cli.main = lambda: None
__main__.main()
Late("Event loop is closed")
Late("another")
kept.append(asyncio.run(start()))
"""


def test_what_a_failed_save_sets_off_after_the_command_is_not_shown(tmp_path: Path) -> None:
    done = apart.run("-c", LATE, cwd=tmp_path, check=True)
    assert "another" in done.stderr
    assert "Event loop" not in done.stderr
    assert "never retrieved" not in done.stderr


CUT_EPOCHS = 5
CUT = (
    *(*SHORT, "--epochs", str(CUT_EPOCHS), "--name", "a"),
    *("--learning-rate", "1.0", "--set", "checkpoint.every=2"),
)
"""A run whose every system call is looked at; its best epochs are not always those it saves at."""


COMPARED = (
    *("compare-optimizers", "--optimizers", "adam,sgd", "--protocol", "paper", "--seeds", "1"),
    *("--epochs", "2", "--code-size", "2", "--set", "model.hidden_size=8"),
    *("--set", "data.train_size=300", "--set", "data.validation_size=50"),
    *("--set", "data.test_size=50", "--name", "c", "--quiet"),
)


class Recorded(NamedTuple):
    """What a command did to its disk, call by call, and what it left there."""

    calls: list[Call]
    whole: Path


def _recorded(folder: Path, name: str, *arguments: str) -> Recorded:
    folder /= "disk"
    folder.mkdir()
    return Recorded(record(folder, arguments), folder / "runs" / name)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return _recorded(tmp_path_factory.mktemp("run"), "a", "train", *CUT, "--quiet")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return _recorded(tmp_path_factory.mktemp("comparison"), "c", *COMPARED)


@pytest.mark.parametrize("command", ["recorded", pytest.param("compared", marks=pytest.mark.full)])
def test_all_is_synced_before_it_counts_and_before_anything_older_goes(
    command: str, request: pytest.FixtureRequest
) -> None:
    disk, renamed = Disk(), set[str]()
    for call in request.getfixturevalue(command).calls:
        # what Orbax renames does not count yet: vaectl syncs all of it later, and checks it here
        if call.name == "rename" and "orbax-checkpoint-tmp" not in call.path:
            assert disk.is_durable(call.path), f"{call.path} was renamed before it was synced"
            renamed.add(call.target)
            if "checkpoints" in call.target:
                saved = call.target.removesuffix(".json")
                assert disk.is_named_durably(saved), saved
                assert disk.is_durable(saved), saved
                info = disk.find(call.path)
                metrics = disk.find(str(Path(saved).parent.parent / "metrics.csv"))
                if isinstance(info, File) and isinstance(metrics, File):
                    epoch = json.loads(info.content)["epoch"]
                    assert metrics.synced.count(b"\n") >= 1 + 2 * epoch, saved
            # what stood in a directory that has another name now is there still
            renamed = {target for target in renamed if not target.startswith(f"{call.path}/")}
        if call.name == "remove":
            for target in renamed:
                assert disk.is_named_durably(target), f"{call.path} went before {target} was safe"
            renamed = {target for target in renamed if target != call.path}
        disk.apply(call)
    assert len(renamed) > 10
    assert disk.is_named_durably("runs")
    assert disk.is_durable("runs"), "not all is on the disk when the command ends"


def _promised(disk: Disk) -> int:
    """The last step whose checkpoint is on the disk for good."""
    folder = disk.find("runs/a/checkpoints")
    names = folder.names if isinstance(folder, Directory) else {}
    steps = [name.removesuffix(".json") for name in names if re.fullmatch(r"\d+\.json", name)]
    durable = (
        int(step) for step in steps if disk.is_named_durably(f"runs/a/checkpoints/{step}.json")
    )
    return max(durable, default=0)


def _check_left(run: RunDir, promised: int) -> None:
    """A power cut may lose what was not promised; all else is whole."""
    if not is_run(run.path):
        assert promised == 0
        return
    found = find_intact(run.checkpoints)
    at = found.intact[-1] if found.intact else BEGINNING
    assert at.step >= promised
    assert len(run.read_metrics(until=at.epoch)) == 2 * at.epoch
    assert run.read_config().epochs == CUT_EPOCHS
    if run.has_record and run.read_record().status == "finished":
        assert at.epoch == CUT_EPOCHS
        assert len(list((run.path / "figures").glob("[a-z]*.*"))) == 8
        assert all(file.stat().st_size for file in (run.path / "figures").iterdir())


def _cut_power_at_every(
    stride: int, resumptions: int, recorded: Recorded, folder: Path, happened: Happened
) -> None:
    """Cut the power after every so many calls, and look; go on from some of what is left."""
    calls, whole = recorded
    chance = random.Random(2)  # noqa: S311
    moments = range(0, len(calls), stride)
    resumed = {*chance.sample(moments, resumptions)}
    disk = Disk()
    for moment, call in enumerate(calls):
        disk.apply(call)
        if moment not in moments:
            continue
        for cut in CUTS:
            left = folder / "left"
            disk.leave(left, cut, chance)
            run = RunDir(left / "runs" / "a")
            _check_left(run, _promised(disk))
            if moment in resumed and is_run(run.path):
                _finish(run.path)
                assert_equal_runs(run.path, whole)
            shutil.rmtree(left)
            happened("a power cut, replayed", f"unsynced: {cut}")


def test_a_power_cut_loses_nothing_that_was_saved(
    recorded: Recorded, tmp_path: Path, happened: Happened
) -> None:
    _cut_power_at_every(17, 2, recorded, tmp_path, happened)


@pytest.mark.full
def test_a_power_cut_after_every_system_call(
    recorded: Recorded, tmp_path: Path, happened: Happened
) -> None:
    _cut_power_at_every(1, 100, recorded, tmp_path, happened)


def _numbers(comparison: Path) -> object:
    """What a comparison found, but for times."""
    summary = json.loads((comparison / "summary.json").read_text())
    keys = ("label", "final", "best", "test_elbo", "test_log_likelihood", "ranks")
    return summary["verdict"], [[side[key] for key in keys] for side in summary["sides"]]


def _sealed(comparison: Path) -> dict[str, bytes]:
    """The trials that a comparison has, with the times that they took."""
    return {path.name: path.read_bytes() for path in (comparison / "trials").glob("[0-9a-f]*.json")}


def _go_on(comparison: Path, vaectl: Vaectl) -> None:
    """Continue a comparison: no trial that is there is trained again."""
    sealed = _sealed(comparison)
    answer = vaectl(*COMPARED, "--runs-dir", comparison.parent)
    assert answer.code == 0, answer.err
    assert sealed.items() <= _sealed(comparison).items()
    left = {path.name for path in comparison.rglob("*")}
    assert not [name for name in left if "tmp" in name or re.fullmatch(r"\..+\.\w{8}", name)]


def _cut_power_of_a_comparison(
    moments: int, compared: Recorded, folder: Path, vaectl: Vaectl, happened: Happened
) -> None:
    chance = random.Random(4)  # noqa: S311
    chosen = {*chance.sample(range(len(compared.calls)), moments), len(compared.calls) - 1}
    disk = Disk()
    for moment, call in enumerate(compared.calls):
        disk.apply(call)
        if moment in chosen:
            cut = chance.choice(CUTS)
            disk.leave(folder / "left", cut, chance)
            comparison = folder / "left" / "runs" / "c"
            trials = disk.find("runs/c/trials")
            names = trials.names if isinstance(trials, Directory) else {}
            promised = {
                name
                for name in names
                if re.fullmatch(r"[0-9a-f]{16}\.json", name)
                and disk.is_named_durably(f"runs/c/trials/{name}")
            }
            assert promised <= _sealed(comparison).keys()
            _go_on(comparison, vaectl)
            assert _numbers(comparison) == _numbers(compared.whole)
            shutil.rmtree(folder / "left")
            happened("a power cut, replayed", "a comparison")


@pytest.mark.full
def test_power_cuts_at_many_moments_lose_no_trial(
    compared: Recorded, tmp_path: Path, vaectl: Vaectl, happened: Happened
) -> None:
    _cut_power_of_a_comparison(60, compared, tmp_path, vaectl, happened)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_real_power_cut_loses_no_trial(
    kind: Literal["ext4", "xfs"],
    compared: Recorded,
    tmp_path: Path,
    vaectl: Vaectl,
    happened: Happened,
) -> None:
    chance = random.Random(5)  # noqa: S311
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        with loop_disk(folder, kind) as disk:
            process, _ = _start(disk.place, *COMPARED, log=folder / "log")
            comparison = disk.place / "runs" / "c"
            wanted = number % 5
            while process.poll() is None and len(_sealed(comparison)) < wanted:
                time.sleep(0.005)
            if wanted == 4:
                process.wait(60)
            else:
                time.sleep(chance.uniform(0, 1))
            seen = _sealed(comparison)
            time.sleep(0.2 if process.poll() is None else 0.0)  # what was seen is being synced
            disk.cut()
            process.kill()
            process.wait()
            disk.unmount()
            disk.mount()
            assert seen.items() <= _sealed(comparison).items()
            _go_on(comparison, vaectl)
            assert _numbers(comparison) == _numbers(compared.whole)
            happened(f"a power cut, {kind}", "a comparison")


@pytest.mark.full
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_real_power_cut(
    kind: Literal["ext4", "xfs"], tmp_path: Path, whole: Path, happened: Happened
) -> None:
    chance = random.Random(3)  # noqa: S311
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        when = ("compiling", "epoch", "epoch", "drawing", AFTER_THE_END)[number % 5]
        with loop_disk(folder, kind) as disk:
            process, log = _start(disk.place, "train", *SHORT, "--name", "a", log=folder / "log")
            while process.poll() is None and when not in log.read_text():
                time.sleep(0.005)
            time.sleep(0.0 if when == AFTER_THE_END else chance.uniform(0, 2))
            run = RunDir(disk.place / "runs" / "a")
            seen = max((info.epoch for info in kept(run.checkpoints)), default=0)
            time.sleep(0.2 if process.poll() is None else 0.0)  # what was seen is being synced
            phase = _phase(log) if process.poll() is None else AFTER_THE_END
            disk.cut()
            process.kill()
            process.wait()
            disk.unmount()
            disk.mount()
            assert is_run(run.path) or seen == 0
            if is_run(run.path):
                found = find_intact(run.checkpoints).intact
                assert (found[-1].epoch if found else 0) >= seen
                if phase == AFTER_THE_END:
                    assert run.read_record().status == "finished"
                _finish(run.path)
                assert_equal_runs(run.path, whole)
            happened(f"a power cut, {kind}", phase)


def test_nobody_reading_fails_no_run(tmp_path: Path) -> None:
    """As `vaectl train 2>&1 | head -1`."""
    command = ("-m", "vaectl", "train", *SHORT, "--epochs", "1", "--name", "a")
    piped = ("bash", "-c", '"$@" 2>&1 | head -1', "-")
    apart.run(*command, before=piped, cwd=tmp_path, check=True)
    assert RunDir(tmp_path / "runs" / "a").read_record().status == "finished"


def test_two_processes_never_write_in_one_run(tmp_path: Path, vaectl: Vaectl) -> None:
    long = (*SHORT, "--epochs", "100000")
    first, log = _start(tmp_path, "train", *long)
    while first.poll() is None and "epoch 1/" not in log.read_text():
        time.sleep(0.01)
    try:
        name = "digits-5k-z2-adam-s0"
        for arguments in (("--resume", name), ("--name", name, "--force")):
            answer = vaectl("train", *arguments)
            assert (answer.code, "another process writes in it" in answer.err) == (4, True)
        second = vaectl("train", *SHORT, "--epochs", 1)
        assert second.out.splitlines()[-1] == f"runs/{name}-2"
    finally:
        first.kill()
        first.wait()
    assert vaectl("train", "--resume", name, "--epochs", 1).code == 2
    assert vaectl("train", *SHORT, "--epochs", 1, "--name", name, "--force").code == 0


@pytest.mark.full
def test_five_hundred_random_edits_of_a_comparison(
    finished: Path, vaectl: Vaectl, happened: Happened, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch.setattr)
    for seed in range(1000, 1500):
        drill(seed, finished, vaectl, happened)


@pytest.mark.full
def test_kills_lose_no_trial_and_leave_nothing_half_made(
    finished: Path, vaectl: Vaectl, happened: Happened
) -> None:
    chance = random.Random(2)  # noqa: S311
    Path("c.yaml").write_text(SETTINGS)
    killed = 0
    while killed < 12:
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        process = apart.start("-m", "vaectl", *COMMAND, **pipes)
        assert process.stderr is not None
        # where there is something to lose: after so many lines
        for _ in range(chance.randrange(2, 14)):
            process.stderr.readline()
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        _, err = process.communicate()
        assert "Traceback" not in err
        ended = {file.name: file.read_bytes() for file in (C / "trials").glob("*.json")}
        if process.returncode == 0:
            shutil.rmtree(C)
            continue
        killed += 1
        happened("kill -9", "a comparison")
        if chance.random() < 0.5:
            continue
        assert vaectl(*COMMAND).code == 0
        assert numbers(C) == numbers(finished)
        # what had ended did not run again
        for name, content in ended.items():
            assert (C / "trials" / name).read_bytes() == content
        names = {path.name for path in C.rglob("*")}
        assert {name for name in names if "tmp" in name or name.startswith(".")} <= {
            ".lock",
            ".evaluation.lock",
        }
        assert {path.name for path in (C / "trials").iterdir() if path.is_dir()} == set()
        shutil.rmtree(C)
