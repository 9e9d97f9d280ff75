"""Completion: what bash, zsh and fish are told, and what is loaded for it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from vaectl.completion import candidates, words
from vaectl.optimizers.base import Optimizer

Complete = Callable[[str], list[str]]
ROOT = Path(__file__).parent.parent
ADA = sorted(name for name in Optimizer.known if name.startswith("ada"))


@pytest.fixture(scope="module")
def known() -> dict[str, object]:
    return words.known()


@pytest.fixture
def complete(known: dict[str, object], runs: Path, monkeypatch: pytest.MonkeyPatch) -> Complete:
    monkeypatch.chdir(runs.parent)
    Path("configs/deep").mkdir(parents=True)
    Path("runs/c").mkdir()
    for name in ("configs/a.yaml", "configs/deep/b.yml", "configs/no.txt", "runs/c/trials"):
        Path(name).write_text("")

    def told(line: str) -> list[str]:
        *before, word = line.split(" ")[1:]
        return [found for found, _ in candidates.find(known, before, word)]

    return told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vaectl tr", ["train"]),
        ("vaectl config s", ["show", "schema"]),
        ("vaectl config v", ["validate"]),
        ("vaectl train --opti", ["--optimizer"]),
        ("vaectl train --optimizer ada", ADA),
        ("vaectl train --optimizer=adag", ["--optimizer=adagrad"]),
        ("vaectl train --model ", ["conv", "mlp"]),
        ("vaectl train --objective i", ["iwae"]),
        ("vaectl train --device c", ["cpu"]),
        ("vaectl train --log t", ["tensorboard", "trackio"]),
        ("vaectl train ", ["configs/a.yaml", "configs/deep/b.yml"]),
        ("vaectl train configs/d", ["configs/deep/b.yml"]),
        ("vaectl train --set likelihood.na", [
            "likelihood.name=",
            *(f"likelihood.name={name}" for name in ("bernoulli", "continuous_bernoulli")),
            *(f"likelihood.name={name}" for name in ("discretized_logistic", "gaussian")),
        ]),
        ("vaectl train --set optimizer.name=ada", [
            *(f"optimizer.name={name}" for name in ADA),
        ]),
        ("vaectl train --set optimizer.adam.nest", [
            *(f"optimizer.adam.nesterov={value}" for value in ("", "true", "false")),
        ]),
        ("vaectl train --set optimizer.mom", [
            *(f"optimizer.momentum={value}" for value in ("", "0.0", "0.9")),
        ]),
        ("vaectl train --set optimizer.warmup_e", []),
        ("vaectl train --set data.source=tfds:m", ["data.source=tfds:mnist"]),
        ("vaectl sweep --vary optimizer.name=ada", [
            *(f"optimizer.name={name}" for name in ADA),
        ]),
        ("vaectl compare-optimizers --set model.co", ["model.code_size=", "model.code_size=20",
            "model.conv.channels=", "model.conv.kernel_size=", "model.conv.hidden_size="]),
        ("vaectl sample ", ["latest", "z2", "z5"]),
        ("vaectl train --resume z", ["z2", "z5"]),
        ("vaectl sample z2 --checkpoint ", ["best", "latest", "3"]),
        ("vaectl sample z2 --checkpoint l", ["latest"]),
        ("vaectl runs r", ["rm"]),
        ("vaectl runs rm ", ["c", "z2", "z5"]),
        ("vaectl runs rm z5 z", ["z2", "z5"]),
        ("vaectl runs rm latest", []),
        ("vaectl runs z", ["z2", "z5"]),
        ("vaectl runs l", []),
        ("vaectl explore z2 z", ["z2", "z5"]),
        ("vaectl curves ", ["latest", "c", "z2", "z5"]),
        ("vaectl curves z2 c", ["c"]),
        ("vaectl export-log c", ["c"]),
        ("vaectl config validate ", ["configs/a.yaml", "configs/deep/b.yml"]),
        ("vaectl config validate configs/a.yaml configs/d", ["configs/deep/b.yml"]),
        ("vaectl morph z2 --width p", ["page"]),
        ("vaectl manifold z2 --range p", ["prior", "posterior"]),
        ("vaectl runs --sort e", ["epochs", "elbo"]),
        ("vaectl sample --runs-dir nowhere ", []),
        ("vaectl nothing ", []),
        ("vaectl sample z2 ", []),
    ],
)  # fmt: skip
def test_values_are_completed(line: str, expected: list[str], complete: Complete) -> None:
    found = complete(line)
    if "model.co" in line:
        assert {"model.code_size="} <= {*found}
    elif line == "vaectl nothing ":
        assert "train" not in found
    else:
        assert found == expected


def test_checkpoints_are_those_of_the_run_that_is_given(
    complete: Complete,
) -> None:
    assert complete("vaectl sample --checkpoint 4")[:1] == ["4"]  # latest: z5 has four epochs
    assert "4" not in complete("vaectl sample z2 --checkpoint ")
    assert "4" in complete("vaectl sample runs/z5 --checkpoint ")
    assert "4" not in complete("vaectl verify z2 --checkpoint ")


def test_members_of_comparisons_and_names_that_need_quotes(
    complete: Complete,
) -> None:
    for name in ("c/adam-s0", "c/sgd-s0", "$(touch x)", "with space", "x`id`"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "run.json").write_text("{}")
    assert complete("vaectl sample c") == ["c/adam-s0", "c/sgd-s0"]
    assert complete("vaectl curves c/") == ["c/adam-s0", "c/sgd-s0"]
    assert complete("vaectl sample ") == ["latest", "z2", "z5"]


def test_a_missing_or_broken_cache_is_made_anew(
    tmp_path: Path, known: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
    file = tmp_path / "completion.json"
    for content in (b"", b"[]", b'{"stamp": []}', b"\xff"):
        file.write_bytes(content)
        assert words.known() == known
        assert json.loads(file.read_bytes()) == known


def test_the_commands_are_built_once_for_all_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each option, the first answer on a machine took three seconds."""
    import typer.main

    from vaectl.cli.words import all_words

    builder = Mock(wraps=typer.main.get_command)
    monkeypatch.setattr(typer.main, "get_command", builder)
    assert all_words()["command"]["commands"]
    builder.assert_called_once()


