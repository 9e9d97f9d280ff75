"""The executor `ray`, on a real cluster: the processes of one on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from tests import apart
from tests.test_executors import (
    ALIKE,
    SMALL,
    assert_equal,
    long_settings,
    pids,
    settings_of,
    times,
)
from vaectl import executors
from vaectl.base.errors import ConfigError, InterruptedRunError, RunError
from vaectl.comparison import plan
from vaectl.comparison.result import Result
from vaectl.comparison.run import run
from vaectl.runs import environment
from vaectl.training.events import Event, Started, Warned
from vaectl.training.fit import Epoch

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'vaectl[ray]'"
)


@contextmanager
def _cluster() -> Iterator[Any]:
    """A cluster of this machine, which is not the command's own."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
        head = {"num_cpus": 1, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        try:
            yield found
        finally:
            found.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with _cluster() as found:
        yield found


def _actors() -> list[int]:
    """The processes of Ray that pass messages to workers."""
    return pids("ray::Relay")


def _ray_processes() -> set[int]:
    return {pid for words in ("raylet", "gcs_server", "ray::") for pid in pids(words)}


def _kill_actors() -> None:
    for pid in _actors():
        os.kill(pid, signal.SIGKILL)


def test_a_killed_worker_costs_nothing_and_results_are_those_of_processes(
    cluster: Any, tmp_path: Path, alike: Result
) -> None:
    told: list[Event] = []
    kill = times(1, Epoch, _kill_actors)

    def watch(event: Event) -> None:
        told.append(event)
        kill(event)

    ray = executors.parse(f"ray:{cluster.address}")
    # long enough, so that the process behind the actor notices before it has ended
    ours = run(long_settings(), runs_dir=tmp_path, name="ray", executor=ray, watch=watch)
    ours.check()
    assert_equal(ours, alike)
    warned = [event.text for event in told if isinstance(event, Warned)]
    assert sum("its actor died" in text for text in warned) == 1
    began = [(event.member, event.step) for event in told if isinstance(event, Started)]
    assert [member for member, _ in began] == ["adam-s0", "adam-s0"]
    assert began[1][1] > 0  # the process behind the actor has saved its member
    assert not _actors()
    assert _ray_processes()  # somebody else's cluster goes on


def test_workers_of_other_versions_are_refused(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {**environment.versions(), "jax": "0.0.1"}
    monkeypatch.setattr(environment, "versions", lambda: versions)
    start = time.monotonic()
    ray = executors.parse(f"ray:{cluster.address}")
    with pytest.raises(ConfigError, match=rf"jax {metadata.version('jax')} instead of 0\.0\.1"):
        run(settings_of(), runs_dir=tmp_path, name="c", executor=ray)
    assert time.monotonic() - start < 30


def test_an_address_that_nobody_answers_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: the cluster does not answer"):
            executors.parse(f"ray:127.0.0.1:{port}").check(jax.devices("cpu")[0])
    assert time.monotonic() - start < 10


def test_more_cores_than_any_machine_has_are_refused(cluster: Any, tmp_path: Path) -> None:
    ray = executors.parse(f"ray:{cluster.address},cores=64")
    with pytest.raises(ConfigError, match="64 CPU cores"):
        run(settings_of(), runs_dir=tmp_path, name="c", executor=ray)


def _command(folder: Path, *more: str) -> subprocess.Popen[str]:
    keys = [key for key in SMALL if not key.startswith("epochs")]
    process = apart.start(
        *("-m", "vaectl", "compare-optimizers", "--name", "c", "--quiet"),
        *("--protocol", "paper", "--optimizers", "adam", "--seeds", "1", "--epochs", "3000"),
        *(*more, *(f"--set={key}" for key in keys)),
        cwd=folder,
        stderr=subprocess.PIPE,
    )
    member = folder / "runs" / "c" / "adam-s0"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not list(member.glob("checkpoints/*.json")):
        time.sleep(0.1)
    return process


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.full) for n in (signal.SIGKILL, signal.SIGINT)]
)
def test_workers_and_their_cluster_end_with_the_command_and_the_next_one_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    before = _ray_processes()
    process = _command(tmp_path, "--executor", "ray")
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert process.returncode == InterruptedRunError.exit_code
        assert _ray_processes() <= before
    began: list[int] = []

    def leave(event: Event) -> None:
        if isinstance(event, Started):
            began.append(event.step)
            raise KeyboardInterrupt

    keys = [key for key in SMALL if not key.startswith("epochs")]
    options = {"protocol": "paper", "optimizers": ["adam"], "seeds": 1, "base.epochs": 3000}
    settings = plan.load(assignments=keys, options=options)
    alike = executors.parse(ALIKE)
    with pytest.raises(InterruptedRunError):
        run(settings, runs_dir=tmp_path / "runs", name="c", executor=alike, watch=leave)
    assert began[0] > 0
    deadline = time.monotonic() + 20
    while _ray_processes() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _ray_processes() <= before


