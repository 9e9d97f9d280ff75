"""What surrounds a command changes no bit of its results, or is named.

The suite sets everything at once. One variable after another:

    python -m pytest -m full tests/test_surroundings.py
"""

import contextlib
import csv
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib
import matplotlib as mpl
import numpy as np
import pytest
from flax import configurations
from jax._src.config import config as registry

import vaectl as package
from tests import apart
from tests.conftest import Vaectl
from vaectl.base import devices, surroundings, wanted
from vaectl.base.errors import ConfigError
from vaectl.config.schema import Config
from vaectl.pictures import figures
from vaectl.runs import resume as resumption
from vaectl.runs.metrics import Row
from vaectl.runs.record import Record
from vaectl.studies.trial import Trial

TINY = "--hidden-size 8 --code-size 2 --set data.train_size=300 --set data.validation_size=50"
COMMANDS = (
    f"train {TINY} --epochs 2 --name a --quiet",
    "train --resume base --epochs 3",  # not --quiet, which is silent about warnings too
    "sample a --save-arrays sample.npz",
    "evaluate a --importance-samples 2",
    "compare-optimizers --optimizers adam,sgd --seeds 1 --protocol paper --epochs 1 --code-size 2 "
    "--set model.hidden_size=8 --set data.train_size=300 --set data.validation_size=50 "
    "--set data.test_size=20 --name c --quiet",
)
DRIVER = """
import sys
from vaectl.__main__ import main
for words in sys.argv[1:]:
    sys.argv = ["vaectl", *words.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
"""All commands in one process, which starts as each of them would."""


def _start(
    folder: Path, variables: dict[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run all commands in a folder, and finish there a run that was half done before."""
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "replace"}
    return apart.run(*options, "-c", DRIVER, *COMMANDS, cwd=folder, env=variables, **how)


def _results(folder: Path) -> dict[str, str]:
    """The digest of everything in results that is no time and no place."""
    found: dict[str, bytes] = {}
    runs = folder / "runs"
    for name in ("a", "base", "c/adam-s0", "c/sgd-s0"):
        run = runs / name
        lines = (run / "metrics.csv").read_text().splitlines()
        found[f"{name}: metrics"] = "\n".join(line.rpartition(",")[0] for line in lines).encode()
        for checkpoint in ("latest", "best"):
            parameters = jax.tree.leaves(package.load(run, checkpoint).variables)
            found[f"{name}: {checkpoint}"] = b"".join(leaf.tobytes() for leaf in parameters)
        for figure in (run / "figures").glob("*"):
            found[f"{name}: {figure.name}"] = figure.read_bytes()
        for evaluation in run.glob("evaluation.json"):
            values = json.loads(evaluation.read_text())["test"] | {"seconds": 0}
            found[f"{name}: evaluation"] = json.dumps(values).encode()
    with np.load(folder / "sample.npz") as arrays:
        found["sample"] = b"".join(arrays[key].tobytes() for key in sorted(arrays.files))
    with (runs / "c/trials.csv").open() as file:
        trials = [row | {"train_seconds": ""} for row in csv.DictReader(file)]
    found["trials"] = json.dumps(trials).encode()
    found["curves of c"] = (runs / "c/figures/curves.svg").read_bytes()
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two epochs, to be resumed."""
    folder = tmp_path_factory.mktemp("half")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        _here(patch, f"train {TINY} --epochs 2 --name base --quiet")
    return folder


@pytest.fixture(scope="module")
def expected(half: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What comes out where nothing is set."""
    folder = Path(shutil.copytree(half, tmp_path_factory.mktemp("expected"), dirs_exist_ok=True))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        for words in COMMANDS:
            _here(patch, words)
    return _results(folder)


