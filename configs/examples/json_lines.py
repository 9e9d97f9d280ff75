"""A sink of your own: the results of a training as JSON, one line for each epoch, as a plug.

    vaectl train --plugin configs/examples/json_lines.py --log json_lines
    vaectl export-log NAME --plugin configs/examples/json_lines.py --to json_lines:file=all.jsonl

It works in a thread beside the training. Any exception disables it, and the training goes on.
"""

import json
from pathlib import Path

from vaectl.sinks.base import Log, Results, Sink, Status, Training


class JSONLines(Sink, name="json_lines"):
    """A file in the run directory, with a line for each epoch."""

    file: str = "results.jsonl"
    """The name of the file."""

    def open(self, training: Training) -> Log:
        """Begin the file; if a training is resumed, keep the lines of earlier epochs."""
        path = training.directory / self.file
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        before = [line for line in lines if json.loads(line)["step"] <= training.step]
        path.write_text("".join(before))
        return _Lines(path)


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
