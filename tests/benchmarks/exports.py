"""Size, difference from the run, and time of each export format: the table in the manual.

The manual is vaectl/exports/README.md.

    python -m tests.benchmarks.exports [RUN ...]

Without runs it trains two: the built-in default, and a convolutional model of grey levels.
"""

import sys
import tempfile
from pathlib import Path

from vaectl import config, experiment, export
from vaectl.exports.base import ALL, parse
from vaectl.runs.directory import RunDir
from vaectl.runs.trained import load

RUNS: dict[str, dict[str, object]] = {
    "default": {},
    "conv": {
        "epochs": 10,
        "data": {"binarization": "none"},
        "model": {"name": "conv"},
        "likelihood": {"name": "continuous_bernoulli"},
    },
}


def main(paths: list[Path]) -> None:
    print("| run | format | bytes | difference of encode | of decode | seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        runs = [RunDir(path) for path in paths] or [
            RunDir(
                experiment.run(
                    config.Config.model_validate(settings), runs_dir=Path(folder), name=name
                ).path
            )
            for name, settings in RUNS.items()
        ]
        for run in runs:
            result = export.export(load(run), parse([ALL]), Path(folder, "export", run.name))
            result.check()
            for each in result.exported:
                found = each.differences
                numbers = (f"{found.encode:.1e}", f"{found.decode:.1e}") if found else ("", "")
                print(
                    f"| {run.name} | {each.format} | {each.bytes:,} | {' | '.join(numbers)} "
                    f"| {each.seconds:.1f} |"
                )


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
