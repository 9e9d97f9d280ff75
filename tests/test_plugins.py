"""Plugs of a person's own: files that --plugin names, and installed packages."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import apart
from tests.conftest import Answer, Vaectl, cut_off
from vaectl.base import plugins
from vaectl.base.plugs import Plug

EXAMPLE = Path(__file__).parent.parent / "configs" / "examples" / "conv_vae.py"
SMALL = (
    *("--code-size", "2", "--batch-size", "50", "--set", "data.train_size=150"),
    *("--set", "data.validation_size=50", "--set", "data.test_size=20"),
)


@pytest.fixture(autouse=True)
def _forget_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the command line begins with the plugs that are built in."""
    monkeypatch.setattr(plugins, "_files", {})
    for kind in Plug.__subclasses__():
        built_in = {k: v for k, v in kind.known.items() if v.__module__.startswith("vaectl.")}
        monkeypatch.setattr(kind, "known", built_in)


def _run(*arguments: object) -> Answer:
    """Run the command line in a process of its own: a plug joins before JAX is there."""
    done = apart.run(*apart.QUICKLY, *arguments)
    return Answer(done.returncode, done.stdout, done.stderr)


def _metrics(run: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]


def test_the_example_is_used_as_its_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE, "conv_vae.py")
    plug = ("--plugin", "conv_vae.py")
    every = ("--set", "checkpoint.every=1")
    made = ("--model", "tiny_conv", "--set", "model.channels=3", *SMALL, *every)
    answer = _run("train", *plug, *made, "--epochs", 2, "--name", "whole", "-q")
    assert answer.code == 0, answer.err
    (recorded,) = json.loads(Path("runs/whole/run.json").read_text())["plugs"]
    assert (recorded["kind"], recorded["name"]) == ("model", "tiny_conv")
    assert Path(recorded["source"]) == tmp_path / "conv_vae.py"

    # with batch statistics, which are no parameters, to the last bit
    cut_off(Path("runs/whole"), Path("runs/cut"), epoch=1)
    answer = _run("train", *plug, "--resume", "cut", "-q")
    assert answer.code == 0, answer.err
    assert _metrics(Path("runs/cut")) == _metrics(Path("runs/whole"))
    arrays = ("--checkpoint", "latest", "--save-arrays")
    assert _run("sample", "cut", *plug, *arrays, "cut.npz").code == 0
    with Path("conv_vae.py").open("a") as file:
        file.write("# changed\n")
    answer = _run("sample", "whole", *plug, *arrays, "whole.npz")
    assert answer.code == 0
    assert "warning: " in answer.err
    assert "conv_vae.py: the file was changed" in answer.err
    with np.load("whole.npz") as whole, np.load("cut.npz") as cut:
        np.testing.assert_array_equal(whole["images"], cut["images"])

    answer = _run("sample", "whole")
    assert answer.code == 4
    assert "tiny_conv" in answer.err
    assert "--plugin" in answer.err


@pytest.mark.full  # the suite adds one to a comparison that is there
def test_a_comparison_takes_an_optimizer_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    chosen = ("--optimizers", "signs", "--protocol", "paper", "--seeds", 1, "--epochs", 1)
    apart = ("--executor", "processes:1")  # the file is loaded there as well
    answer = _run(
        *("compare-optimizers", "--plugin", "mine.py", *chosen, *apart, "--name", "c", "-q"),
        *("--set", "model.hidden_size=8", *SMALL[4:]),
    )
    assert answer.code == 0, answer.err
    assert (Path("runs") / "c" / "signs-s0" / "metrics.csv").is_file()