@pytest.mark.full
def test_a_machine_that_leaves_costs_nothing(tmp_path: Path) -> None:
    settings = settings_of(seeds=2, **{"base.epochs": 100, "base.checkpoint.every": 1000})
    with _cluster() as cluster:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        remove = times(1, Epoch, lambda: cluster.remove_node(node, allow_graceful=False))
        ray = executors.parse(f"ray:{cluster.address}")
        ours = run(settings, runs_dir=tmp_path, name="ray", executor=ray, watch=remove)
        ours.check()
    assert_equal(ours, run(settings, runs_dir=tmp_path, name="b", executor=executors.parse(ALIKE)))


def test_workers_that_a_leaving_machine_cancels_are_tried_again_and_not_for_ever() -> None:
    from vaectl.executors.ray import MOST_CANCELLED, _Actor, _Admission

    class Cluster:
        exceptions = SimpleNamespace(RayError=RuntimeError)
        alive = True
        answer: object = RuntimeError("The task was cancelled before it started running.")

        def get(self, _: object) -> object:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        def nodes(self) -> list[dict[str, bool]]:
            return [{"Alive": True}, {"Alive": self.alive}]

    def receive(cluster: Cluster, admission: _Admission) -> bytes:
        actor = SimpleNamespace(receive=SimpleNamespace(remote=lambda: None))
        return _Actor(cluster, actor, admission).receive()

    def refused(cluster: Cluster, admission: _Admission, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(EOFError):
                receive(cluster, admission)

    cluster = Cluster()
    admission = _Admission(cluster)
    refused(cluster, admission, MOST_CANCELLED - 1)
    with pytest.raises(ConfigError, match="authentication"):
        receive(cluster, admission)
    cluster.alive = False
    refused(cluster, admission)
    cluster.alive, cluster.answer, refusal = True, ([b"ready"], ""), cluster.answer
    assert receive(cluster, admission) == b"ready"
    cluster.answer = refusal
    refused(cluster, admission, MOST_CANCELLED)


def _compare(address: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ("compare-optimizers", "--name", "c", "--executor", f"ray:{address}")
    how: dict[str, Any] = {"cwd": folder, "env": variables, "timeout": 60}
    return apart.run("-m", "vaectl", *command, "--set=epochs=1", **how)


@pytest.mark.full
def test_what_answers_and_is_no_cluster_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=server.accept, daemon=True).start()
        answer = _compare(address, tmp_path)
    assert answer.returncode == ConfigError.exit_code, answer.stderr
    assert address in answer.stderr


@pytest.mark.full
def test_a_cluster_that_is_gone_is_named(tmp_path: Path) -> None:
    with _cluster() as cluster:
        process = _command(tmp_path, "--executor", f"ray:{cluster.address}")
    start = time.monotonic()
    _, err = process.communicate(timeout=100)
    assert time.monotonic() - start < 40
    assert process.returncode == RunError.exit_code, err
    assert "is gone" in err


@pytest.mark.full
def test_another_authentication_is_refused(cluster: Any, tmp_path: Path) -> None:
    answer = _compare(cluster.address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert answer.returncode == ConfigError.exit_code, answer.stderr
    assert "RAY_AUTH_TOKEN" in answer.stderr
