"""Executors: the same results wherever members train, and nothing lost when a worker ends."""

import errno
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from tests import apart
from tests.benchmarks import drills
from tests.conftest import Vaectl, assert_equal_runs
from vaectl import executors
from vaectl.base import cores, plugins, spawn
from vaectl.base.errors import ConfigError, InterruptedRunError, RunError
from vaectl.base.files import Folder
from vaectl.comparison import plan
from vaectl.comparison.plan import Comparison
from vaectl.comparison.result import Result
from vaectl.comparison.run import run
from vaectl.config.schema import Checkpoint
from vaectl.executors import base
from vaectl.executors._pool import Hand, Pool
from vaectl.executors.base import Lost, Surroundings
from vaectl.executors.local import Local
from vaectl.members import job as jobs
from vaectl.members import worker
from vaectl.members.job import Wanted
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import kept
from vaectl.training.events import Event, Phase, Started, Stopped, Warned
from vaectl.training.fit import Epoch

SMALL = (
    *("model.hidden_size=8", "model.code_size=2", "batch_size=100"),
    *("data.train_size=200", "data.validation_size=60", "data.test_size=30"),
    *("epochs=3", "checkpoint.every=1"),
)


def settings_of(**options: object) -> Comparison:
    options = {"protocol": "paper", "optimizers": ["adam", "sgd"], "seeds": 1, **options}
    return plan.load(assignments=SMALL, options={"importance_samples": 2, **options})


CORES = len(os.sched_getaffinity(0))
ALIKE = f"processes:{CORES}"
"""Workers of one core each, as those of other executors."""


def long_settings() -> Comparison:
    """One member, long enough to be cut off; the numbers of `alike`."""
    return settings_of(optimizers=["adam"], **{"base.epochs": 300, "base.checkpoint.every": 1000})