def _here(patch: pytest.MonkeyPatch, words: str) -> None:
    from vaectl import cli

    patch.setattr(sys, "argv", ["vaectl", *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


def _check(
    folder: Path, expected: dict[str, str], variables: dict[str, str], *options: str
) -> None:
    """The same bits; or else the run's record and a warning name the variable; or an error does."""
    done = _start(folder, variables, *options)
    assert "Traceback" not in done.stderr, done.stderr
    name = next(iter(variables))
    if done.returncode:
        assert done.returncode in (2, -6)  # XLA itself ends a process for flags that it has not
        assert name in done.stderr
        return
    found = _results(folder)
    differing = {key for key in expected | found if expected.get(key) != found.get(key)}
    if differing:
        assert f"warning: {name} was not set" in done.stderr, differing
        for run in ("a", "c/adam-s0"):
            record = json.loads((folder / "runs" / run / "run.json").read_text())
            assert name in record["device"], differing


OTHER = {
    "jax_default_prng_impl": "rbg",
    "jax_default_matmul_precision": "float32",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
}


def _another(name: str) -> str:
    """Another value of an option of JAX."""
    value, (kind, _, more) = registry.values[name], registry.meta[name]
    if name in OTHER:
        return OTHER[name]
    if kind == "enum":
        return next(str(one) for one in more["enum_values"] if one != value)
    if isinstance(value, bool):
        return str(int(not value))
    return str(value + 1) if isinstance(value, (int, float)) else "nonsense"


JAX = {
    name.upper(): _another(name)
    for name in registry.values
    if name.upper() not in (surroundings.KEPT)
}
"""Every variable that sets an option of JAX, with another value than its default."""
FLAX = {name.upper(): "1" for name in configurations.config._values}
TERMINAL = {
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
    "TERM": "dumb",
    "COLUMNS": "1",
    "LINES": "1",
    "FORCE_COLOR": "1",
    "PY_COLORS": "1",
}
STRANGE = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "7",
    "PYTHONINTMAXSTRDIGITS": "640",
}
STYLE = "axes.facecolor: red\nlines.linewidth: 9\ntext.usetex: True\nsavefig.dpi: 10\nno: key\n"


def _strange(folder: Path) -> None:
    """Fill a directory with what must not be imported or read from it."""
    canary = folder / "executed"
    ours = {"vaectl", "tests"}
    for name in {*_installed(), "sitecustomize", "usercustomize", "conftest"} - ours:
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'a').write({name!r} + '\\n')\n")
    info = folder / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\nstrange = jax\n" for group in ("jax_plugins", "pydantic"))
    )
    (folder / "matplotlibrc").write_bytes(STYLE.encode() + b"\xff")
    (folder / ".pdbrc").write_text("import jax\n")


def _installed() -> set[str]:
    """The names of all modules that can be imported, but for those which Python has by then."""
    command = "import sys, runpy, pkgutil; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    ).stdout.split()
    folders = [entry for entry in sys.path if "site-packages" in entry]
    found = {Path(module).stem for folder in folders for module in Path(folder).iterdir()}
    names = {name for name in found | set(sys.stdlib_module_names) if name.isidentifier()}
    return names - {name.partition(".")[0] for name in loaded}


@pytest.mark.full
def test_everything_at_once_changes_no_bit(
    half: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    folder = Path(shutil.copytree(half, tmp_path / "strange", dirs_exist_ok=True))
    _strange(folder)
    done = _start(folder, JAX | FLAX | TERMINAL | STRANGE, "-OO")
    assert done.returncode == 0, done.stderr
    assert not (folder / "executed").exists(), (folder / "executed").read_text()
    assert _results(folder) == expected
    assert "warning" not in done.stderr.lower()


@pytest.mark.parametrize("path", [[], ["", "."]], ids=["-m", "PYTHONPATH"])
def test_nothing_is_imported_from_the_current_directory(path: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    _strange(folder)
    entries = [str(apart.ROOT), *path]
    if path:  # Python itself runs these, before it knows of us
        for name in ("sitecustomize", "usercustomize"):
            (folder / f"{name}.py").unlink()
    there: dict[str, Any] = {"cwd": folder, "env": {"PYTHONPATH": os.pathsep.join(entries)}}
    done = apart.run("-m", "vaectl", "data", "list", **there)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (folder / "executed").exists(), (folder / "executed").read_text()


def test_what_stands_on_the_path_by_its_full_name_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    for path, before, after in (
        (here, [here, here, "/lib"], [here, "/lib"]),
        (f"{here}:", [here, here, "/lib"], [here, "/lib"]),
        ("", [here, "/lib"], ["/lib"]),
        (":a:.", [here, here, f"{here}/a", "/lib"], ["/lib"]),
        ("", ["", "/lib"], ["/lib"]),
        ("", ["/lib", here], ["/lib", here]),
    ):
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.setattr(sys, "path", list(before))
        surroundings.leave_current_directory()
        assert sys.path == after, (path, before)


def test_every_option_of_jax_and_flax_is_dropped_or_kept_on_purpose() -> None:
    names = {name.upper() for name in registry.values} | {*FLAX}
    assert len(names) > 100
    assert {name for name in names if not surroundings.is_dropped(name)} == surroundings.KEPT


@pytest.mark.parametrize("words", ["--help", "train --help", "config schema"])
def test_help_is_whole_without_docstrings(words: str) -> None:
    plain, optimized = (
        apart.run(*options, "-m", "vaectl", *words.split(), check=True).stdout
        for options in ((), ("-OO",))
    )
    assert optimized == plain
    assert "a YAML file" in plain or "Adam" in plain or "one YAML file" in plain


@contextlib.contextmanager
def _few_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [5, 8, 12, 40])
def test_a_process_that_may_open_few_files_gets_an_error(count: int, tmp_path: Path) -> None:
    limit = ("bash", "-c", f'ulimit -n {count}; exec "$@"', "-")
    done = apart.run("-m", "vaectl", "train", before=limit, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: Too many open files: .*\b64\b.*\ntry:   .*ulimit -n 1024\n",
        done.stderr,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["runs"], ["sample", "latest"], ["evaluate", "latest"]])
