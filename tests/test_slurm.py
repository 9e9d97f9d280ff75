"""The executor `slurm`, by submitit's executors that need no cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import jax
import pytest

from tests.test_executors import (
    assert_equal,
    long_settings,
    pids,
    settings_of,
    times,
)
from vaectl import executors
from vaectl.base.errors import ConfigError
from vaectl.comparison.result import Result
from vaectl.comparison.run import run
from vaectl.runs import environment
from vaectl.training.events import Event, Started, Warned
from vaectl.training.fit import Epoch

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vaectl[slurm]'")


def _jobs() -> list[int]:
    """The processes of submitit's jobs, not those that wait for them."""
    return pids("-m submitit.core._submit")


def test_a_job_whose_time_is_over_saves_its_member_and_the_next_one_goes_on(
    tmp_path: Path, alike: Result
) -> None:
    told: list[Event] = []

    def end() -> None:
        for pid in _jobs():
            os.kill(pid, signal.SIGUSR2)

    over = times(1, Epoch, end)

    def watch(event: Event) -> None:
        told.append(event)
        over(event)

    slurm = executors.parse("slurm:system=local,workers=1")
    ours = run(long_settings(), runs_dir=tmp_path, name="slurm", executor=slurm, watch=watch)
    ours.check()
    assert_equal(ours, alike)
    began = [(event.member, event.step) for event in told if isinstance(event, Started)]
    assert [member for member, _ in began] == ["adam-s0", "adam-s0"]
    assert began[1][1] > 0
    assert sum("log" in event.text for event in told if isinstance(event, Warned)) == 1
    deadline = time.monotonic() + 10
    while _jobs() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _jobs()


def test_jobs_of_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {**environment.versions(), "vaectl": "0.0.1"}
    monkeypatch.setattr(environment, "versions", lambda: versions)
    slurm = executors.parse("slurm:system=local,workers=1")
    with pytest.raises(ConfigError, match=r"vaectl .* instead of 0\.0\.1"):
        run(settings_of(), runs_dir=tmp_path, name="c", executor=slurm)


def test_without_slurm_its_jobs_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError) as raised:
        executors.parse("slurm:cpu").check(jax.devices("cpu")[0])
    assert "sbatch" in raised.value.hint


def test_a_stranger_is_not_listened_to() -> None:
    """Nor does one that says nothing keep a job waiting."""
    from vaectl.executors.slurm import _Switchboard

    with _Switchboard("127.0.0.1") as board:
        silent = Client(board.address)
        with pytest.raises(Exception, match="digest"):
            Client(board.address, authkey=b"a guess")
        with Client(board.address, authkey=board.key) as job:
            job.send(board.number())
            assert board.wait(1, 5.0)
        silent.close()


def test_a_connection_that_fails_does_not_keep_later_jobs_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job may be gone before it is taken, or this process has too many files open."""
    from vaectl.executors import slurm

    monkeypatch.setattr(slurm, "POLL", 0.01)
    accept = Listener.accept
    errors = [ConnectionAbortedError()]

    def fails_once(listener: Listener) -> Connection:
        if errors:
            raise errors.pop()
        return accept(listener)

    monkeypatch.setattr(Listener, "accept", fails_once)
    with (
        slurm._Switchboard("127.0.0.1") as board,
        Client(board.address, authkey=board.key) as job,
    ):
        job.send(board.number())
        assert board.wait(1, 5.0)
    assert not errors


@pytest.mark.full
# submitit leaves the files of its debugger's log to the garbage collector
@pytest.mark.filterwarnings("ignore:.*DEBUG_:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_debugger_trains_in_this_process(tmp_path: Path) -> None:
    slurm = executors.parse("slurm:system=debug,workers=1")
    run(settings_of(), runs_dir=tmp_path, name="c", executor=slurm).check()


@pytest.mark.full
def test_what_is_asked_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sbatch that only notes what it gets."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "sbatch"
    script.write_text(f"#!/bin/sh\ncat $1 > {tmp_path}/asked\necho Submitted batch job 1\n")
    script.chmod(0o700)
    (folder / "srun").symlink_to(script)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    text = "slurm:gpu2,cores=2,memory=3,minutes=30,account=me,options={constraint: avx512}"
    executor = executors.parse(text)
    submitted = executor._executor(str(tmp_path / "jobs"))  # type: ignore[attr-defined]
    submitted.submit(subprocess.call, ["true"])
    asked = (tmp_path / "asked").read_text()
    for option in (
        *("--partition=gpu2", "--cpus-per-task=2", "--mem=3GB", "--time=30", "--account=me"),
        "--constraint=avx512",
    ):
        assert option in asked, asked
