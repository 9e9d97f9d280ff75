"""Help: every command ends with examples, and each of them is understood."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

import vaectl.cli  # noqa: F401  # registers the commands
from tests.conftest import Vaectl
from vaectl.cli.app import app


def _commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if path and (not below or command.invoke_without_command):
        yield " ".join(path), command
    for name, each in below.items():
        yield from _commands(each, *path, name)


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _examples(command: Any) -> list[str]:
    lines = (command.epilog or "").split("\n\n")[1:]
    return [line.strip().replace("\\[", "[") for line in lines]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_examples_which_it_understands(name: str) -> None:
    examples = _examples(COMMANDS[name])
    assert examples
    for example in examples:
        program, *arguments = shlex.split(example.partition(" > ")[0], comments=True)
        assert program == "vaectl"
        assert " ".join(arguments).startswith(name)
        context = typer.main.get_command(app)
        while arguments:  # as the command line, without doing anything
            command: Any = context
            inner = command.make_context("vaectl", list(arguments))
            arguments = []
            while (
                rest := [*inner._protected_args, *inner.args]
                if hasattr(inner, "_protected_args")
                else inner.args
            ):
                _, below, rest = inner.command.resolve_command(inner, rest)
                inner = below.make_context(below.name, rest, parent=inner)


@pytest.mark.parametrize("name", ["train", "runs", "runs rm"])
def test_examples_end_the_help(name: str, vaectl: Vaectl) -> None:
    answer = vaectl(*name.split(), "--help")
    assert answer.code == 0
    _, _, end = answer.out.partition("Examples")
    assert all(each in " ".join(end.split()) for each in _examples(COMMANDS[name]))
    assert "Example:" not in answer.out