MINE = """
import jax
import optax
from vaectl.optimizers.base import Optimizer

class Signs(Optimizer, name="signs"):
    \"\"\"The sign of each gradient.\"\"\"
    learning_rate: float = 1e-4

    def rule(self):
        return optax.scale_by_sign()
"""
HEAD = """from vaectl.objectives.base import Objective
from vaectl.models.base import Model
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("x = (\n", "line 1: SyntaxError", id="no Python"),
        pytest.param("a = 1\nb = 2\n1 / 0\n", "line 3: ZeroDivisionError", id="fails"),
        pytest.param("import not_installed\n", "line 1: ModuleNotFoundError", id="imports"),
        pytest.param("raise SystemExit(0)\n", "line 1: SystemExit", id="exits"),
        pytest.param("x = 1\n", "registers no plug", id="registers nothing"),
        pytest.param("\x00", "SyntaxError", id="a NUL"),
        pytest.param("class Mine(", "line 1: SyntaxError", id="cut"),
        pytest.param(MINE.replace('"signs"', '"adam"'), "adam is there already", id="built in"),
        pytest.param(MINE + MINE, "signs is there already", id="twice"),
        pytest.param(
            HEAD + 'class Mine(Objective, name="mine"):\n    """x"""\n', "terms", id="no terms"
        ),
        pytest.param(
            HEAD + 'class Mine(Model, name="mine"):\n    """x"""\n', "build", id="no build"
        ),
        pytest.param(
            HEAD + 'class Mine(Model, name="no name"):\n    """x"""\n', "no name", id="a space"
        ),
        pytest.param(
            HEAD + 'class Mine(Objective, name="samples"):\n    """x"""\n', "samples", id="a key"
        ),
    ],
)
def test_a_file_that_is_no_good_is_named_with_its_line(
    text: str, said: str, vaectl: Vaectl
) -> None:
    Path("mine.py").write_text(text)
    _refused(vaectl("train", "--plugin", "mine.py", "--epochs", 1), "mine.py", said)
    assert not Path("runs").exists()
    # nothing of it stays
    assert all(
        plug.__module__.startswith("vaectl.")
        for kind in Plug.__subclasses__()
        for plug in kind.known.values()
    )


@pytest.mark.parametrize(("file", "said"), [("none.py", "No such file"), (".", "regular file")])
def test_a_file_that_is_none_is_named(file: str, said: str, vaectl: Vaectl) -> None:
    _refused(vaectl("train", "--plugin", file, "--epochs", 1), file, said)


def _refused(answer: Answer, file: str, said: str) -> None:
    assert answer.code == 2, answer.err
    assert f"--plugin {file}" in answer.err
    assert re.search(said, answer.err), answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("command", ["train", "compare-optimizers"])
def test_a_term_without_a_place_in_metrics_is_refused_before_training(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from vaectl.objectives.elbo import ELBO\n"
        'class Mine(ELBO, name="mine"):\n'
        '    """The ELBO, with another term."""\n'
        "    def terms(self, *given):\n"
        "        loss, terms = super().terms(*given)\n"
        '        return loss, {**terms, "seconds": loss}\n'
    )
    answer = _run(command, "--plugin", "mine.py", "--set", "objective.name=mine", "-q")
    assert answer.code == 2, answer.err
    assert "error: the objective mine: 'seconds' cannot be the name of a term" in answer.err
    assert not Path("runs").exists()


def _copy(folder: str) -> Path:
    Path(folder).mkdir()
    return Path(shutil.copy("mine.py", f"{folder}/mine.py"))


def test_a_file_is_loaded_once_however_it_is_named(vaectl: Vaectl) -> None:
    Path("mine.py").write_text(MINE)
    Path("d").mkdir()
    Path("link.py").symlink_to("mine.py")
    for other in (Path("d/../mine.py"), Path("mine.py").absolute(), "link.py", _copy("e")):
        both = ("--plugin", "mine.py", "--plugin", other)
        answer = vaectl("config", "show", *both, "--set", "optimizer.name=signs")
        assert answer.code == 0, answer.err
        assert "name: signs" in answer.out


def test_a_file_that_fails_leaves_the_plugs_of_others(vaectl: Vaectl) -> None:
    Path("mine.py").write_text(MINE)
    other = _copy("other")
    other.write_text(f"# {MINE}{MINE}")
    assert vaectl("config", "show", "--plugin", "mine.py").code == 0
    _refused(vaectl("config", "show", "--plugin", other), "other/mine.py", "signs is there already")
    answer = vaectl("config", "show", "--plugin", "mine.py", "--set", "optimizer.name=signs")
    assert answer.code == 0, answer.err


def test_an_unknown_plug_is_answered_with_the_nearest_and_the_list(vaectl: Vaectl) -> None:
    for option, near, name in (
        ("--model", "mpl", "mlp"),
        ("--likelihood", "gausian", "gaussian"),
        ("--objective", "iwea", "iwae"),
        ("--optimizer", "adamm", "adam"),
    ):
        answer = vaectl("train", option, near)
        assert answer.code == 2
        assert near in answer.err
        assert name in answer.err


def test_a_package_brings_plugs_and_one_that_fails_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "mine-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[vaectl.optimizers]\nsigns = mine:Signs\n")
    (site / "mine.py").write_text(MINE)

    def shown() -> subprocess.CompletedProcess[str]:
        command = ("-m", "vaectl", "config", "show", "--set", "optimizer.name=signs")
        return apart.run(*command, env={"PYTHONPATH": f"{site}:{apart.ROOT}"}, cwd=tmp_path)

    done = shown()
    assert done.returncode == 0, done.stderr
    assert "name: signs" in done.stdout
    (site / "mine.py").write_text("1 / 0\n")
    done = shown()
    assert done.returncode == 2
    assert "signs of mine does not load: division by zero" in done.stderr
    assert "Traceback" not in done.stderr
