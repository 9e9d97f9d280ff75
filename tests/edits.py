"""A small comparison, and random edits of its files."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import Happened, Vaectl
from vaectl.cli import steps

SETTINGS = """\
protocol: tuned
base:
  epochs: 2
  data: {train_size: 200, validation_size: 50, test_size: 50}
  model: {hidden_size: 2, code_size: 2, activation: tanh}
optimizers: [adam, sgd]
seeds: 2
tuning: {learning_rates: [1.0e-3, 1.0e+9], growth: 0, seeds: 1}
importance_samples: 2
"""
COMMAND = ("compare-optimizers", "c.yaml", "--name", "c")
C = Path("runs/c")
NEXT = steps.of_study(C, Path("runs"), [], best=True).splitlines()
NOTHING_NEW = "\n".join(["reading digits-5k", "drawing curves", *NEXT, ""])
"""The message of a command that finds all of it done, without the time that it took."""


def untimed(err: str) -> str:
    """Return the stderr of a command without the time that it took."""
    return "".join(line for line in err.splitlines(True) if not line.startswith("time:"))


TIMES = ("seconds_to_target", "seconds_per_step", "seconds_per_epoch", "relative_time")


def numbers(path: Path) -> dict[str, Any]:
    """What is published, but for how long it took."""
    summary: dict[str, Any] = json.loads((path / "summary.json").read_text())
    summary.pop("loaded", None)
    for side in summary["sides"]:
        for name in TIMES:
            side.pop(name, None)
    return summary


def published(path: Path) -> tuple[str, ...]:
    names = ("summary.json", "report.html", "trials.csv", "curves.csv")
    return tuple((path / name).read_text() for name in names)


def _flip(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) or 1)
    flipped = bytes([(content or b"x")[at] ^ 1 << chance.randrange(8)])
    return content[:at] + flipped + content[at + 1 :]


def _duplicate_line(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b"\n"]
    at = chance.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def _change_digit(content: bytes, chance: random.Random) -> bytes:
    places = [i for i, byte in enumerate(content) if byte in b"0123456789"]
    if not places:
        return content
    at = chance.choice(places)
    return content[:at] + chance.choice(b"0123456789").to_bytes() + content[at + 1 :]


WORDS = (b"finished", b"diverged", b"failed", b"running", b"tuning", b"result", b"train", b"test")


def _change_word(content: bytes, chance: random.Random) -> bytes:
    known = [word for word in WORDS if word in content]
    return content.replace(chance.choice(known), chance.choice(WORDS)) if known else content


EDITS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "a flipped bit": _flip,
    "cut off": lambda content, chance: content[: chance.randrange(len(content) or 1)],
    "a line twice": _duplicate_line,
    "a digit": _change_digit,
    "a status": _change_word,
    "deleted": lambda *_: None,
}


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _kind(file: Path) -> str:
    """Files of a kind are as likely together as those of another: most are of checkpoints."""
    parts = file.relative_to(C).parts
    if "checkpoints" in parts and len(parts) > 3:
        return "checkpoint"
    if parts[0] == "trials":
        return "test" if ".test." in file.name else "trial"
    return file.name if len(parts) == 1 or parts[0] != "figures" else "figure"


def _name(file: Path) -> str:
    """What a message says of a file: one of a checkpoint is named by its directory."""
    parts = file.parts
    at = parts.index("checkpoints") if "checkpoints" in parts else len(parts)
    return str(Path(*parts[: at + 2])).removesuffix(".json") if at < len(parts) else str(file)


def _edits(chance: random.Random) -> Iterator[tuple[str, list[Path]]]:
    """Make a random edit in the comparison; yield its kind and the files, once it changed one."""
    by_kind: dict[str, list[Path]] = {}
    for file in sorted(path for path in C.rglob("*") if path.is_file()):
        by_kind.setdefault(_kind(file), []).append(file)
    while True:
        what = chance.choice([*EDITS, "two files swapped"])
        one, other = (chance.choice(by_kind[chance.choice([*by_kind])]) for _ in range(2))
        before = one.read_bytes()
        if what == "two files swapped":
            if before != other.read_bytes():
                swap(one, other)
                yield what, [one, other]
            continue
        after = EDITS[what](before, chance)
        if after is None:
            one.unlink()
        elif after == before:
            continue
        else:
            one.write_bytes(after)
        yield what, [one]


def drill(seed: int, finished: Path, vaectl: Vaectl, happened: Happened) -> None:
    """Edit a comparison at random: what is published stays the same, or the file is named."""
    shutil.rmtree(C, ignore_errors=True)
    shutil.copytree(finished, C)
    Path("c.yaml").write_text(SETTINGS)
    what, edited = next(_edits(random.Random(seed)))  # noqa: S311
    answer = vaectl(*COMMAND)
    told = f"{seed}: {what}: {[*map(str, edited)]}: {answer.code}\n{answer.err}"
    assert answer.code in (0, 2, 4), told
    assert "Traceback" not in answer.err, told
    named = [file for file in edited if _name(file) in answer.out + answer.err]
    if answer.code:
        assert named, told
        assert "\ntry: " in answer.err, told
    if answer.code != 2:  # else nothing is published
        same = numbers(C) == numbers(finished)
        assert same or (answer.code == 4 and named == edited), told
        assert named or published(C) == published(finished), told
    if answer.code == 0:  # what was mended is mended
        code, _, err = vaectl(*COMMAND)
        assert (code, untimed(err)) == (0, NOTHING_NEW), told
    happened("an edited comparison", what)
