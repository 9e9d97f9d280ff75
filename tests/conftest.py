"""What all tests share: shapes checked at every call, strict dtypes, and small data."""

import gc
import os
import pickle
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pytest
from jaxtyping import install_import_hook

# shapes in signatures are checked here, and cost users nothing
install_import_hook(
    [
        *(f"vaectl.{name}" for name in ("base.streams", "vae", "evaluation")),
        # the others are given devices that stand for a GPU
        *(f"vaectl.training.{name}" for name in ("program", "step", "compiled", "fit")),
    ],
    "beartype.beartype",
)

# XLA's own optimizations are not what is tested, and take half of the time. LLVM leaves most out,
# and compiles a program in one piece, not in 32 at once: other tests keep the cores busy. The older
# way to write fused loops compiles in half of the time of the newer one.
# For all of them: XLA_FLAGS= python -m pytest
_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
_ASKED = os.environ.setdefault("XLA_FLAGS", f"{_QUICK} --xla_cpu_use_fusion_emitters=false")

# tracing makes many objects that stay; to look for garbage as often as usual takes 6% of the time
gc.set_threshold(50_000)

import jax

# before anything starts JAX; most tests use the first one
jax.config.update("jax_num_cpu_devices", 8)  # type: ignore[no-untyped-call]

if TYPE_CHECKING:
    from tests.browser import Browser
    from vaectl.comparison.result import Result
    from vaectl.vae.vae import VAE

MNIST = os.environ.get("VAECTL_MNIST_DIR")
needs_mnist = pytest.mark.skipif(
    MNIST is None, reason="set VAECTL_MNIST_DIR to the four IDX files of MNIST"
)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests of bits in a process of their own, whose loops are fused as those of users."""
    if pyfuncitem.get_closest_marker("bits") is None or "emitters" not in _ASKED:
        return None
    name, chosen = pyfuncitem.nodeid, pyfuncitem.session.items
    alike = [item.nodeid for item in chosen if item.get_closest_marker("bits")]
    told = _with_fused_loops(
        tuple(one for one in alike if one.split("::")[0] == name.split("::")[0])
    )
    assert f"PASSED {name}\n" in told, told
    return True


@cache
def _with_fused_loops(names: tuple[str, ...]) -> str:
    """Run the tests of bits of a file, which share the start of a process; return what it says."""
    from tests import apart

    command = ("-m", "pytest", "-o", "addopts=", "-qrA", *names)
    return apart.run(*command, cwd=apart.ROOT, env={"XLA_FLAGS": _QUICK}).stdout


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of all workers of these tests."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session", autouse=True)
def _own_cache(shared: Path) -> None:
    """Keep what is compiled and prepared in one place for all workers, and for processes."""
    os.environ["VAECTL_CACHE_DIR"] = str(shared / "cache")
    from vaectl.base import devices  # not before shapes are checked

    devices.keep_compiled_programs()


@pytest.fixture(scope="session", autouse=True)
def _all_devices() -> None:
    """Start JAX, before a test that asks for the CPU keeps others of this process from a GPU."""
    jax.devices()


@pytest.fixture(scope="session", autouse=True)
def _build_the_commands_once() -> Iterator[None]:
    """Typer builds them for each call, in a tenth of a second."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def _draw_curves_of_runs_quickly() -> Iterator[None]:
    """To draw them takes a second for each run; processes, and tests of figures, draw them all."""
    from matplotlib.figure import Figure

    from vaectl import config
    from vaectl.experiment import curves
    from vaectl.runs.directory import RunDir
    from vaectl.runs.metrics import Row, columns
    from vaectl.runs.record import Record

    def draw(rundir: RunDir, settings: config.Config, record: Record, rows: Sequence[Row]) -> None:
        del settings, record
        for name in (curves.CURVES, *columns(rows)):
            rundir.write_figure(name, Figure(figsize=(1, 1)), curves.FORMATS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "draw", draw)
        yield


