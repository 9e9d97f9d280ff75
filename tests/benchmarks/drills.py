"""Drills: kill workers, drivers and machines of small studies at random moments; nothing is lost.

    python -m tests.benchmarks.drills [--executor processes:2|ray] [--kills N] [--seed N] [--apart]

Runs a small sweep once undisturbed, and then again and again until there were so many kills, all by
SIGKILL. A driver that was killed is started again, as a person would. Every sweep must come to
what the undisturbed one came to: the same numbers, checkpoints and trials, the tables and the page,
nothing else in its folder, and no process left. With `ray` the workers are on two machines of a
cluster, played by processes of this one; a machine that is killed comes back a moment later. With
`--apart` workers do not see the sweep's folder, and hand their runs over.

Prints a line for each sweep and a table of all: kills by kind, how often members began, and how
many epochs were trained again because what had been saved was older.
"""

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import vaectl
from tests.conftest import assert_equal_runs
from vaectl.base import seals

MARK = "VAECTL_DRILL"
"""The variable by which the processes of a drill are known."""
PAUSE = 3.0
"""The most seconds from the moment at which something trains again to the next kill."""
ANY_MOMENT = 0.2
"""The share of kills at any other moment: while workers start, or all is published."""
SETTINGS = """\
base:
  data: {train_size: 200, validation_size: 60, test_size: 30}
  model: {hidden_size: 8, code_size: 2}
  batch_size: 100
  epochs: 150
  checkpoint: {every: 20}
vary: {optimizer.name: [adam, sgd], model.hidden_size: [8, 9]}
seeds: 2
importance_samples: 2
"""
EPOCHS, STEPS = 150, 2
"""Of a member; of an epoch."""


class Drill(NamedTuple):
    """A sweep that was disturbed."""

    kills: Counter[str]
    began: int
    """How often members began or went on."""
    again: int
    """Epochs that were trained more than once."""
    seconds: float
    wrong: str
    """Why it differs from the undisturbed one; empty if it does not."""


class Processes:
    """Victims of the executor `processes`."""

    kinds: tuple[str, ...] = ("worker", "driver")

    def __init__(self, executor: str) -> None:
        self.executor = executor

    def kill(self, kind: str, driver: subprocess.Popen[bytes], chance: random.Random) -> bool:
        """Kill one; False if there is none."""
        if kind == "driver":
            driver.kill()
            driver.wait()
            return True
        return _kill(_workers(), chance)