def pids(words: str) -> list[int]:
    """Return the processes of this machine whose command line has these words."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if words in file.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(file.parent.name))
    return found


def kill_workers(*_: object) -> None:
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)


def times(count: int, kind: type[Event], act: Callable[[], object]) -> Callable[[Event], None]:
    """Return a watcher that acts at the first events of a kind, so many times."""
    seen: list[Event] = []

    def watch(event: Event) -> None:
        if isinstance(event, kind) and len(seen) < count:
            seen.append(event)
            act()

    return watch


def assert_equal(ours: Result, theirs: Result) -> None:
    for mine, yours in zip(ours.trials, theirs.trials, strict=True):
        assert mine.trial == yours.trial
        curves = ([row._replace(seconds=0) for row in each.ended.rows] for each in (mine, yours))
        assert next(curves) == next(curves)
        name = mine.trial.run_name
        assert_equal_runs(ours.path / name, theirs.path / name)
        tested = (
            each.tested and each.tested.model_copy(update={"seconds": 0}) for each in (mine, yours)
        )
        assert next(tested) == next(tested)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_next_program_is_compiled_while_another_trains(tmp_path: Path, streamed: bool) -> None:
    """Some are compiled before that, to estimate the time; images of a disk use one device."""
    more: dict[str, object] = {"base.model.hidden_size": 9}
    if streamed:
        np.save(tmp_path / "train.npy", np.arange(260 * 9, dtype=np.uint8).reshape(260, 3, 3))
        np.save(tmp_path / "test.npy", np.arange(30 * 9, dtype=np.uint8).reshape(30, 3, 3))
        more |= {"base.data.source": f"npy:{tmp_path}", "base.data.memory_gb": 0}
    settings = settings_of(optimizers=["adam", "sgd", "rmsprop", "lion", "dog"], **more)
    function = "(train_streamed_steps)" if streamed else "(train_steps)"
    here, lowered = threading.current_thread(), []

    def note(event: str, duration_secs: float, **more: str | int) -> None:
        del duration_secs
        if event.endswith("to_mlir_module_duration") and function in str(more["fun_name"]):
            lowered.append(threading.current_thread() is here)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        run(settings, runs_dir=tmp_path, device_kind="cpu:2" if streamed else "cpu")
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert lowered == [True, True, True, False, False]


def test_an_interrupt_tells_that_it_waits_for_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    monkeypatch.setattr(jobs, "compile_ahead", lambda *_: told.wait(60))
    interrupt = times(1, Epoch, lambda: signal.raise_signal(signal.SIGINT))

    def watch(event: Event) -> None:
        interrupt(event)
        if isinstance(event, Phase) and "compiler" in event.text:
            told.set()

    with pytest.raises(InterruptedRunError):
        run(settings_of(), runs_dir=tmp_path, watch=watch)
    assert told.is_set()


def test_the_pool_of_a_plug_need_not_prepare_for_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        """What a pool must have, and no more."""

        def __init__(self, whole: base.Pool) -> None:
            self.most, self.place = 1, whole.place
            self.submit, self.receive = whole.submit, whole.receive
            self._whole = whole

        @property
        def room(self) -> int:
            return self._whole.room

    opened = Local.open

    @contextmanager
    def plain(executor: Local, surroundings: Surroundings) -> Iterator[Plain]:
        with opened(executor, surroundings) as whole:
            yield Plain(whole)

    monkeypatch.setattr(Local, "open", plain)
    assert len(run(settings_of(), runs_dir=tmp_path).trials) == 2


def test_a_killed_worker_costs_nothing_and_results_are_those_of_this_process(
    tmp_path: Path,
) -> None:
    """With as many threads; other numbers of threads give other last bits."""
    # so that it is killed long before the end
    rarely = {"base.epochs": 60, "base.checkpoint.every": 20}
    settings = settings_of(optimizers=["adam"], seeds=2, **rarely)
    local = run(settings, runs_dir=tmp_path, name="local")
    told: list[Event] = []
    kill = times(1, Epoch, kill_workers)

    def watch(event: Event) -> None:
        told.append(event)
        kill(event)

    one = executors.parse("processes:1")
    apart = run(settings, runs_dir=tmp_path, name="apart", executor=one, watch=watch)
    apart.check()
    assert_equal(apart, local)
    warnings = [event.text for event in told if isinstance(event, Warned)]
    assert sum("SIGKILL" in warning for warning in warnings) == 1
    # what was saved before is not trained again
    began = [(event.member, event.step) for event in told if isinstance(event, Started)]
    assert [member for member, _ in began] == ["adam-s0", "adam-s1", "adam-s0"]
    assert began[0][1] == began[1][1] == 0


class _Ending:
    """A pool of this process, whose worker ends whenever it begins one of the members."""

    def __init__(self, pool: Any, member: str) -> None:
        self._pool, self._member, self._lost = pool, member, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    most = 1

    def submit(self, job: Sequence[Wanted]) -> None:
        if job[0].name == self._member:
            self._lost += 1
        else:
            self._pool.submit(job)

    def receive(self) -> Any:
        if not self._lost:
            return self._pool.receive()
        self._lost -= 1
        return Lost([self._member], "its worker ended: killed by SIGKILL")


@pytest.mark.parametrize(
    ("member", "options", "ended"),
    [
        ("adam-s0", {}, ["sgd-s0"]),
        (
            "adam-s1000 at 0.003",
            {"protocol": "tuned", "optimizers": ["adam"], "tuning.seeds": 1}
            | {"tuning.learning_rates": [1e-3, 3e-3]},
            ["adam-s1000 at 0.001"],
        ),
    ],
)
def test_a_member_that_ends_its_worker_every_time_is_named_and_the_others_go_on(
    member: str,
    options: dict[str, object],
    ended: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also a learning rate of a search, which ends without a result then."""
    settings, told = settings_of(**options), list[Event]()
    usual = Local.open

    @contextmanager
    def opened(local: Local, surroundings: Surroundings) -> Iterator[Any]:
        with usual(local, surroundings) as pool:
            yield _Ending(pool, member)

    with monkeypatch.context() as patch:
        patch.setattr(Local, "open", opened)
        with pytest.raises(RunError, match=r"adam, learning rate 0.00.* 3 times.*SIGKILL"):
            run(settings, runs_dir=tmp_path, name="c", watch=told.append)
    assert sum(isinstance(event, Warned) for event in told) == 2
    assert [
        event.member for event in told if isinstance(event, Stopped) and event.status == "finished"
    ] == ended
    again = run(settings, runs_dir=tmp_path, name="c")
    again.check()
    assert {each.trial.label for each in again.trials} == {*settings.entries}