@pytest.fixture(scope="session", autouse=True)
def _time_steps_quickly() -> Iterator[None]:
    """A comparison times the steps of its optimizers for seconds, a study its first for one."""
    from vaectl.comparison import times
    from vaectl.studies import estimate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(times, "ROUNDS", 2)
        patch.setattr(times, "MOMENT", 1e-3)
        patch.setattr(times, "LOADED", float("inf"))  # such times differ, and are not taken again
        patch.setattr(estimate, "MOMENT", 0.05)
        yield


@pytest.fixture(scope="module", autouse=True)
def _look_for_garbage_of_this_module_alone() -> Iterator[None]:
    """What is compiled and imported grows to gigabytes; to look through it takes seconds."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _heed_signals() -> None:
    """A shell has what it puts into the background ignore SIGINT, and what that starts too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def trackers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what MLflow and Trackio are told in folders of these tests; no server is asked."""
    place = tmp_path_factory.mktemp("trackers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"file://{place}/mlflow")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("TRACKIO_DIR", f"{place}/trackio")
        yield


@pytest.fixture
def strict_types() -> Iterator[None]:
    """Refuse to mix types silently. Not for all tests: Optax's Adam itself mixes some."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def few(rows: Iterable[Any], every: int = 3) -> list[Any]:
    """Leave every so many rows of a test to the suite, and all others to `-m full`."""
    return [
        row
        if number % every == 0
        else pytest.param(*(row if isinstance(row, tuple) else [row]), marks=pytest.mark.full)
        for number, row in enumerate(rows)
    ]


def sent(value: Any) -> Any:
    """Return a value as another process gets it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # it is our own


def mlp(image_shape: tuple[int, int, int], **settings: object) -> "VAE":
    """Build a VAE of fully connected layers, with the keys of `model` in a configuration."""
    from vaectl import config
    from vaectl.vae.vae import VAE

    whole = config.Config.model_validate({"model": settings})
    model, likelihood = whole.model.chosen, whole.likelihood.chosen
    return VAE(model, likelihood, whole.prior.chosen, whole.model.code_size, image_shape)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Happened(Protocol):
    """Note a fault that happened, after asserting that nothing was lost."""

    def __call__(self, what: str, when: str, seconds: float = 0.0) -> None:
        """Add to a row of the table of faults.

        Args:
            what: was done.
            when: or to what.
            seconds: from a signal to the exit.
        """


@pytest.fixture
def as_if_optimized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record no flags of XLA, as what was stored recorded none: it ran with optimizations."""
    monkeypatch.delenv("XLA_FLAGS")


@pytest.fixture
def happened(request: pytest.FixtureRequest) -> Happened:
    """Note faults for the table, in a form that reaches the end from another process, too."""

    def note(what: str, when: str, seconds: float = 0.0) -> None:
        request.node.user_properties.append((FAULT, [what, when, seconds]))

    return note


FAULT = "fault"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for report in chain(*terminalreporter.stats.values()):
        if getattr(report, "when", None) == "teardown":
            for name, (what, when, seconds) in report.user_properties:
                if name == FAULT:
                    times[what, when].append(seconds)
    found: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
    for (what, when), each_seconds in sorted(times.items()):
        found[what].append((when, each_seconds))
    if found:
        terminalreporter.write_line("| fault | when, or to what | times | lost |")
        terminalreporter.write_line("| --- | --- | ---: | --- |")
    for what, each in found.items():
        count = sum(len(seconds) for _, seconds in each)
        slowest = max(max(seconds) for _, seconds in each)
        lost = f"nothing; ends within {slowest:.1f} s" if slowest else "nothing"
        some = ", ".join(when for when, _ in each)
        terminalreporter.write_line(f"| {what} | {some} | {count} | {lost} |")


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Vaectl = Callable[..., Answer]