def _environment(folder: Path) -> dict[str, str]:
    """A `vaectl` of this interpreter on the path, as pip installs one."""
    program = folder / "vaectl"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom vaectl.__main__ import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def _program(shell: str) -> str:
    return shutil.which(shell) or shell


def _script(shell: str) -> str:
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name="vaectl", complete_var="_VAECTL_COMPLETE", shell=shell)


def test_nothing_heavy_is_loaded_for_an_answer(known: dict[str, object], tmp_path: Path) -> None:
    assert known
    command = [sys.executable, "-X", "importtime", "-m", "vaectl"]
    asked = {"_VAECTL_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    asked["COMP_WORDS"] = "vaectl train --optimizer sg"
    environment = {**_environment(tmp_path), **asked}
    for _ in range(2):  # the first answer may have to make the file of words
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "sgd"
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    assert "vaectl" in loaded
    assert not loaded & {"typer", "click", "rich", "pydantic", "numpy", "jax", "ruamel"}


LINES = [
    ("vaectl sample z", ["z2", "z5"]),
    ("vaectl train --set optimizer.name=ada", ADA),
    ("vaectl train --set data.source=tfds:mn", ["mnist"]),
    ("vaectl train --set optimizer.name=", ["adagrad", "adam"]),
    ("vaectl sample z2 --checkpoint ", ["3", "best"]),
]


def test_bash(runs: Path, tmp_path: Path) -> None:
    """Bash splits words at '=' and ':', too, and replaces what stands behind them."""
    calls = ""
    for line, _ in LINES:
        parts = [part for word in line.split(" ") for part in _parts(word)]
        typed = " ".join(map(shlex.quote, parts))
        calls += (
            f"COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
            '_vaectl_completion vaectl; IFS=" "; echo "${COMPREPLY[*]}"; unset IFS\n'
        )
    answers = _answers(tmp_path, runs, "bash", "--norc", f"{_script('bash')}\n{calls}")
    for (line, expected), told in zip(LINES, answers, strict=True):
        assert {*expected} <= {*told.split()}, line
        assert all("=" not in word for word in told.split())


def _answers(cache: Path, runs: Path, shell: str, bare: str, program: str) -> list[str]:
    """What a shell without a person's settings prints, beside the runs."""
    done = subprocess.run(
        [_program(shell), bare, "-c", program],
        env=_environment(cache),
        cwd=runs.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def _parts(word: str) -> list[str]:
    parts = [part for part in re.split(r"([=:])", word) if part]
    return parts or [""]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish(runs: Path, tmp_path: Path) -> None:
    asked = "\n".join(f"complete -C {shlex.quote(line)}; echo --" for line, _ in LINES)
    done = subprocess.run(
        [_program("fish"), "--no-config", "-c", f"{_script('fish')}\n{asked}"],
        env={**_environment(tmp_path), "HOME": str(tmp_path)},
        cwd=runs.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    for (line, expected), told in zip(LINES, done.stdout.split("--\n"), strict=False):
        found = [each.partition("\t")[0] for each in told.splitlines()]
        before = line.rpartition(" ")[2]
        head = before[: max(before.rfind("="), before.rfind(":")) + 1]
        assert {head + each for each in expected} <= {*found}, line


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh(runs: Path, tmp_path: Path) -> None:
    """Its script evaluates the answer, which calls `_arguments`."""
    calls = "".join(
        f"words=({' '.join(shlex.quote(word) for word in line.split(' '))}); CURRENT=$#words; "
        "_vaectl_completion\n"
        for line, _ in LINES
    )
    functions = (
        "compdef() {}; _files() { print files }; _arguments() { print -r -- ${1//$'\\n'/ } }"
    )
    answers = _answers(tmp_path, runs, "zsh", "-f", f"{functions}\n{_script('zsh')}\n{calls}")
    for (line, expected), told in zip(LINES, answers, strict=True):
        assert all(f'{each}"' in told for each in expected), (line, told)
