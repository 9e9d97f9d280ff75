"""What a person is told who mistypes: one style for all errors, and the nearest names."""

import io
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import vaectl as package
from tests import apart
from tests.conftest import Vaectl
from tests.test_bad_arguments import COMMANDS
from vaectl import config, experiment
from vaectl.base.errors import ConfigError
from vaectl.base.nearest import nearest, nearest_path
from vaectl.experiment.result import Result
from vaectl.optimizers.adam import Adam
from vaectl.optimizers.base import Optimizer
from vaectl.sinks.base import Log, Sink, Training

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        ("adm", ["adagrad", "adam", "adamw", "sgd"], ["adam"]),
        ("sdg", ["adagrad", "adam", "sgd"], ["sgd"]),
        ("ADAM", ["adam", "adamw"], ["adam"]),
        ("continuous-bernoulli", ["bernoulli", "continuous_bernoulli"], ["continuous_bernoulli"]),
        ("mnist", ["mnist-z20-adam-s0", "mnist-z2-adam-s0", "digits-z2"],
         ["mnist-z20-adam-s0", "mnist-z2-adam-s0"]),
        ("--nonsense", ["--seed", "--set", "--name"], []),
        ("zebra", ["adam", "sgd"], []),
        ("", ["adam"], []),
    ],
)  # fmt: skip
def test_the_nearest_names_are_few_or_none(
    text: str, known: list[str], expected: list[str]
) -> None:
    assert nearest(text, known) == expected


