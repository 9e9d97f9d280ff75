"""A sink of your own: the results of a training as JSON, one line for each epoch, as a plug.

    vaectl train --plugin configs/examples/json_lines.py --log json_lines
    vaectl export-log NAME --plugin configs/examples/json_lines.py --to json_lines:file=all.jsonl

It works in a thread beside the training. Any exception disables it, and the training goes on.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from vaectl.sinks.base import Log, Results, Sink, Status, Training


class JSONLines(Sink, name="json_lines"):
    """A file in the run directory, with a line for each epoch."""

    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {"": {r".*\.jsonl": rb'\{"epoch": '}}
    """Its files, which are removed with the run: folder, form of the names, and how they begin."""

    file: str = "results.jsonl"
    """The name of the file."""

    def open(self, training: Training) -> Log:
        """Begin the file; if a training is resumed, keep the lines of earlier epochs."""
        path = training.directory / self.file
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        path.write_text("".join(_before(lines, training.step)))
        return _Lines(path)


def _before(lines: Iterable[str], step: int) -> Iterator[str]:
    """Yield the lines up to a step; a crash may have cut off the last line in the file."""
    for line in lines:
        try:
            after = json.loads(line)["step"] > step
        except ValueError:
            return
        if not after:
            yield line


class _Lines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def write(self, results: Results) -> None:
        """Add a line, such as {"epoch": 1, "step": 50, "train": {"elbo": -90.1, ...}, ...}."""
        line = {"epoch": results.epoch, "step": results.step}
        terms = {row.split: dict(row.terms) for row in results.rows}
        print(json.dumps({**line, **terms}), file=self._file, flush=True)

    def close(self, status: Status) -> None:
        """Close the file."""
        del status
        self._file.close()
