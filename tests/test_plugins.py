"""Plugs of a person's own: files that --plugin names, and installed packages."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import apart
from tests.conftest import Answer, Vaectl, cut_off
from vaectl import config
from vaectl.base import plugins
from vaectl.base.errors import ConfigError
from vaectl.base.plugs import Plug
from vaectl.cli.words import all_words
from vaectl.config import reading
from vaectl.data.sources import base as sources
from vaectl.exports import base as exports
from vaectl.optimizers.base import Optimizer

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
    loaded = tmp_path / "conv_vae.py"
    assert Path(recorded["source"]) == loaded
    _, command, *_ = Path("runs/whole/config.yaml").read_text().splitlines()
    assert command == f"# vaectl train runs/whole/config.yaml --plugin {loaded}"

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
from vaectl.data.sources.base import Source
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
        pytest.param(
            HEAD + 'class Mine(Source, name="mine"):\n    """x"""\n',
            r"lacks load(.|\n)*vaectl\.data\.sources\.base describes",
            id="no load",
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


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("k: int", "its setting k has no default\ntry:   give it one, as in k: float"),
        ("k: Missing = 1", "Missing, the type of a setting, is not defined"),
        ("learning_rate: Positive = -1.0", "learning_rate should be more than 0, not -1.0"),
        ("k: float = 'x'", "the default of its setting k should be a number, not 'x'"),
        (
            "k: list[float] = [0.9]",
            "its setting k: unhashable type: 'list'\ntry:   make it a tuple",
        ),
        ("k: dict[str, float] = {}", "its setting k: unhashable type: 'dict'"),
        ("k: Path = Path('x')", "its setting k .*instance of Path"),
        ("k: object = print", "its settings: Unable to serialize unknown type"),
        ("k: object = Path('x')", "its setting k is 'x' when it is read from a file, not x"),
        ("weight_decay: float = 0.5", "the name of its setting weight_decay"),
        ("adam: float = 0.5", "the name of its setting adam"),
        ("name: str = 'x'", "the name of its setting name"),
        ("kind: str = 'x'", "the name of its setting kind"),
        ("averages: bool = True", "the name of its setting averages"),
        ("_check = model_validator(mode='after')(lambda self: 1 / 0)", "ZeroDivisionError"),
        ("_check = model_validator(mode='after')(refuse)", "its defaults: no\n"),
    ],
)
@pytest.mark.filterwarnings("ignore:Field name .* shadows:UserWarning")
def test_a_setting_that_no_configuration_could_have_is_refused(
    setting: str, said: str, vaectl: Vaectl
) -> None:
    rate = "" if setting.startswith("learning_rate") else "learning_rate: float = 1.0"
    Path("mine.py").write_text(
        "from __future__ import annotations\n"
        "from pathlib import Path\n"
        "from pydantic import model_validator\n"
        "from vaectl.base.section import Positive\n"
        "from vaectl.optimizers.base import Optimizer\n"
        "def refuse(self): raise ValueError('no')\n"
        "class Mine(Optimizer, name='mine'):\n"
        f"    {rate or 'pass'}\n"
        f"    {setting}\n"
        "    def rule(self): ...\n"
    )
    _refused(vaectl("config", "show", "--plugin", "mine.py"), "mine.py", said)
    assert "mine" not in Optimizer.known


def test_a_setting_may_be_several_numbers(vaectl: Vaectl) -> None:
    Path("mine.py").write_text(
        MINE.replace(
            "learning_rate", "betas: tuple[float, ...] | None = (0.9, 0.99)\n    learning_rate"
        )
    )
    chosen = ("--plugin", "mine.py", "--set", "optimizer.name=signs")
    shown = vaectl("config", "show", *chosen)
    assert shown.code == 0, shown.err
    assert "betas: [0.9, 0.99]" in shown.out.replace(
        "betas:\n    - 0.9\n    - 0.99", "betas: [0.9, 0.99]"
    )
    Path("mine.yaml").write_text(shown.out)
    assert vaectl("config", "show", "mine.yaml", "--plugin", "mine.py").out == shown.out
    for key in ("optimizer.betas", "optimizer.signs.betas"):
        other = vaectl("config", "show", *chosen, "--set", f"{key}=[0.5, 0.6, 0.7]")
        assert other.code == 0, other.err
        assert "0.7" in other.out
    wrong = vaectl("config", "show", *chosen, "--set", "optimizer.betas=[0.5, x]")
    assert wrong.code == 2
    assert "betas.1: should be a number, not 'x'" in wrong.err
    assert hash(config.Config.model_validate({"optimizer": {"name": "signs", "betas": [0.5]}}))


def test_a_notebook_defines_a_plug_again() -> None:
    for rate in (0.5, 0.25):
        exec(  # noqa: S102  # as a cell of a notebook
            MINE.replace("1e-4", str(rate)), {"__name__": "__main__"}
        )
        chosen = config.Config.model_validate({"optimizer": {"name": "signs"}}).optimizer.chosen
        assert chosen.learning_rate == rate
    with pytest.raises(ConfigError, match="is there already"):
        exec(MINE.replace("Signs", "Others"), {"__name__": "__main__"})  # noqa: S102


def test_the_text_of_a_plugs_own_setting_is_that_of_its_class() -> None:
    plugins.load_file(EXAMPLE.with_name("signum.py"))
    field = reading.json_schema()["$defs"]["Signum"]["properties"]["learning_rate"]
    assert field["description"] == "The distance that each parameter moves in a step."


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


BAD = """
import jax.numpy as jnp
from vaectl.likelihoods.bernoulli import Bernoulli
from vaectl.models.mlp import MLP
from vaectl.objectives.elbo import ELBO