class Ray(Processes):
    """Victims of the executor `ray`: also the actors, and machines with their object store."""

    kinds = ("worker", "actor", "machine", "driver")

    def __init__(self, cluster: Any) -> None:
        super().__init__(f"ray:{cluster.address}")
        self._cluster = cluster
        self._nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()

    def kill(self, kind: str, driver: subprocess.Popen[bytes], chance: random.Random) -> bool:
        """Kill one; False if there is none."""
        if kind == "actor":
            return _kill(_of_parent("ray::Relay"), chance)
        if kind != "machine":
            return super().kill(kind, driver, chance)
        node = self._nodes.pop(chance.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        time.sleep(1)
        self._nodes.append(self._cluster.add_node(num_cpus=1))
        return True


def _ours(pid: int) -> bool:
    with suppress(OSError):
        wanted = f"{MARK}={os.environ[MARK]}".encode()
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield the number, the parent and the command of each process of this machine."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError, IndexError):
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = (file.parent / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                yield int(file.parent.name), int(fields[1]), command


def _workers() -> list[int]:
    return [pid for pid, _, said in _processes() if "spawn_main" in said and _ours(pid)]


def _of_parent(words: str) -> list[int]:
    """Return processes that have changed their title, and with it their environment."""
    return [pid for pid, parent, said in _processes() if words in said and _ours(parent)]


def _kill(victims: list[int], chance: random.Random) -> bool:
    if victims:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(victims), signal.SIGKILL)
            return True
    return False


@contextmanager
def victims(executor: str) -> Iterator[Processes]:
    """Yield who can be killed; with Ray, while a cluster of its own is up."""
    if executor != "ray":
        yield Processes(executor)
        return
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield Ray(cluster)
    finally:
        cluster.shutdown()


def drive(folder: Path, name: str, executor: str, apart: bool) -> None:
    """Run the sweep in this process, and note how members begin, train and end."""
    from vaectl import executors
    from vaectl.members import worker
    from vaectl.sweeps import plan, publish, run
    from vaectl.training.events import Event, Started, Warned
    from vaectl.training.fit import Epoch

    if apart:
        facts: Callable[..., Any] = worker.facts

        @contextmanager
        def elsewhere(*arguments: Any) -> Iterator[worker.Facts]:
            with facts(*arguments) as found:
                yield found._replace(folder=str(folder / "nowhere"))

        worker.facts = elsewhere  # type: ignore[assignment]
    with (folder / f"{name}.jsonl").open("a") as log:

        def watch(event: Event) -> None:
            match event:
                case Started(member, step=step):
                    said: Any = {"began": member, "epoch": step / STEPS}
                case Epoch(member=member, epoch=epoch):
                    said = {"trained": member, "epoch": epoch}
                case Warned(text):
                    said = {"warned": text}
                case _:
                    return
            print(json.dumps(said), file=log, flush=True)

        result = run.run(
            plan.load(folder / "sweep.yaml"),
            runs_dir=folder,
            name=name,
            executor=executors.parse(executor),
            watch=watch,
        )
        publish.publish(result, watch)
        result.check()


def _start(folder: Path, name: str, executor: str, apart: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.benchmarks.drills", "--executor", executor]
    command += ["--drive", str(folder / name), *["--apart"] * apart]
    root = str(Path(vaectl.__file__).parent.parent)
    with (folder / f"{name}.err").open("ab") as err:
        return subprocess.Popen(
            command,
            stderr=err,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(folder / "tmp")},
        )


def disturb(
    folder: Path,
    name: str,
    who: Processes,
    most: int,
    chance: random.Random,
    *,
    apart: bool = False,
) -> Drill:
    """Run the sweep until it is done, with so many kills at most."""
    kills: Counter[str] = Counter()
    log = folder / f"{name}.jsonl"
    begin = time.monotonic()
    driver = _start(folder, name, who.executor, apart)
    starts = 1
    try:
        while True:
            killed = False
            if kills.total() < most:
                before = _size(log) if chance.random() > ANY_MOMENT else -1
                while driver.poll() is None and _size(log) == before:
                    time.sleep(0.01)
                pause = time.monotonic() + chance.uniform(0, PAUSE)
                while driver.poll() is None and time.monotonic() < pause:
                    time.sleep(0.01)
                kind = chance.choice(who.kinds)
                while driver.poll() is None and not killed:
                    killed = who.kill(kind, driver, chance)
                    time.sleep(0.01)
                kills[kind] += killed
            else:
                driver.wait(timeout=600)
            if driver.poll() is not None:
                if driver.returncode == 0:
                    break
                # killed; or members were given up, which another try takes up again
                if starts > most + 5 or driver.returncode not in (-signal.SIGKILL, 4):
                    err = (folder / f"{name}.err").read_text()[-2000:]
                    return Drill(kills, 0, 0, 0.0, f"ended with {driver.returncode}: {err}")
                driver = _start(folder, name, who.executor, apart)
                starts += 1
    finally:
        driver.kill()
    seconds = time.monotonic() - begin
    began, again = _attempts(log)
    return Drill(kills, began, again, seconds, _difference(folder, name))


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _attempts(log: Path) -> tuple[int, int]:
    """Return how often members began, and how many epochs were trained more than once."""
    began, trained = 0, Counter[tuple[str, int]]()
    for line in log.read_text().splitlines():
        with suppress(json.JSONDecodeError):  # the last one of a driver that was killed
            said = json.loads(line)
            began += "began" in said
            if "trained" in said:
                trained[said["trained"], said["epoch"]] += 1
    return began, sum(count - 1 for count in trained.values())


def _difference(folder: Path, name: str) -> str:
    """Say how a sweep differs from the undisturbed one, and what it has left behind."""
    ours, theirs = folder / name, folder / "undisturbed"
    deadline = time.monotonic() + 30
    while _workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [f"process {pid}" for pid in _workers()]
    left += [str(path) for path in (folder / "tmp").glob("vaectl-workers-*/*")]
    here, there = ({*_names(top)} for top in (ours, theirs))
    if here != there:
        left += [f"+{path}" for path in sorted(here - there)]
        left += [f"-{path}" for path in sorted(there - here)]
    if left:
        return f"left behind or gone: {', '.join(left[:20])}"
    try:
        for run in sorted(path.parent for path in theirs.glob("*/run.json")):
            assert_equal_runs(ours / run.name, run)
        for file in (theirs / "trials").iterdir():
            assert _sealed(ours / "trials" / file.name) == _sealed(file), file.name
    except (AssertionError, ValueError) as error:
        return f"differs: {error}"[:2000]
    return ""


def _names(top: Path) -> Iterator[str]:
    """Yield the paths below a folder, without checkpoints: which ones are kept besides the latest
    and the best depends on when a run was cut off, and Orbax names files by chance."""
    for path in top.rglob("*"):
        parts = path.relative_to(top).parts
        at = parts.index("checkpoints") + 1 if "checkpoints" in parts else len(parts)
        if at >= len(parts) or not parts[at].removesuffix(".json").isdigit():
            yield str(Path(*parts))


def _sealed(file: Path) -> dict[str, Any]:
    """Return what a trial says, without times, its place in the order, and its files."""
    content = file.read_bytes()
    seals.check(content)
    found: dict[str, Any] = json.loads(content)
    for key in ("seal", "number", "files", "checkpoint"):
        found.pop(key, None)
    for row in found.get("rows", []):
        row.pop("seconds") if isinstance(row, dict) else row.pop()
    found.get("evaluation", {}).pop("seconds", None)
    return found


def main(executor: str, kills: int, seed: int, apart: bool) -> int:
    """Run the drills; return how many sweeps were not equal."""
    os.environ[MARK] = secrets.token_hex(16)
    chance = random.Random(seed)  # noqa: S311  # no secret
    drills: list[Drill] = []
    with tempfile.TemporaryDirectory(prefix="drills-") as top, victims(executor) as who:
        folder = Path(top)
        (folder / "tmp").mkdir()
        (folder / "sweep.yaml").write_text(SETTINGS)
        undisturbed = disturb(folder, "undisturbed", who, 0, chance, apart=apart)
        print(f"undisturbed: {undisturbed.seconds:.0f} s {undisturbed.wrong}", flush=True)
        if undisturbed.wrong:
            return 1
        while (left := kills - sum(drill.kills.total() for drill in drills)) > 0:
            name = f"s{len(drills) + 1}"
            found = disturb(folder, name, who, min(left, 10), chance, apart=apart)
            drills.append(found)
            told = ", ".join(f"{count} {kind}" for kind, count in found.kills.items()) or "none"
            print(
                f"{name}: killed: {told}; members began {found.began} times, {found.again} epochs "
                f"trained again, {found.seconds:.0f} s: {found.wrong or 'equal'}",
                flush=True,
            )
            if found.wrong:
                keep = Path(tempfile.gettempdir()) / f"{folder.name}-{name}"
                subprocess.run(["cp", "-r", folder, keep], check=False)  # noqa: S607
                print(f"kept: {keep}", flush=True)
    total = sum((drill.kills for drill in drills), Counter[str]())
    print()
    print("| executor | " + " | ".join(f"{kind}s killed" for kind in who.kinds), end="")
    print(" | sweeps | members began, of | epochs again, of | equal |")
    print("| --- |" + " ---: |" * (len(who.kinds) + 4))
    members = 8 * len(drills)
    print(
        f"| {executor}{', apart' * apart} | "
        + " | ".join(str(total[kind]) for kind in who.kinds)
        + f" | {len(drills)} | {sum(d.began for d in drills)}, {members} "
        f"| {sum(d.again for d in drills)}, {members * EPOCHS} "
        f"| {sum(not d.wrong for d in drills)} |"
    )
    return sum(bool(drill.wrong) for drill in drills)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--executor", default="processes:2")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        from vaectl.base.errors import VaectlError

        try:
            drive(given.drive.parent, given.drive.name, given.executor, given.apart)
        except VaectlError as error:
            sys.exit(error.exit_code if not print(error, file=sys.stderr) else 1)
        sys.exit()
    sys.exit(main(given.executor, given.kills, given.seed, given.apart))