def test_every_command_counts_its_files(command: list[str], vaectl: Vaectl) -> None:
    with _few_files(40):
        answer = vaectl(*command)
    assert (answer.code, answer.err.count("\n")) == (2, 2)
    assert "Too many open files" in answer.err


@pytest.mark.parametrize(
    "platforms",
    ["nonsense", *(pytest.param(one, marks=pytest.mark.full) for one in ("cuda", "tpu", ","))],
)
def test_a_device_that_is_not_there_is_one_line(platforms: str, tmp_path: Path, runs: Path) -> None:
    if platforms != "nonsense" and any(one.platform != "cpu" for one in jax.devices()):
        pytest.skip("there is such a device here")
    code = (
        "import sys\nfrom vaectl.__main__ import main\n"
        "for words in sys.argv[1:]:\n"
        "    sys.argv = ['vaectl', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: print('exit', end.code, file=sys.stderr)\n"
    )
    commands = ("sample z2", "evaluate z2", f"train {TINY} --name a", "compare-optimizers", "bench")
    assert runs.is_dir()
    there: dict[str, Any] = {"cwd": tmp_path, "env": {"JAX_PLATFORMS": platforms}}
    trains = f"train {TINY} --epochs 1 --device cpu --quiet"
    done = apart.run("-c", code, *commands, trains, **there)
    error = f"error: JAX_PLATFORMS={platforms}: JAX sees no such device here\n"
    assert (
        done.stderr.replace("loading libraries\n", "")
        == len(commands) * f"{error}try:   unset JAX_PLATFORMS\nexit 2\n" + "exit 0\n"
    )
    assert done.stdout.splitlines()[-1] == "runs/digits-5k-z2-adam-s0"
    assert done.returncode == 0


@pytest.mark.parametrize("kind", wanted.KINDS)
def test_a_plugin_that_fails_is_one_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(ConfigError, match=r"^JAX cannot start: AssertionError$"):
        devices.select(kind)


