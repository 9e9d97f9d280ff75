"""What runs cost beside training and validating, as a share of their time.

    python -m tests.benchmarks.overhead RUN...

Compiling, checkpoints, metrics, records and figures: all from the record's start to its end that
metrics.csv does not count. Exits with 1 if it is more than 3 % of a run.
"""

import sys
from datetime import datetime
from pathlib import Path

from vaectl.runs.directory import RunDir

MOST = 0.03


def main(paths: list[str]) -> bool:
    """Print a row a run; return whether none spends too much."""
    print("| run | seconds | training and validation | the rest | share |")
    print("| --- | ---: | ---: | ---: | ---: |")
    within = True
    for run in (RunDir(Path(path)) for path in paths):
        record = run.read_record()
        if record.end is None or record.resumed:
            sys.exit(f"error: {run.name} has not ended, or stood still in between")
        whole = datetime.fromisoformat(record.end) - datetime.fromisoformat(record.start)
        seconds = whole.total_seconds()
        work = sum(row.seconds for row in run.read_metrics())
        share = (seconds - work) / max(seconds, 1.0)
        within &= share <= MOST
        rest = seconds - work
        print(f"| {run.name} | {seconds:.0f} | {work:.1f} | {rest:.1f} | {share:.1%} |")
    return within


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