@pytest.fixture
def vaectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Vaectl]:
    """Run the command line in this process, in an empty directory."""
    from vaectl import cli
    from vaectl.runs.quiet import quiet_orbax

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["vaectl", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        assert code is None or isinstance(code, int)
        return Answer(code or 0, out, err)

    with quiet_orbax():  # as vaectl.__main__
        yield run


def assert_equal_runs(ours: Path, theirs: Path) -> None:
    """Parameters bit for bit, metrics byte for byte but for the times."""
    import vaectl as package
    from vaectl.exports.base import named

    metrics = (
        [line.rpartition(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
        for run in (ours, theirs)
    )
    assert next(metrics) == next(metrics)
    for checkpoint in ("latest", "best"):
        a, b = (package.load(run, checkpoint) for run in (ours, theirs))
        assert a.checkpoint.step == b.checkpoint.step
        arrays = (named(run.variables) for run in (a, b))
        jax.tree.map(np.testing.assert_array_equal, *arrays)


def cut_off(whole: Path, copy: Path, epoch: int) -> None:
    """Copy a run as an interrupt after an epoch leaves it; it saved after every epoch."""
    from vaectl.runs.directory import RunDir
    from vaectl.runs.saved import kept

    shutil.copytree(whole, copy)
    run = RunDir(copy)
    for info in kept(run.checkpoints):
        if info.epoch > epoch:
            shutil.rmtree(run.checkpoints.path / str(info.step))
            (run.checkpoints.path / f"{info.step}.json").unlink()
    update = {"status": "interrupted", "epoch": epoch}
    run.write_record(run.read_record().model_copy(update=update))


@contextmanager
def _once(folder: Path) -> Iterator[bool]:
    """Tell whether a folder of all workers is to be made; the others wait until it is."""
    from filelock import FileLock

    with FileLock(f"{folder}.lock"):
        try:
            yield not folder.exists()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@pytest.fixture(scope="session")
def trained_runs(shared: Path) -> Path:
    """A runs directory with two small runs: z2, and z5 which has two checkpoints; only read."""
    from vaectl import config, experiment

    runs = shared / "trained" / "runs"
    with _once(runs.parent) as first:
        for name, code, epochs in (("z2", 2, 3), ("z5", 5, 4)) if first else ():
            settings = config.Config.model_validate(
                {
                    "epochs": epochs,
                    "data": {"train_size": 1000, "validation_size": 100, "test_size": 120},
                    "model": {"code_size": code, "hidden_size": 32},
                    # the rate falls to nothing in the end, so that the last epoch is not the best
                    "optimizer": {"adam": {"learning_rate": 3e-3}},
                }
            )
            experiment.run(settings, runs_dir=runs, name=name)
    return runs


@pytest.fixture
def runs(trained_runs: Path, tmp_path: Path) -> Path:
    """A copy that a test may break, where the command line finds it."""
    return Path(shutil.copytree(trained_runs, tmp_path / "runs"))


@pytest.fixture(scope="session")
def alike(shared: Path) -> "Result":
    """What all executors must come to; trained once, and then only read."""
    from filelock import FileLock

    from tests.test_executors import ALIKE, long_settings
    from vaectl import executors
    from vaectl.comparison.run import run

    with FileLock(shared / "alike.lock"):
        executor = executors.parse(ALIKE)
        return run(long_settings(), runs_dir=shared, name="alike", executor=executor)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Browser"]:
    from tests.browser import browser

    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="session")
def finished(shared: Path) -> Path:
    """A finished comparison, as the command leaves it; trained once, and then only read."""
    from tests import edits
    from tests.apart import draw_nothing
    from vaectl.comparison import plan, publish, run

    folder = shared / "finished"
    with _once(folder) as first, pytest.MonkeyPatch.context() as patch:
        if first:
            folder.mkdir()
            patch.chdir(folder)
            draw_nothing(patch.setattr)
            Path("c.yaml").write_text(edits.SETTINGS)
            publish.publish(run.run(plan.load(Path("c.yaml")), runs_dir=Path("runs"), name="c"))
    return folder / edits.C
