"""The result of a run, for a person and for a program."""

import json
from pathlib import Path
from typing import NamedTuple

from vaectl.config.meaning import bits_per_dimension
from vaectl.objectives.base import label
from vaectl.runs.metrics import Row
from vaectl.runs.record import Record


class Result(NamedTuple):
    """The result of a run."""

    path: Path
    record: Record
    train: Row
    """The last epoch on the training split."""
    validation: Row
    """The last epoch on the validation split."""

    def summary(self) -> str:
        """Say how good the run is, for a person; the last line is its path."""
        best = self.record.best
        lines = [f"{row.split} {_numbers(row)}" for row in (self.train, self.validation)]
        if best:
            lines[-1] += f", best {label(best.quantity)} {best.score:.2f} at epoch {best.epoch}"
        metrics = self.record.metrics
        if best and (size := self.record.dimensions):
            bits = bits_per_dimension(best.score, size)
            lines[-1] += f", {bits:.4f} bits per dimension"
        lines.append(f"{metrics['unit']}, {metrics['estimator']}, {self.record.meaning}")
        return "\n".join([*lines, str(self.path)])

    def as_json(self) -> str:
        """Return everything as one JSON object, for a program."""
        best, size = self.record.best, self.record.dimensions
        bits = {"bits_per_dimension": bits_per_dimension(best.score, size)} if best and size else {}
        result = {
            "path": str(self.path),
            **self.record.model_dump(mode="json"),
            **bits,
            "train": self.train.flat(),
            "validation": self.validation.flat(),
        }
        return json.dumps(result)


def _numbers(row: Row) -> str:
    """Write the numbers of a row: the first, and the others in parentheses."""
    first, *others = (f"{label(name)} {value:.2f}" for name, value in row.terms.items())
    return first + (f" ({', '.join(others)})" if others else "")