def test_an_interrupt_saves_the_members_of_all_processes_and_ends_these(tmp_path: Path) -> None:
    settings = settings_of(**{"base.epochs": 400})
    settings = settings.model_copy(
        update={"base": settings.base.model_copy(update={"checkpoint": Checkpoint(every=10**6)})}
    )
    reached: dict[str, int] = {}

    def stop(event: Event) -> None:
        if isinstance(event, Epoch):
            reached[event.member] = event.epoch
            if event.epoch == 100:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError):
        run(
            settings,
            runs_dir=tmp_path,
            name="c",
            executor=executors.parse(f"processes:{min(len(os.sched_getaffinity(0)), 2)}"),
            watch=stop,
        )
    assert not multiprocessing.active_children()
    left = [RunDir(path.parent) for path in sorted((tmp_path / "c").glob("*/run.json"))]
    assert left
    for member in left:
        assert member.read_record().status == "interrupted"
        # the latest state, not only the best one
        assert kept(member.checkpoints)[-1].epoch >= reached.get(member.name, 1) - 1


def test_a_member_whose_last_epoch_has_ended_is_kept_by_an_interrupt(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    one = executors.parse("processes:1")
    with pytest.raises(InterruptedRunError, match="trials that are done: 1"):
        run(settings_of(), runs_dir=tmp_path, name="c", executor=one, watch=stop)
    assert not (tmp_path / "c" / ".workers").exists()


def test_workers_end_with_a_killed_command_and_the_next_one_goes_on(tmp_path: Path) -> None:
    keys = [key for key in SMALL if not key.startswith("epochs")]
    with (tmp_path / "err").open("w") as err:
        process = apart.start(
            *("-m", "vaectl", "compare-optimizers", "--name", "c"),
            *("--protocol", "paper", "--optimizers", "adam", "--seeds", "1", "--epochs", "2000"),
            *("--executor", "processes:1", *(f"--set={key}" for key in keys)),
            cwd=tmp_path,
            stderr=err,
        )
    member = RunDir(tmp_path / "runs" / "c" / "adam-s0")
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not list(member.path.glob("checkpoints/*.json")):
        time.sleep(0.1)
    process.kill()
    process.wait()

    began: list[int] = []

    def leave(event: Event) -> None:
        if isinstance(event, Started):
            began.append(event.step)
            raise KeyboardInterrupt

    options = {"protocol": "paper", "optimizers": ["adam"], "seeds": 1, "base.epochs": 2000}
    settings = plan.load(assignments=keys, options=options)
    with pytest.raises(InterruptedRunError):
        run(settings, runs_dir=tmp_path / "runs", name="c", watch=leave)
    assert began[0] > 0
    assert member.read_record().status == "interrupted"
    assert (tmp_path / "err").read_text().count("Traceback") == 0


@pytest.mark.full
@pytest.mark.parametrize("apart", [False, True])
def test_a_sweep_comes_to_the_same_whoever_is_killed(apart: bool) -> None:
    assert drills.main(ALIKE, kills=6, seed=0, apart=apart) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("processes:1000", ["processes:1000", "core"]),
        ("processes:0", ["processes:0", "at least 1"]),
        ("processes:two", ["processes:two", "whole number"]),
        ("processes:count=0", ["processes:count=0", "at least 1"]),
        ("ray:somewhere", ["ray:somewhere", "address"]),
        ("ray:host:1,core=2", ["core"]),
        ("slurm:minutes=0", ["slurm:minutes=0", "at least 1"]),
        ("local:2", ["local:2", "KEY=VALUE"]),
        ("proceses:2", ["did you mean processes", "local"]),
    ],
)
def test_an_executor_that_cannot_be_is_refused(
    text: str, words: list[str], vaectl: Vaectl, tmp_path: Path
) -> None:
    answer = vaectl("compare-optimizers", "--executor", text, "--quiet")
    assert answer.code == ConfigError.exit_code
    for word in words:
        assert word in answer.err
    assert not list((tmp_path / "runs").glob("*/trials/*"))