def test_what_cannot_be_pinned_is_recorded_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in surroundings.recorded():
        monkeypatch.delenv(name)
    plain = devices.describe(jax.devices()[0])
    assert set(plain) == {"platform", "kind", "cpu_threads", "host", "processor"}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true\udcff")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    monkeypatch.setenv("NPROC", "")  # is as if it were not set
    assert devices.describe(jax.devices()[0]) == plain | {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true\\udcff",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    }


def test_flags_in_a_file_are_recorded_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flags"
    file.write_text("--xla_cpu_enable_fast_math=true\n")
    monkeypatch.setenv("XLA_FLAGS", str(file))
    assert surroundings.recorded()["XLA_FLAGS"] == f"{file}: --xla_cpu_enable_fast_math=true"


def test_where_nothing_can_be_kept_no_library_says_so() -> None:
    """In a container, the home directory may not exist."""
    code = """
import warnings
from vaectl.base import devices
from vaectl.runs.quiet import silence_matplotlib

warnings.simplefilter("always")
silence_matplotlib()
devices.keep_compiled_programs()
import jax, matplotlib
print(float(jax.jit(lambda x: x + 1)(1.0)), matplotlib.get_cachedir())
"""
    nowhere = f"{os.devnull}/nowhere"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HOME": nowhere, "VAECTL_CACHE_DIR": nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout[:4], done.stderr) == ("2.0 ", "")


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"NPROC": "3"}, 3),
        ({"NPROC": "3", "PJRT_NPROC": " 5 "}, 5),
        ({"NPROC": "0"}, 1),
        ({"NPROC": "many"}, len(os.sched_getaffinity(0))),
        ({}, len(os.sched_getaffinity(0))),
    ],
)
def test_the_number_of_threads_is_that_of_xla(
    variables: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert surroundings.cpu_threads() == threads


RECORD: dict[str, object] = {
    "versions": {},
    "data": {
        "source": "digits-5k",
        "fingerprint": "0" * 64,
        "image_shape": [28, 28],
        "images": {"train": 1, "validation": 1, "test": 1},
    },
    "metrics": dict.fromkeys(("unit", "estimator", "binarization", "train", "validation"), ""),
    "name": "a",
    "status": "failed",
    "seed": 0,
    "epochs": 1,
    "git_commit": None,
    "start": "2026-01-01T00:00:00+00:00",
    "command": ["vaectl"],
}


def test_a_resume_names_what_is_set_now_or_was_before() -> None:
    def record(**device: object) -> Record:
        return Record.model_validate(RECORD | {"device": device})

    said = resumption.differences(record(host="a"), {}, {"host": "a", "XLA_FLAGS": "-x"})
    assert said == ["XLA_FLAGS was not set, is -x: the last bits may differ"]
    a, b = ({"host": name, "processor": "x"} for name in "ab")
    assert resumption.differences(record(**a), {}, b) == []  # machines of one kind
    said = resumption.differences(record(**a), {}, b | {"processor": "y"})
    assert said[-1] == "processor was x, is y: the last bits may differ"
    said = resumption.differences(record(host="a"), {"later": "1"}, {"host": "a", "later": "b"})
    assert said == []  # what an earlier vaectl did not record
    said = resumption.differences(record(host="a", NPROC="1"), {}, {"host": "b"})
    assert said == [
        "host was a, is b: the last bits may differ",
        "NPROC was 1, is not set: the last bits may differ",
    ]


def test_variables_that_change_bits_are_part_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in surroundings.recorded():
        monkeypatch.delenv(name)
    settings = Config.model_validate({"model": {"activation": "tanh"}})
    trial = Trial("adam", "result", settings)
    # the second is of comparisons that were made before there were plugs
    assert trial.keys("data") == [trial.key("data"), "d0de5479c0c60607"]
    keys = {*trial.keys("data")}
    for name, value in (("XLA_FLAGS", "-a"), ("XLA_FLAGS", "-b"), ("NPROC", "1")):
        monkeypatch.setenv(name, value)
        keys.update(trial.keys("data"))
    assert len(keys) == 2 * 4


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_style_of_the_user_changes_no_figure(kind: str, tmp_path: Path) -> None:
    def drawn() -> bytes:
        from vaectl.runs.directory import save_figure

        rows = [Row(epoch, 1, "train", {"elbo": -1.0 / epoch}, 0.0) for epoch in (1, 2)]
        file = tmp_path / f"figure.{kind}"
        save_figure(file, figures.curves(rows, "elbo", title="a"))
        return file.read_bytes()

    plain = drawn()
    style = tmp_path / "style"
    style.write_text(STYLE.replace("no: key\n", "svg.fonttype: path\nfont.size: 30\n"))
    with mpl.rc_context(fname=style):
        assert drawn() == plain


PINNED: dict[str, object] = {
    "jax_enable_x64": True,
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_default_matmul_precision": "F64_F64_F64",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_transfer_guard": "disallow",
}


def _answers(run: Path) -> dict[str, np.ndarray]:
    model = package.load(run)
    images = model.split("test").images[:8]
    mu, log_var = model.encode(images)
    return {
        "mu": mu,
        "log_var": log_var,
        "decoded": model.decode(mu),
        "sample": model.sample(3),
        "elbo": model.elbo(images, samples=2),
    }


@contextlib.contextmanager
def _configured(settings: dict[str, Any]) -> Iterator[None]:
    before = {name: registry.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]


def test_a_model_answers_the_same_in_a_process_that_configured_jax(trained_runs: Path) -> None:
    plain = _answers(trained_runs / "z2")
    with _configured(PINNED):
        found = _answers(trained_runs / "z2")
        assert jax.config.values["jax_enable_x64"]  # what the process wants for itself
    for name, array in plain.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", devices._UNPINNABLE)
def test_what_a_process_configured_and_cannot_be_pinned_is_named(
    name: str, trained_runs: Path
) -> None:
    model = package.load(trained_runs / "z2")
    with _configured({name: 1}), pytest.warns(UserWarning, match=f"^{name} is 1 in this process"):
        model.sample(2)


HINDERING = {
    "jax_no_execution",
    "jax_no_tracing",
    "jax_error_checking_behavior_nan",
    "jax_default_matmul_precision",  # most values need a GPU, and one is tried above
}
"""Options by which a process asks for errors."""


@pytest.mark.full
@pytest.mark.parametrize("name", sorted({*registry.values} - HINDERING - {*devices._UNPINNABLE}))
def test_no_option_of_jax_changes_a_models_answers(name: str, trained_runs: Path) -> None:
    _, _, more = registry.meta[name]
    others: list[Any] = [*more.get("enum_values", more.get("enum_class", ()))]
    value = registry.values[name]
    if isinstance(value, bool):
        others = [not value]
    elif isinstance(value, (int, float)) and not others:
        others = [value + 1]
    plain = _answers(trained_runs / "z2")
    for other in others:
        try:
            with _configured({name: other}):
                jax.clear_caches()  # type: ignore[no-untyped-call]
                found = _answers(trained_runs / "z2")
        except RuntimeError as error:
            assert "before backends are initialized" in str(error)  # noqa: PT017
            continue
        for key, array in plain.items():
            np.testing.assert_array_equal(found[key], array)


def _libraries() -> dict[str, str]:
    """Every variable that JAX's libraries read by a name like those that change numbers."""
    pattern = re.compile(rb"\0((?:XLA|TF|OMP|MKL|ONEDNN|DNNL|KMP|PJRT|EIGEN)_[A-Z0-9_]{3,})\0")
    found = {"NPROC", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"}
    for file in Path(jaxlib.__file__).parent.glob("*.so"):
        found |= {name.decode() for name in pattern.findall(file.read_bytes())}
    values = {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    }
    return {name: values.get(name, "1") for name in sorted(found)}


def _sources() -> dict[str, str]:
    """Every variable that the sources of our libraries read, but for those that name a place."""
    pattern = re.compile(r"(?:environ(?:\.\w+)?[\[(]|getenv\()\s*['\"]([A-Z][A-Z0-9_]+)['\"]")
    places = {
        *(
            "HOME",
            "PATH",
            "USER",
            "SHELL",
            "LD_LIBRARY_PATH",
            "APPDATA",
            "WINDIR",
            "TEST_TMPDIR",
            "PYTHONPATH",
            "MPLCONFIGDIR",
        ),
        *surroundings.KEPT,
    }
    site = Path(mpl.__file__).parent.parent
    found: set[str] = set()
    for library in (
        "matplotlib",
        "orbax",
        "flax",
        "optax",
        "etils",
        "numpy",
        "typer",
        "rich",
        "pydantic",
    ):
        for file in (site / library).rglob("*.py"):
            # tests and tools for building are never imported
            if not {"test", "tests", "testing", "f2py", "distutils"} & {*file.parts}:
                found |= set(pattern.findall(file.read_text(encoding="utf-8")))
    return dict.fromkeys(sorted(name for name in found - places if "XDG" not in name), "1")


def _pythons() -> dict[str, str]:
    """Every variable of Python, but for those that say where it is or that debug it."""
    told = subprocess.run(
        [sys.executable, "--help-env"], capture_output=True, text=True, check=True
    ).stdout
    found = set(re.findall(r"^PYTHON[A-Z0-9_]+", told, re.MULTILINE))
    places = {"PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONSTARTUP", "PYTHONINSPECT"}
    values = {
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONOPTIMIZE": "2",
        "PYTHONHASHSEED": "7",
        "PYTHONINTMAXSTRDIGITS": "640",
        "PYTHONMALLOC": "debug",
        "PYTHONPYCACHEPREFIX": "cache",
        "PYTHONBREAKPOINT": "nothing",
    }
    return {name: values.get(name, "1") for name in sorted(found - places)}


def _all() -> dict[str, str]:
    """Every variable, but for options of JAX and Flax: the suite sets them all at once."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **_sources(),
        **_libraries(),
        **_pythons(),
        **TERMINAL,
        **STRANGE,
        **dict.fromkeys(threads, "1"),
        "NO_COLOR": "1",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
        "MATPLOTLIBRC": "matplotlibrc",
        "MPLCONFIGDIR": "/proc/nowhere",
    }


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Look for variables only if they are tested: to read all libraries takes seconds."""
    if "variable" in metafunc.fixturenames:
        asked = metafunc.config.option.markexpr != "not full"
        metafunc.parametrize("variable", _all().items() if asked else [], ids=lambda one: one[0])


@pytest.mark.full
def test_a_variable_changes_no_bit_or_is_named(
    variable: tuple[str, str], half: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    folder = Path(shutil.copytree(half, tmp_path, dirs_exist_ok=True))
    (folder / "matplotlibrc").write_text(STYLE)
    _check(folder, expected, dict([variable]))
