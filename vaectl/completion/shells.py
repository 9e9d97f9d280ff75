"""The protocol of the scripts that Typer installs: how shells ask, and how they are answered."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Candidate = tuple[str, str]
"""A word that may stand at the cursor, and its description."""


class Shell(NamedTuple):
    """One shell."""

    typed: Callable[[], tuple[list[str], str]]
    """Return the words between `vaectl` and the cursor, and the beginning of the word there."""
    told: Callable[[Sequence[Candidate]], tuple[str, int]]
    """Return what to print, and the exit code."""


def split(text: str) -> list[str]:
    """Split at spaces as a shell does; the last quotation may be unfinished."""
    import shlex

    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[str] = []
    try:
        found += lexer
    except ValueError:  # the quotation at the cursor
        found.append(lexer.token)
    return found


def _line() -> tuple[list[str], str]:
    line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
    words = split(line)[1:]
    if words and not line[-1:].isspace():
        return words[:-1], words[-1]
    return words, ""


def _bash_words() -> tuple[list[str], str, str]:
    """Return the words before the cursor, the word there, and the prefix that bash split off it.

    Bash splits `--set data.source=SCHEME:REST` at '=' and ':' too: six words.
    """
    parts = split(os.environ["COMP_WORDS"])
    cursor = int(os.environ["COMP_CWORD"])
    parts = [*parts[:cursor], parts[cursor] if cursor < len(parts) else ""]
    words: list[str] = []
    held, open_ = "", False
    for part in parts[1:]:
        breaks = re.fullmatch("[=:]+", part) is not None
        if words and (breaks or open_):
            held = words[-1] + (part if breaks else "")
            words[-1] += part
        else:
            held = ""
            words.append(part)
        open_ = breaks
    return words[:-1], (words or [""])[-1], held


def _bash_typed() -> tuple[list[str], str]:
    before, word, _ = _bash_words()
    return before, word


def _bash(found: Sequence[Candidate]) -> tuple[str, int]:
    _, _, held = _bash_words()
    return "\n".join(word.removeprefix(held) for word, _ in found), 0


def _zsh(found: Sequence[Candidate]) -> tuple[str, int]:
    def quoted(text: str) -> str:
        return re.sub(r"""([\\"$`])""", r"\\\1", text).replace("'", " ").replace(":", r"\\:")

    listed = [
        f'"{quoted(word)}":"{quoted(told)}"' if told else f'"{quoted(word)}"'
        for word, told in found
    ]
    return (f"_arguments '*: :(({chr(10).join(listed)}))'" if found else "_files"), 0


def _fish(found: Sequence[Candidate]) -> tuple[str, int]:
    if os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return "", 0 if found else 1  # 1: fish completes files
    return "\n".join(f"{word}\t{told}" if told else word for word, told in found), 0


SHELLS = {
    "bash": Shell(_bash_typed, _bash),
    "zsh": Shell(_line, _zsh),
    "fish": Shell(_line, _fish),
}
"""All shells, by the name in a script's instruction."""
