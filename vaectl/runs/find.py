"""Finding one run, and listing all runs of a directory."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from vaectl.base.errors import ConfigError, RunError
from vaectl.base.files import LINK, Folder
from vaectl.base.nearest import did_you_mean, did_you_mean_path
from vaectl.base.section import nested
from vaectl.config.schema import Config
from vaectl.objectives.base import label
from vaectl.runs.directory import RunDir, missing_plugs
from vaectl.runs.names import PARTS, STUDIES, is_run
from vaectl.runs.record import Record

MOST_BYTES = 2**30
"""The largest summary.json: that of a sweep has all of its points."""

_MOST_NAMED = 3


class Summary(NamedTuple):
    """A row of `vaectl runs`; unknown values are None."""

    name: str
    status: str
    data: str | None = None
    model: str | None = None
    optimizer: str | None = None
    epoch: int | None = None
    """The epochs that it trained; of several runs the most."""
    epochs: int | None = None
    """The epochs that it is to train; None for a run that was imported."""
    best_quantity: str | None = None
    """The term whose highest value on the validation split marks the best epoch."""
    best_score: float | None = None
    """The best value, in nats per image."""
    start: str | None = None
    problem: str | None = None
    settings: Mapping[str, Any] = {}
    """Its configuration when it started, by dotted path."""
    members: int = 0
    """The number of runs that this row sums up; 0 for a row that is one run."""
    measure: str | None = None
    """The quantity that `best_score` measures; the scores of two runs compare if it is the same."""
    least_epoch: int | None = None
    """The fewest epochs that one of several runs trained."""


UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}
"""Units of an age in seconds, the largest first."""


def find(run: str, runs_dir: Path, *, to_resume: bool = False) -> RunDir:
    """Find a run.

    Args:
        run: a path; a name in `runs_dir`; `latest`, the run that started last, not counting members
            of studies; or STUDY/best, the run that a study's summary.json names.
        runs_dir: the directory of runs.
        to_resume: whether `latest` is the last run that `vaectl train` made, not an imported one.

    Raises:
        RunError: there is no such run.
    """
    if run == "latest":
        return _latest(runs_dir, to_resume=to_resume)
    for path in (runs_dir / run, Path(run)):
        if path.name == "best" and is_study(path.parent) and (best := _best_of(path.parent)):
            return RunDir(best)
        if is_run(path):
            if is_study(path.parent) and path.is_symlink():
                raise RunError(f"{path}: {LINK}", hint="give the path of the run that it points to")
            return RunDir(path)
        if is_study(path):
            raise RunError(f"{path}: a {study_at(path)}, not a run", hint=_members_of(path))
    raise _unknown(run, runs_dir)


def _members_of(study: Path) -> str:
    """List some runs of a study, from its first to its last labels, and their number."""
    names = _runs_in(study)
    if not names:
        return "it has no runs"
    some = names[:: -(-len(names) // _MOST_NAMED)]
    named = ", ".join(f"{study.name}/{name}" for name in ["best"] * bool(_best_of(study)) + some)
    more = ", ..." if len(some) < len(names) else ""
    return f"name one of its {len(names)} runs: {named}{more}"


def _runs_in(study: Path) -> list[str]:
    """Return the names of a study's runs, sorted.

    Raises:
        RunError: its directory cannot be read.
    """
    try:
        return [name for name in Folder(study).names() if is_run(study / name)]
    except OSError as error:
        raise RunError.of(error, study) from None


def _latest(runs_dir: Path, *, to_resume: bool) -> RunDir:
    """Find the run that started last; members of studies and links do not count."""
    paths = _paths(runs_dir)
    own = [name for name, path in paths.items() if "/" not in name and not path.is_symlink()]
    starts = {name: _start(RunDir(paths[name])) for name in own}
    # the latest first, since reading a configuration is much slower than reading a record
    for name in sorted(
        (name for name in own if starts[name]), key=starts.__getitem__, reverse=True
    ):
        row = _summary(name, paths[name])
        if row.start and not (to_resume and row.status == "imported"):
            return RunDir(paths[name])
    hint = "vaectl train makes one"
    if members := [name for name in paths if "/" in name]:
        study = members[0].partition("/")[0]
        kind = study_at(runs_dir / study)
        hint += f"; {members[0]} is a run of the {kind} {study}"
        hint += ", which the command that made it continues" if to_resume else ""
    what = "no run that vaectl train made" if to_resume and own else "no runs in it"
    what += ", except for those of studies" if members else ""
    raise RunError(f"{runs_dir}: {what}{did_you_mean_path(runs_dir)}", hint=hint)


def _start(run: RunDir) -> str:
    """Return when a run started; nothing if it has no readable record."""
    try:
        return run.read_record().start
    except RunError:
        return ""


def _best_of(study: Path) -> Path | None:
    """Return the best run of a study; None if its summary names none that is there."""
    try:
        told = json.loads(Folder(study).read("summary.json", MOST_BYTES))
        best = (told.get("best") or {}).get("run") or told["sides"][0]["best_run"]
        path = study / Path(best).name
        return path if is_run(path) and not path.is_symlink() else None
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return None


def _unknown(run: str, runs_dir: Path) -> RunError:
    """Return the error for a run that does not exist, with the names that are most like it.

    If there is a directory with some files of a run, it says why that is none.
    """
    for path in (runs_dir / run, Path(run)):
        if any(_exists(path / part) for part in PARTS):
            why = _summary(run, path).problem or "files are missing"
            return RunError(
                f"{path}: not a run that can be used: {why}",
                hint="restore what is missing from a copy, or train the run again under another "
                "--name",
            )
    known = list(_paths(runs_dir))
    near = did_you_mean(run, ["latest", *known]) if known else did_you_mean_path(runs_dir)
    shown = "" if runs_dir == Path("runs") else f" --runs-dir {shlex.quote(str(runs_dir))}"
    return RunError(
        f"{run}: no run of that name in {runs_dir}, and no run at that path{near}",
        hint=f"vaectl runs{shown} lists all runs" if known else "vaectl train makes one",
    )


def member_label(path: Path) -> str | None:
    """Return the label of a study's member, its name without the seed; None for other paths.

    A run that was renamed to NAME.1 to make room for a member is not a member.
    """
    member = re.fullmatch(r"(.+)-s\d+", path.name)
    return member[1] if member and is_study(path.parent) else None


def find_all(run: str, runs_dir: Path) -> list[RunDir]:
    """Find a run, or all members of a study: a comparison or a sweep.

    Other runs in a study's directory, such as renamed ones, are not members.

    Args:
        run: as for `find`, or the path or name of a study.
        runs_dir: where runs are kept.

    Raises:
        RunError: there is none.
    """
    for path in (runs_dir / run, Path(run)):
        if is_study(path):
            members = [each for each in _runs_in(path) if member_label(path / each) is not None]
            if not members:
                raise RunError(
                    f"{path}: a {study_at(path)} without runs",
                    hint="the command that made it goes on",
                )
            return [RunDir(path / each) for each in members]
    return [find(run, runs_dir)]


def find_either(run: str, runs_dir: Path) -> Path:
    """Find the directory of a run, as `find` does, or of a study.

    Raises:
        RunError: there is none.
    """
    paths = [path for path in (runs_dir / run, Path(run)) if is_study(path)]
    return paths[0] if paths else find(run, runs_dir).path


def to_remove(names: Sequence[str], runs_dir: Path) -> list[Path]:
    """Find the directories of runs and studies, by names, paths and patterns of names.

    A pattern without a '/' matches runs and studies, but not members of studies. Members of a study
    that is found are not listed again.

    Raises:
        RunError: no run or study has a name, or matches a pattern.
    """
    found: dict[Path, None] = {}
    paths = _paths(runs_dir)
    for name in names:
        if not re.search(r"[*?\[]", name) or _exists(runs_dir / name):
            # a run that cannot be read is removed by its name too, as by a pattern
            found[paths.get(name) or find_either(name, runs_dir)] = None
            continue
        known = list(paths) if "/" in name else _tops(runs_dir, paths)
        matching = [runs_dir / each for each in known if fnmatch.fnmatchcase(each, name)]
        if not matching:
            raise RunError(
                f"{name}: no run in {runs_dir} matches", hint="vaectl runs lists all runs"
            )
        found |= dict.fromkeys(matching)
    places = {path.absolute(): path for path in found}
    return [path for place, path in places.items() if place.parent not in places]


def _tops(runs_dir: Path, names: Iterable[str]) -> list[str]:
    """Name the runs and studies of a directory, without the members of studies.

    Args:
        runs_dir: the directory.
        names: those of all its runs.
    """
    runs = {name for name in names if "/" not in name}
    there = runs_dir.iterdir() if runs_dir.is_dir() else ()
    return sorted({*runs, *(path.name for path in there if is_study(path))})


def is_study(path: Path) -> bool:
    """Tell whether a directory is a comparison or a sweep."""
    return bool(study_at(path))


def study_at(path: Path) -> str:
    """Return the kind of the study in a directory; nothing if there is none.

    It is "study" if the settings are missing.
    """
    found = next((kind for file, kind in STUDIES.items() if _exists(path / file)), "")
    return found or ("study" if _exists(path / "trials") else "")


def refuse_study(runs_dir: Path) -> None:
    """Refuse to put an independent run into the directory of a study.

    Raises:
        ConfigError: there is a study.
    """
    if kind := study_at(runs_dir):
        raise ConfigError(
            f"{runs_dir} is a {kind}, which makes its runs itself",
            hint="choose another --runs-dir",
        )


def refuse_member(run: RunDir) -> None:
    """Refuse to resume a run of a study, which contains its numbers.

    Raises:
        ConfigError: the run belongs to a study.
    """
    study = run.path.resolve().parent
    if kind := study_at(study):
        raise ConfigError(
            f"{run.path} is a run of the {kind} {study.name}, which contains its numbers: it "
            "cannot be resumed",
            hint=f"copy it out of the {kind} and resume the copy, or train its config.yaml under "
            "another --name",
        )


def summaries(
    runs_dir: Path,
    pattern: str = "*",
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Summary]:
    """Summarize every run whose name matches a glob, sorted by name; broken ones have a problem.

    Runs of a study are named NAME/LABEL-sSEED.

    Args:
        runs_dir: the directory of runs.
        pattern: the glob.
        watch: called with the number of runs that were read, and of all.

    Raises:
        RunError: `runs_dir` exists, but cannot be read as a directory.
    """
    named = {
        name: path for name, path in _paths(runs_dir).items() if fnmatch.fnmatch(name, pattern)
    }
    found = []
    for name, path in named.items():
        found.append(_summary(name, path))
        watch(len(found), len(named))
    return found


def _paths(runs_dir: Path) -> dict[str, Path]:
    """Return the paths of all runs by name, broken ones and members of studies among them."""
    try:
        directories = sorted(runs_dir.iterdir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        hint = "give --runs-dir the directory that contains runs"
        raise RunError.of(error, runs_dir, hint=hint) from None
    for study in filter(is_study, list(directories)):
        # one of another user may hide its runs
        with contextlib.suppress(OSError):
            directories += sorted(study.iterdir())
    # directories without any file of a run are not listed
    runs = [path for path in directories if any(_exists(path / part) for part in PARTS)]
    return {path.relative_to(runs_dir).as_posix(): path for path in runs}


def age(start: str, now: datetime) -> str:
    """Return how long ago a run started, in the largest unit that fits."""
    seconds = max((now - datetime.fromisoformat(start)).total_seconds(), 0)
    unit = next((unit for unit, length in UNITS.items() if seconds >= length), "s")
    return f"{seconds // UNITS[unit]:.0f} {unit}"


def _exists(path: Path) -> bool:
    """Tell whether a path exists and is accessible; one that is too long does not exist."""
    try:
        return path.exists()
    except OSError:
        return False


def _summary(name: str, path: Path) -> Summary:
    run = RunDir(path)
    if "/" in name and path.is_symlink():
        return Summary(name, "not a run", problem=LINK)
    try:
        record = run.read_record()
        missing = missing_plugs(record.plugs)
        model, optimizer = _parts(record) if missing else _parts_of(_settings(run, record))
    except RunError as error:
        problem = error.message.splitlines()[0].removeprefix(f"{path}/")
        return Summary(name, "not a run", problem=problem)
    # a process that was killed leaves the status "running", but holds no lock
    killed = record.status == "running" and not run.is_locked()
    needed = ", ".join(map(str, missing))
    return Summary(
        name=name,
        status="killed" if killed else record.status,
        data=record.data["source"],
        model=model,
        optimizer=optimizer,
        epoch=None if record.imported else record.epoch,
        epochs=None if record.imported else record.epochs,
        best_quantity=record.best.quantity if record.best else None,
        best_score=record.best.score if record.best else None,
        measure=_measure(record),
        start=record.start,
        problem=f"needs {needed}, which is not loaded" if needed else None,
        settings=record.settings,
    )


def _settings(run: RunDir, record: Record) -> Config:
    """Return the settings of a run from its record: reading YAML takes 20 times as long.

    Only the existence of config.yaml is checked; its content is read where it is used.

    Raises:
        RunError: config.yaml is missing, or it is broken and the record has no settings, as in runs
            of an older vaectl.
    """
    if "model.name" in record.settings and run.has_config:
        try:
            return Config.model_validate_json(json.dumps(nested(record.settings)))
        except ValueError:  # settings of an older vaectl, or edited ones; config.yaml has them too
            pass
    return run.read_config()


def _measure(record: Record) -> str | None:
    """Say what a run's score measures: by its unit, whether it is a density, and its images."""
    if record.best is None:
        return None
    facts, data = record.metrics, record.data
    parts = [f"{label(record.best.quantity)} in {facts['unit']}", facts["binarization"]]
    if record.best.quantity != "elbo":
        parts.append(facts["estimator"])  # a bound may depend on its number of samples
    images = f"{data['images']['validation']:,} validation images"
    return ", ".join([*parts, f"{images} of data {data['fingerprint'][:12]}"])


def _parts_of(settings: Config) -> tuple[str, str]:
    """Describe the model and the optimizer."""
    model, optimizer = settings.model, settings.optimizer
    rate = optimizer.chosen.learning_rate
    return model.chosen.summary(model.code_size), f"{optimizer.name} {rate:g}"


def _parts(record: Record) -> tuple[str, str]:
    """Describe the model and the optimizer of a run with plugs that are not loaded."""
    said = record.settings
    optimizer = said.get("optimizer.name")
    rate = said.get(f"optimizer.{optimizer}.learning_rate")
    return f"{said.get('model.name')}-{said.get('model.code_size')}", f"{optimizer} {rate}"