class Mean(Bernoulli, name="bad_mean"):
    def mean(self, raw):
        return raw

class LogProb(Bernoulli, name="bad_log_prob"):
    def log_prob(self, raw, x):
        return super().log_prob(raw, x).sum()

class Loss(ELBO, name="bad_loss"):
    def terms(self, *given):
        loss, terms = super().terms(*given)
        return loss.mean(), terms

class Alone(ELBO, name="bad_alone"):
    def terms(self, *given):
        return super().terms(*given)[0]

class Decode(MLP, name="bad_decode"):
    def build(self, *given):
        module = super().build(*given)
        decode = module.decode
        module.decode = lambda z: decode(z)[..., 0]
        return module

class Code(MLP, name="bad_code"):
    def build(self, image_shape, code_size, *given):
        return super().build(image_shape, code_size + 1, *given)

class Prior(MLP, name="bad_prior"):
    def build(self, *given):
        module = super().build(*given)
        module.prior = 1
        return module
"""


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("likelihood=bad_mean", "mean should have the shape [1, 2, 28, 28, 1], not [1, 2, 28, 28"),
        ("likelihood=bad_log_prob", "log_prob should have the shape [1, 2], not []"),
        ("objective=bad_loss", "the loss of terms should have the shape [2], not []"),
        ("objective=bad_alone", "terms does not return two things"),
        ("model=bad_decode", "decode should have the shape [1, 2, 28, 28, 1, 1], not [1, 2"),
        ("model=bad_code", "the mean of encode should have the shape [2, 20], not [2, 21]"),
        ("model=bad_prior", "its module has an attribute prior"),
    ],
)
def test_a_part_that_returns_a_wrong_shape_is_named_before_training(
    choice: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(BAD)
    kind, _, name = choice.partition("=")
    chosen = ("--set", f"{kind}.name={name}", "--prior", "mixture")
    done = apart.run(*apart.QUICKLY, "train", "--plugin", "mine.py", *chosen, "-q")
    assert done.returncode == 2, done.stderr
    assert f"error: the {kind} {name}: {said}" in done.stderr
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


def _package(site: Path, name: str, points: str, content: str) -> None:
    """Install a package of one module."""
    info = site / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(points)
    (site / f"{name}.py").write_text(content)


def test_a_package_brings_plugs_and_one_that_fails_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    _package(site, "mine", "[vaectl.optimizers]\nsigns = mine:Signs\n", MINE)

    def shown() -> subprocess.CompletedProcess[str]:
        command = ("-m", "vaectl", "config", "show", "--set", "optimizer.name=signs")
        return apart.run(*command, env={"PYTHONPATH": f"{site}:{apart.ROOT}"}, cwd=tmp_path)

    done = shown()
    assert done.returncode == 0, done.stderr
    assert "name: signs" in done.stdout
    (site / "mine.py").write_text("1 / 0\n")
    done = shown()
    assert done.returncode == 2
    assert "signs of mine does not load: ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def _broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package that fails after it has registered a plug, and one that does not."""
    site = tmp_path / "site"
    optimizers = "[vaectl.optimizers]\nit = {0}:It\n"
    other = MINE.replace("signs", "others")
    _package(site, "broken", optimizers.format("broken"), f"{MINE}\nimport nosuchthing\n")
    _package(site, "whole", optimizers.format("whole"), f"{other}\nIt = Signs\n")
    monkeypatch.syspath_prepend(site)
    plugins.load_installed.cache_clear()
    yield
    plugins.load_installed.cache_clear()
    for module in ("broken", "whole"):
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("_broken")
def test_a_package_that_fails_registers_nothing() -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match="it of broken does not load: ModuleNotFoundError"):
            reading.of_mapping({"optimizer": {"name": "signs"}})
        assert "signs" not in Optimizer.known
    chosen = reading.of_mapping({"optimizer": {"name": "others"}})
    assert chosen.optimizer.name == "others"


@pytest.mark.usefixtures("_broken")
def test_a_package_that_fails_stops_nothing_that_does_not_need_it(vaectl: Vaectl) -> None:
    assert [form.name for form in exports.parse(["safetensors"])] == ["safetensors"]
    Path("model.safetensors").touch()
    assert exports.form_of(Path("model.safetensors")).name == "safetensors"
    for source in ("digits", "digits-5k", "kmnist", "./a.npy"):
        assert sources.parse(source)
    assert "others" in all_words()["keys"]["optimizer.name"]
    answer = vaectl("config", "show", "--set", "optimizer.name=others")
    assert answer.code == 0, answer.err
    with pytest.raises(ConfigError, match="it of broken does not load"):
        exports.parse(["all"])
