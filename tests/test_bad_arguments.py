"""Arguments that nobody means: every command answers them by a message and an exit code."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from tests.conftest import Vaectl
from vaectl import config, data
from vaectl.base.errors import DataError, RunError
from vaectl.cli.app import app
from vaectl.runs.directory import RunDir

TEXTS = [
    *("", " ", "-", "--", ".", "..", "../..", "/", "//", "a/b", "a b", "~", "~nobody-here/x"),
    *("🎲", "\udcff", "\x1b[31m", "a\nb", "\0", "%s{0}", "[bold]", "[/]", "$x$", "<script>"),
    *(300 * "x", 5000 * "y", 3000 * "z/", "nan", "-inf", "1e999", "-1", 400 * "9", "[1]", "{a: 1"),
    *("file", "pipe", "device", "loop", "dir.png", "dir.npz", "file/x.png", "gone/x.npz"),
    *("seed=🎲", "model.=1", ".=", "data.source=npz:\udcff", "data.source=idx:pipe", "seed=\0"),
    *("npz:pipe", "npz:device", "idx:pipe", "tfds:../..", "tfds:🎲", "0:1:2", "0:", "1:9999999999"),
]


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from _commands(below, (*path, name))
    else:
        yield path


ALL = int(os.environ.get("VAECTL_EXAMPLES", "0")) >= 10_000
QUICK = Path(__file__).parent.parent / "configs" / "compare"
ROOT = typer.main.get_command(app)
COMMANDS = list(_commands(ROOT))


def _calls(path: tuple[str, ...], text: str) -> Iterator[tuple[str, ...]]:
    """The command with this text for each of its parameters in turn."""
    command: Any = ROOT
    for name in path:
        command = command.commands[name]
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    good = ["z2" for argument in arguments if argument.required]
    for parameter in command.params:
        if isinstance(parameter, TyperOption):
            if not parameter.is_flag:
                yield *path, *good, parameter.opts[0], *[text] * parameter.nargs
        elif not text.startswith("-"):
            yield *path, text


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_odd_arguments_are_answered_without_a_traceback(
    path: tuple[str, ...], vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: config.Data, **_how: object) -> data.Dataset:
        raise DataError("right so far; names and places were checked before", hint="")

    assert runs.is_dir()
    if path in {("train",), ("demo",), ("compare-optimizers",), ("bench",), ("diagnose",)}:
        monkeypatch.setattr(data, "load", load)
    Path("file").touch()
    os.mkfifo("pipe")
    Path("device").symlink_to("/dev/zero")
    Path("loop").symlink_to("loop")
    Path("dir.png").mkdir()
    Path("dir.npz").mkdir()
    # half of the texts for each command, the other half for the next one
    for number, text in enumerate(TEXTS if ALL else TEXTS[COMMANDS.index(path) % 2 :: 2]):
        calls = list(_calls(path, text))
        # one parameter after the other here, all of them where all examples are wanted
        for call in calls if ALL else calls[number % len(calls) :][:1] if calls else ():
            code, out, err = vaectl(*call)
            assert code in (0, 2, 3, 4), (call, err)
            assert "Traceback" not in out + err, call
            assert bool(err) == (code != 0), (call, err)


ODD_NAME = "$x_{$ <script> [bold] 🎲 \x1b[31m"


def test_a_run_may_be_called_anything(vaectl: Vaectl, runs: Path) -> None:
    """Not by `--name`, but directories can be renamed."""
    (runs / "z2").rename(runs / ODD_NAME)
    (runs / "z5").rename(runs / os.fsdecode(b"\xff"))
    for command in ("sample", "manifold", "morph", "reconstruct", "inspect"):
        code, out, err = vaectl(command, ODD_NAME, "--out", f"{command}.svg")
        assert (code, out, err) == (0, f"{command}.svg\n", "")
        assert "$x_{$ &lt;script&gt; [bold] 🎲" in Path(f"{command}.svg").read_text()
    assert vaectl("evaluate", ODD_NAME, "--importance-samples", 0).code == 0
    assert "\\udcff" in vaectl("runs").out
    assert vaectl("runs", "--json").code == 0


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "evaluation.json", "metrics.csv"])
@pytest.mark.parametrize("end", ["pipe", "device"])
def test_files_of_a_run_that_never_end_are_refused_at_once(
    name: str, end: str, vaectl: Vaectl, runs: Path
) -> None:
    file = runs / "z2" / name
    file.unlink(missing_ok=True)
    if end == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    assert vaectl("runs").code == 0
    code, _, err = vaectl("evaluate", "z2", "--importance-samples", 0)
    said = "Not a regular file" if end == "pipe" else "it is a link"
    assert code == (0 if name == "metrics.csv" else 4)
    assert (said in err) == (code == 4)
    if name == "metrics.csv":
        with pytest.raises(RunError, match=said):
            RunDir(runs / "z2").read_metrics()


@pytest.mark.parametrize("error", [MemoryError("Unable"), RuntimeError("RESOURCE_EXHAUSTED: no")])
def test_a_full_memory_is_told_without_a_traceback(
    error: Exception, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: config.Data, **_how: object) -> data.Dataset:
        raise error

    monkeypatch.setattr(data, "load", load)
    code, _, err = vaectl("train", "-q")
    assert (code, err.splitlines()[0]) == (2, f"error: the memory is full: {error}")


def test_a_backslash_is_refused_before_orbax_writes_elsewhere(vaectl: Vaectl, runs: Path) -> None:
    (runs / "z2").rename(runs / "z\\2")
    code, _, err = vaectl("sample", "z\\2")
    assert code == 4
    assert "z\\2/checkpoints: a backslash in its path, which Orbax takes for a slash\ntry" in err
    code, _, err = vaectl("train", "--runs-dir", "r\\s")
    assert (code, err.partition(":")[0], Path("r\\s").exists()) == (4, "error", False)
    code, _, err = vaectl("train", "--resume", "z\\2")
    assert (code, err.partition(":")[0]) == (4, "error")


def test_a_path_that_orbax_takes_for_a_cloud_is_refused(vaectl: Vaectl) -> None:
    code, _, err = vaectl("train", "--runs-dir", "logs:")
    assert code == 4
    assert "logs:: gs:/ in its path, which Orbax takes for a place in Google Cloud Storage" in err
    assert not Path("logs:").exists()


@pytest.mark.parametrize("place", ["x[2]", "a*b", "what?"])
def test_a_pattern_is_refused_before_orbax_loses_a_checkpoint_by_it(
    place: str, vaectl: Vaectl, runs: Path
) -> None:
    """Orbax saved into x[2] without a word, and nothing could be loaded again."""
    code, _, err = vaectl("train", "--runs-dir", place)
    assert (code, "which Orbax takes for a pattern" in err) == (4, True)
    assert not Path(place).exists()
    (runs / "z2").rename(runs / place)
    assert vaectl("sample", place, "--count", 1).code == 0
    code, _, err = vaectl("train", "--resume", place, "--epochs", 4)
    assert (code, "which Orbax takes for a pattern" in err) == (4, True)


def test_places_may_be_called_anything(vaectl: Vaectl) -> None:
    place = "$x$ <script> 🎲/é"
    small = ("--epochs", 1, "--set", "data.train_size=50", "--hidden-size", 4, "-q")
    assert vaectl("train", *small, "--runs-dir", place).out.startswith("train ELBO")
    run = f"{place}/digits-5k-z20-adam-s0"
    assert vaectl("sample", run, "--count", 1).out == f"{run}/figures/sample.png\n"
    assert vaectl("config", "show", f"{run}/config.yaml").code == 0
    header = Path(run, "config.yaml").read_text().splitlines()[1]
    assert header == f"# vaectl train '{run}/config.yaml'"


def test_a_link_that_a_person_names_is_replaced_and_what_it_points_to_stays(
    vaectl: Vaectl, tmp_path: Path, runs: Path
) -> None:
    (tmp_path / "precious").write_text("x")
    for name in ("s.png", "s.npz"):
        (tmp_path / name).symlink_to("precious")
    answer = vaectl(
        *("sample", runs / "z2", "--count", 1, "--out", "s.png", "--save-arrays", "s.npz")
    )
    assert (answer.code, answer.out) == (0, "s.png\n")
    assert (tmp_path / "precious").read_text() == "x"
    assert not any((tmp_path / name).is_symlink() for name in ("s.png", "s.npz"))


@pytest.mark.parametrize("target", ["elsewhere", "gone"])
def test_figures_that_are_a_link_are_not_written_through(
    target: str, vaectl: Vaectl, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(runs / "z2" / "figures")
    (runs / "z2" / "figures").symlink_to(tmp_path / target)
    code, _, err = vaectl("sample", "z2", "--count", 1)
    assert code == 4
    assert err.startswith("error: runs/z2/figures: cannot be written: it is a link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("train",),
        ("compare-optimizers",),
        ("compare-optimizers", QUICK / "workloads-quick.yaml"),
        ("sweep", "--vary", "model.code_size=2,3"),
    ],
)
def test_an_empty_name_is_no_name(command: tuple[object, ...], vaectl: Vaectl) -> None:
    code, out, err = vaectl(*command, "--name", "")
    assert (code, out) == (2, "")
    assert err.startswith("error: --name : not usable as the name of a run\n")
