"""How long one waits: for help, for the first epoch, for the first picture.

    python -m tests.benchmarks.startup [--data idx:DIR] [--rounds N]

Every line is a fresh process, the lines of a round run one after another, and medians are printed.
`cold` has no cache of compiled programs, `warm` has one; modules are compiled to bytecode, as pip
leaves them. The last column is the limit, for two idle cores; the exit code is 1 if a median is
above it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vaectl.runs.directory import RunDir

VAECTL = [sys.executable, "-m", "vaectl"]


def _seconds(command: list[str], cache: Path, until: str | None = None) -> float:
    """Return the seconds of a process, or those until a line of its stderr begins so."""
    environment = {**os.environ, "VAECTL_CACHE_DIR": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if until is not None and line.startswith(until):
            break
    else:
        until = None
    taken = time.perf_counter() - start
    process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}")
    return taken if until is not None else time.perf_counter() - start


def _round(data: str, number: int, folder: Path) -> Iterator[tuple[str, float]]:
    warm, cold = folder / "warm", folder / f"cold-{number}"
    runs = ["--runs-dir", str(folder / "runs")]
    epoch = ["--epochs", "1", "--batch-size", "250", "--set", f"data.source={data}"]

    def train(name: str) -> list[str]:
        return [*VAECTL, "train", *epoch, "--name", name, *runs]

    yield "vaectl --help", _seconds([*VAECTL, "--help"], warm)
    bare = _seconds([sys.executable, "-c", "import jax; from flax import nnx"], warm)
    yield "bare import of JAX and Flax", bare
    yield "first epoch, cold", _seconds(train(f"cold-{number}"), cold, "epoch 1/")
    if not warm.exists():
        _seconds(train("first"), warm)
        _seconds([*VAECTL, "sample", "first", *runs], warm)
    yield "first epoch, warm", _seconds(train(f"warm-{number}"), warm, "epoch 1/")
    rows = RunDir(folder / "runs" / f"warm-{number}").read_metrics()
    yield "that epoch alone", sum(row.seconds for row in rows)
    yield "vaectl runs", _seconds([*VAECTL, "runs", *runs], warm)
    yield "vaectl sample, cold", _seconds([*VAECTL, "sample", "first", *runs], cold / "sample")
    yield "vaectl sample, warm", _seconds([*VAECTL, "sample", "first", *runs], warm)


def main() -> bool:
    """Print the table; return whether all is within its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="digits-5k")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, seconds in _round(arguments.data, number, Path(folder)):
                times.setdefault(name, []).append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    limits = {
        "vaectl --help": 0.3,
        "first epoch, cold": 4.5,
        "first epoch, warm": 2.5,
        "vaectl runs": 0.4,
        "vaectl sample, cold": 4.0,
        "vaectl sample, warm": 1.8,
    }
    print("| seconds | median | lowest | highest | limit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, values in times.items():
        limit = f"{limits[name]:.2f}" if name in limits else ""
        print(f"| {name} | {medians[name]:.2f} | {min(values):.2f} | {max(values):.2f} | {limit} |")
    return all(medians[name] <= limit for name, limit in limits.items())


if __name__ == "__main__":
    sys.exit(not main())