@pytest.mark.full
def test_a_worker_that_does_not_see_the_directory_hands_over_whole_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what it has saved when it is interrupted, which goes on elsewhere."""
    rarely = {"base.epochs": 100, "base.checkpoint.every": 1000}
    settings = settings_of(optimizers=["adam"], **rarely)
    local = run(settings, runs_dir=tmp_path, name="local")
    facts = worker.facts

    @contextmanager
    def elsewhere(*arguments: Any) -> Iterator[worker.Facts]:
        with facts(*arguments) as found:
            yield found._replace(folder=str(tmp_path / "nowhere"))

    monkeypatch.setattr(worker, "facts", elsewhere)
    began: list[int] = []

    def stop(event: Event) -> None:
        if isinstance(event, Started):
            began.append(event.step)
        if isinstance(event, Epoch) and event.epoch == 20 and len(began) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    one = executors.parse("processes:1")
    with pytest.raises(InterruptedRunError):
        run(settings, runs_dir=tmp_path, name="c", executor=one, watch=stop)
    assert RunDir(tmp_path / "c" / "adam-s0").read_record().status == "interrupted"
    assert_equal(run(settings, runs_dir=tmp_path, name="c", executor=one, watch=stop), local)
    assert began[0] == 0 < began[1]
    hidden = {path.name for path in (tmp_path / "c").iterdir() if path.name.startswith(".")}
    assert hidden <= {".lock"}


def _work_on_a_full_disk(connection: Any, known: worker.Facts) -> None:
    """Work where there is no room for one of the members."""
    append = Folder.append

    def full(folder: Folder, name: str, content: bytes) -> None:
        if "adam-s0" in str(folder.path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.path / name))
        append(folder, name, content)

    Folder.append = full  # type: ignore[method-assign,assignment]  # in a process of its own
    worker.work(connection, known)


@pytest.mark.full
def test_a_member_without_room_on_its_worker_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = worker.facts

    @contextmanager
    def elsewhere(*arguments: Any) -> Iterator[worker.Facts]:
        with facts(*arguments) as found:
            yield found._replace(folder=str(tmp_path / "nowhere"))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left = tmp_path / f"vaectl-workers-{os.getuid()}" / "killed"
    (left / "adam-s0").mkdir(parents=True)
    left.with_suffix(".lock").touch()
    monkeypatch.setattr(worker, "facts", elsewhere)
    monkeypatch.setattr("vaectl.executors.processes.worker.work", _work_on_a_full_disk)
    monkeypatch.setattr("vaectl.studies.engine.TRIES", 1)
    told: list[Event] = []
    with pytest.raises(RunError, match=r"adam, .* seed 0: .*adam-s0.*No space left on device"):
        run(
            settings_of(),
            runs_dir=tmp_path,
            name="c",
            executor=executors.parse("processes:1"),
            watch=told.append,
        )
    ended = [e.member for e in told if isinstance(e, Stopped) and e.status == "finished"]
    assert ended == ["sgd-s0"]
    assert RunDir(tmp_path / "c" / "sgd-s0").read_record().status == "finished"
    assert not list(left.parent.iterdir())  # nor what a killed worker has left


def test_a_worker_that_is_killed_while_it_waits_leaves_its_place_to_the_next() -> None:
    """Also in the moment before that is noticed."""
    places = ["the only core"]

    class Worker(Hand):
        def __init__(self) -> None:
            self.place = [places.pop()]
            self.killed = threading.Event()

        def send(self, message: bytes) -> None:
            raise AssertionError(message)

        def receive(self) -> bytes:
            self.killed.wait()
            raise EOFError

        def end(self) -> None:
            self.killed.set()
            places.extend(self.place)
            self.place.clear()

        def how(self) -> str:
            return "killed"

    surroundings: Any = SimpleNamespace(stopping=lambda: False)
    pool = Pool(surroundings, 1, lambda: 1, Worker)
    pool.submit([])
    (first,) = pool._workers
    first.hand.killed.set()  # type: ignore[attr-defined]
    assert first.ended.wait(10)
    pool.submit([Wanted("next", settings_of().base)])
    assert pool.receive() is None
    assert [[*each.members] for each in pool._workers] == [["next"]]


def test_an_interrupt_does_not_wait_for_ever_for_a_worker_that_hangs() -> None:
    """As with a disk that does not answer."""

    class Hangs(Hand):
        def __init__(self) -> None:
            self.ended = threading.Event()
            self.sent: list[object] = []

        def send(self, message: bytes) -> None:
            self.sent.append(spawn.unpacked(message))

        def receive(self) -> bytes:
            self.ended.wait()
            raise EOFError

        def end(self) -> None:
            self.ended.set()

        def how(self) -> str:
            return "ended"

    hand = Hangs()
    surroundings: Any = SimpleNamespace(stopping=lambda: True)
    pool = Pool(surroundings, 1, lambda: 1, lambda: hand)
    pool.submit([Wanted("a", settings_of().base)])
    pool._workers[0].ready = worker.Ready(shared=True, host="", processor="")
    assert pool.receive() is None  # it is asked to stop
    assert hand.sent == [None]
    pool._deadline = 0.0
    with pytest.raises(KeyboardInterrupt):
        pool.receive()
    pool.close()
    assert hand.ended.is_set()


def test_a_plugin_that_was_changed_on_its_way_is_refused() -> None:
    file = plugins.File("/there/mine.py", b"1 / 0", hashlib.sha256(b"x = 1").hexdigest())
    with pytest.raises(ConfigError, match=r"mine.py.*SHA-256"):
        plugins.load(file)


def test_workers_of_one_machine_take_cores_of_their_own() -> None:
    usable = os.sched_getaffinity(0)
    with spawn.claimed(1) as first:
        assert len(first) == 1
        if len(usable) > 1:
            with spawn.claimed(1) as second:
                assert not first & second
    with pytest.raises(ConfigError, match="1000 cores"), spawn.claimed(1000):
        pass


def test_a_system_without_cores_of_a_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """MacOS does not say which cores a process may use, and keeps none to some of them."""
    cpu = jax.devices("cpu")[0]
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr("vaectl.base.plugs.find_spec", lambda _: True)
    assert cores.usable() == {*range(os.cpu_count() or 1)}
    for name in ("processes:1", "ray"):
        executor = executors.parse(name)
        assert executor.processes >= 1
        with pytest.raises(ConfigError, match="which this system does not support") as told:
            executor.check(cpu)
        assert "leave --executor out" in told.value.hint
    with pytest.raises(ConfigError, match="a worker: "), spawn.claimed(1):
        pass


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_an_executor_without_its_package_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaectl.base.plugs.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as raised:
        executors.parse(name).check(jax.devices("cpu")[0])
    assert f"vaectl[{name}]" in raised.value.hint


def test_what_a_killed_command_leaves_of_its_workers_goes_with_the_study(tmp_path: Path) -> None:
    from vaectl.studies import directory

    settings = settings_of(optimizers=["adam"])
    run(settings, runs_dir=tmp_path, name="c")
    study = tmp_path / "c"
    (study / ".workers").write_text("vaectl 0123")
    for name in (".arriving", ".slurm"):
        (study / name / "adam-s0").mkdir(parents=True)
        (study / name / "adam-s0" / "metrics.csv").touch()
    (study / "mine.txt").touch()
    assert directory.remove(study) == [str(study / "mine.txt")]
    assert [path.name for path in study.iterdir() if path.name != ".lock"] == ["mine.txt"]
