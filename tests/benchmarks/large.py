"""What a sweep of many members costs its driver: planner, ledger and report, without training.

    python -m tests.benchmarks.large [MEMBERS ...] [--epochs N]

Runs sweeps of 100, 1,000 and 10,000 members, unless numbers are given, by an executor of 1,000
workers whose members take no time: each result is that of one member that was really trained, with
other scores. The planner, the ledger, the summary and the page are the real ones. Each sweep has a
process of its own.

Prints a row for each: the seconds to make the plan; the driver's CPU time for all members and for
one, without the imitation and without the moment of training for the estimate; the whole time of
that, in which the disk is waited for; the seconds to publish the results; the most memory; and the
sizes of the sealed trials and of the page.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.base import memory, seals
from vaectl.executors.base import Executor, Surroundings
from vaectl.members import job as jobs
from vaectl.members.job import Done, Job
from vaectl.runs import metrics
from vaectl.runs.record import Best, Device, Record
from vaectl.studies.estimate import Estimate
from vaectl.sweeps import plan, publish, run
from vaectl.sweeps.axes import DRAW
from vaectl.training.events import Event

WORKERS = 1_000


class Imagined(Executor, name="imagined"):
    """Members that end at once, with the results of a trained one and other scores."""

    @contextmanager
    def open(self, surroundings: Surroundings) -> Iterator["_Pool"]:
        """Train one member, and open a pool that imitates it."""
        yield _Pool(surroundings)


class _Pool:
    most = 1
    imitating = 0.0, 0.0
    """Seconds, and seconds of CPU time, that the imitation took."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._done: deque[Done] = deque()
        self._first: Done | None = None
        self._random = np.random.default_rng(0)

    @property
    def room(self) -> int:
        return WORKERS - len(self._done)

    @property
    def place(self) -> Device:
        return self._surroundings.task.place

    def submit(self, job: Job) -> None:
        begin, cpu = time.perf_counter(), time.process_time()
        self._submit(job)
        so_far, so_far_cpu = _Pool.imitating
        taken, ran = time.perf_counter() - begin, time.process_time() - cpu
        _Pool.imitating = so_far + taken, so_far_cpu + ran

    def _submit(self, job: Job) -> None:
        if self._first is None:
            task, folder, _, stopping = self._surroundings
            for message in jobs.train(job, task, folder, stopping):
                if isinstance(message, Done):
                    self._first = message
            assert self._first is not None
            self._done.append(self._first)
            return
        self._done.append(self._imitated(job[0]))

    def _imitated(self, wanted: jobs.Wanted) -> Done:
        first, shift = self._first, float(self._random.normal(0, 10))
        assert first is not None
        rows = [
            row._replace(terms={**row.terms, "nll": row.terms["nll"] - shift}) for row in first.rows
        ]
        rows = [
            row._replace(terms={**row.terms, "elbo": -row.terms["nll"] - row.terms["kl"]})
            for row in rows
        ]
        best = max(rows[1::2], key=lambda row: row.terms["elbo"])
        files = dict(first.files)
        record = Record.model_validate_json(files["run.json"])
        record = record.model_copy(
            update={
                "seed": wanted.settings.seed,
                "best": Best(epoch=best.epoch, score=best.terms["elbo"], quantity="elbo"),
            }
        )
        files["run.json"] = json.dumps(seals.sealed(record.model_dump(mode="json")))
        names = files["metrics.csv"].partition("\n")[0].split(",")[len(metrics.FIRST) : -1]
        files["metrics.csv"] = metrics.header(names) + metrics.lines(rows, names)
        for name in [name for name in files if name.startswith("checkpoints/")]:
            info = json.loads(files[name])
            info.pop("seal")
            info["score"] = rows[2 * info["epoch"] - 1].terms["elbo"]
            files[name] = json.dumps(seals.sealed(info))
        return Done(wanted.name, rows, "", files)

    def receive(self) -> Event | Done | None:
        return self._done.popleft() if self._done else None


def measure(members: int, epochs: int) -> dict[str, Any]:
    """Return the seconds and the memory of a sweep of about so many members."""
    found: dict[str, Any] = {}
    clock, cpu = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal clock, cpu
        now, ran = time.perf_counter(), time.process_time()
        found[name], found[f"{name} cpu"] = now - clock, ran - cpu
        clock, cpu = now, ran

    points = members // 2
    axis = {
        DRAW: points,
        "optimizer.learning_rate": {"low": 1e-5, "high": 1e-1, "scale": "log"},
        "optimizer.weight_decay": {"low": 0.0, "high": 1.0},
        "optimizer.clip_norm": {"low": 1.0, "high": 1000.0, "scale": "log"},
    }
    estimate = Estimate(members, members, members * epochs, 0.0, 0)
    vars(run)["estimate"] = lambda *_: estimate  # without the moment of training
    settings = plan.load(more=[axis], options={"seeds": 2, "base.epochs": epochs})
    lap("plan")
    with tempfile.TemporaryDirectory() as folder:
        runs_dir, executor = Path(folder), Imagined()
        result = run.run(settings, runs_dir=runs_dir, name="s", executor=executor)
        lap("run")
        for name, seconds in zip(("run", "run cpu"), _Pool.imitating, strict=True):
            found[name] -= seconds
        publish.publish(result)
        lap("publish")
        path = runs_dir / "s"
        found["page"] = (path / "report.html").stat().st_size
        found["trials"] = sum(file.stat().st_size for file in (path / "trials").iterdir())
    return {"members": len(settings.trials), "memory": memory.peak(), **found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("members", nargs="*", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.members[0], given.epochs)))
        sys.exit()
    heads = ["members", "plan, s", "driver's CPU, s", "ms a member", "run, s", "publish, s"]
    heads += ["memory, MB", "trials, MB", "page, MB"]
    print("|", " | ".join(heads), "|")
    print("|", " | ".join("---:" for _ in heads), "|")
    for count in given.members:
        command = [sys.executable, "-m", "tests.benchmarks.large", str(count), "--one"]
        command += ["--epochs", str(given.epochs)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(answer.stdout)
        cells = [f"{row['members']:,}"]
        cells += [f"{row[name]:.1f}" for name in ("plan", "run cpu")]
        cells += [f"{1000 * row['run cpu'] / row['members']:.1f}"]
        cells += [f"{row[name]:.1f}" for name in ("run", "publish")]
        cells += [f"{row['memory'] / 1e6:.0f}"]
        cells += [f"{row[name] / 1e6:.1f}" for name in ("trials", "page")]
        print("|", " | ".join(cells), "|", flush=True)