def test_the_nearest_path_may_differ_in_its_folders(tmp_path: Path) -> None:
    for name in ("configs/quickstart.yaml", "configs/paper/z20.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = tmp_path / "configs" / "quickstart.yaml"
    for name in ("configs/quikstart.yaml", "confgs/quikstart.yaml", "confgs/quickstart.yaml"):
        assert nearest_path(tmp_path / name) == found
    assert nearest_path(tmp_path / "elsewhere/mine.yaml") is None
    assert nearest_path(Path(300 * "x", "\0")) is None


MISTYPED = [
    ("trian", "train"),
    ("config shw", "show"),
    ("runs rmm z2", "rm"),
    ("train --epoch 3", "--epochs"),
    ("train --epoch=3", "--epochs"),
    ("train -epochs 3", "--epochs"),
    ("--verison", "--version"),
    ("train --device gpuu", "gpu"),
    ("runs --sort elb", "elbo"),
    ("runs --where optimzer=adam", "optimizer"),
    ("evaluate z2 --split tets", "test"),
    ("curves z2 --width colum", "column"),
    ("manifold z2 --range postrior", "posterior"),
    ("sample z2 --out a.pgn", "png"),
    ("sample z22", "z2"),
    ("sample Z5", "z5"),
    ("sample z2 --runs-dir rusn", "runs"),
    ("sample latest --runs-dir rusn", "runs"),
    ("sample lastest", "latest"),
    ("sample z2 --checkpoint lastest", "latest"),
    ("curves z2 z22 --out c.png", "z2"),
    ("runs rm z22 --yes", "z2"),
    ("train --resume z22", "z2"),
    ("explore z22", "z2"),
    ("curves z2 --term elb", "elbo"),
    ("train configs/quikstart.yaml", "configs/quickstart.yaml"),
    ("bench confgs/quickstart.yaml", "configs/quickstart.yaml"),
    ("train --plugin configs/exmples/discs.py", "configs/examples/discs.py"),
    ("compare-optimizers configs/compare/papr-z20.yaml", "configs/compare/paper-z20.yaml"),
    ("compare-optimizers --optimizers adam,sdg", "sgd"),
    ("compare-optimizers --protocol papr", "paper"),
    ("train --model mpl", "mlp"),
    ("train --likelihood gausian", "gaussian"),
    ("train --objective elb", "elbo"),
    ("train --optimizer adm", "adam"),
    ("train --log tensorbord", "tensorboard"),
    ("export z2 --format onx", "onnx"),
    ("export-log z2 --to flim", "film"),
    ("data prepare digits-5", "digits-5k"),
    ("train --set model.code_sise=2", "model.code_size"),
]


@pytest.mark.parametrize(("line", "meant"), MISTYPED)
def test_a_mistyped_name_is_answered_with_the_nearest(
    line: str, meant: str, vaectl: Vaectl, runs: Path
) -> None:
    assert runs.is_dir()
    shutil.copytree(CONFIGS, "configs")
    code, out, err = vaectl(*line.split())
    assert (code in (2, 3, 4), out) == (True, "")
    assert f"did you mean {meant}" in err


@pytest.mark.parametrize("line", ["frobnicate", "train --zz", "sample q", "train --model resnet50"])
def test_nothing_is_guessed_where_nothing_is_near(line: str, vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    code, _, err = vaectl(*line.split())
    assert code in (2, 4)
    assert "did you mean" not in err


@pytest.mark.parametrize("kind", ["model", "likelihood", "objective", "optimizer"])
def test_an_unknown_plug_is_answered_with_all(kind: str, vaectl: Vaectl) -> None:
    from vaectl.base.plugs import known

    _, _, err = vaectl("train", f"--{kind}", "x")
    assert ", ".join(sorted(known(kind))) in err
    assert "--plugin" in err


WRONG_VALUES = [
    "sample z2 --width colum",
    "sample z2 --style slids",
    "sample z2 --polarity inc",
    "sample z2 --out a.pgn",
    "sample z2 --save-arrays a.pgn",
    "sample z2 --checkpoint bset",
    "sample z22",
    "manifold z2 --range postrior",
    "manifold z2 --dims 0 0",
    "morph z2 --pairs 3",
    "morph z2 --animate --out a.png",
    "reconstruct z2 --split tets",
    "inspect z2 --width 3",
    "curves z2 --width colum",
    "curves z2 --out a.gif",
    "curves z2 --term elb",
    "curves z2 --from 99",
    "curves z2 z5",
    "explore z2 --output a.htl",
    "explore z22",
    "evaluate z22",
    "evaluate z2 --checkpoint lastest",
    "export z2 --format onx",
    "export z22 --format card",
    "export-log z2 --to flim",
    "import gone.safetensors",
    "import a.onnx",
    "train --log flim",
    "train --set model.code_sise=2",
    "train --model mpl",
    "train gone.yaml",
    "train --resume z22",
    "compare-optimizers --optimizers adm",
    "compare-optimizers --executor procesess:2",
    "sweep --vary model.code_sise=2,3",
    "sweep --vary model.code_size=2,3 --executor procesess:2",
    "bench gone.yaml",
    "data prepare digits-5",
    "runs --sort elb",
    "runs --where optimzer=adam",
    "runs rm z22",
]


def test_a_wrong_value_is_answered_before_anything_slow_is_loaded(runs: Path) -> None:
    code = """
import sys
from vaectl import cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["vaectl", *line.split()]
    try:
        cli.main()
        print("no error:", line)
    except SystemExit as end:
        if end.code not in (2, 3, 4):
            print("code", end.code, line)
    for slow in {"jax", "matplotlib", "flax", "optax", "orbax"} & {*sys.modules}:
        sys.exit(print(f"{slow} was loaded for {line}"))
"""
    done = apart.run("-c", code, input="\n".join(WRONG_VALUES), cwd=runs.parent, check=True)
    assert done.stdout == ""
    assert done.stderr.count("error: ") == len(WRONG_VALUES), done.stderr


USAGE = [
    "--nonsense",
    "--",
    "config nothing",
    "train --nonsense",
    "train --epochs",
    "train --epochs x",
    "train --quiet=3",
    "train a b",
    "train a b(1)",
    "sample",
    "sample z2 --count 0",
    "sample z2 --temperature x",
    "sample z2 -x",
    "manifold z2 --dims 1",
    "manifold z2 --dims 1 x",
    "runs a b",
    "runs rm",
    "export z2",
]


@pytest.mark.parametrize("line", USAGE)
def test_a_wrong_command_line_is_an_error_like_all_others(line: str, vaectl: Vaectl) -> None:
    code, out, err = vaectl(*line.split())
    assert (code, out) == (2, "")
    first, last = err.splitlines()
    assert first.startswith("error: ")
    assert last.startswith("try: ")
    assert "--help" in last or line == "runs a b"
    assert not any(word in err for word in ("Input", "Usage:", "Got", "valid", "Invalid", "╭"))


def test_a_group_alone_prints_its_help(vaectl: Vaectl) -> None:
    for words in ((), ("config",), ("data",)):
        code, out, err = vaectl(*words)
        assert (code, err) == (2, "")
        assert "Usage: " in out


@pytest.mark.parametrize("path", [(), ("runs",), *COMMANDS], ids=" ".join)
def test_the_help_names_no_type_of_a_switch(path: tuple[str, ...], vaectl: Vaectl) -> None:
    code, out, _ = vaectl(*path, "--help")
    assert code == 0
    assert "bool" not in out
    assert "{" not in out.partition("Options")[0]


def test_the_end_of_the_input_is_no_answer(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(""))
    answer = vaectl("runs", "rm", "z2")
    assert answer.code in (0, 130)
    assert "Abort" not in answer.err
    assert (runs / "z2").is_dir()


def test_an_experiment_and_a_comparison_are_told_apart(vaectl: Vaectl) -> None:
    for command, name in (("compare-optimizers", "quickstart"), ("train", "compare/quick")):
        code, _, err = vaectl(command, CONFIGS / f"{name}.yaml")
        assert (code, len(err.splitlines())) == (2, 2)
        assert "comparison" in err
    Path("c.yaml").write_text("optimizers: [adam]\nepochs: 3\n")
    assert "did you mean base.epochs?" in vaectl("compare-optimizers", "c.yaml").err


@pytest.mark.parametrize("given", [["epochs"], 3])
def test_what_is_no_configuration_is_refused_from_python_too(given: Any) -> None:
    with pytest.raises(ConfigError, match=f"cannot be of the type {type(given).__name__}"):
        package.train(given)


def test_keys_may_be_any_mapping_and_one_sink_a_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        package.train(MappingProxyType({"epochs": "many"}), runs_dir=tmp_path)
    with pytest.raises(ConfigError, match="--log nowhere"):
        package.train(sinks="nowhere", runs_dir=tmp_path)


class _Own(Sink):
    """A sink whose check tells that it is used."""

    def check(self) -> None:
        raise ConfigError("used", hint="")

    def open(self, _training: Training) -> Log:
        raise NotImplementedError


@pytest.mark.parametrize("sinks", [_Own(), [_Own()]])
def test_one_sink_needs_no_list(sinks: Any) -> None:
    with pytest.raises(ConfigError, match="used"):
        package.train(sinks=sinks)


@pytest.mark.parametrize("sinks", [_Own, [_Own], 3, [None]])
def test_what_is_no_sink_is_refused(sinks: Any) -> None:
    with pytest.raises(ConfigError, match="is not a sink"):
        package.train(sinks=sinks)


def test_a_configuration_may_be_older_than_a_plug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = config.Config(epochs=2)
    monkeypatch.setattr(Optimizer, "known", {**Optimizer.known, "late": Adam})
    assert not isinstance(old, config.Config)
    given: list[config.Config] = []

    def run(settings: config.Config, **_: object) -> Result:
        given.append(settings)
        return Result(tmp_path, None, None, None)

    monkeypatch.setattr(experiment, "run", run)
    package.train(old, runs_dir=tmp_path)
    assert isinstance(given[0], config.Config)
    assert given[0].epochs == 2
