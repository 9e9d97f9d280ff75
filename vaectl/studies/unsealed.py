"""Conversion of comparisons from before trials were sealed: check their tables, and seal them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from vaectl.base.errors import VaectlError
from vaectl.base.files import Folder
from vaectl.config import reading
from vaectl.members.places import FILES, MOST_BYTES, checkpoint_file, unwritable
from vaectl.runs.metrics import Row
from vaectl.runs.saved import kept
from vaectl.studies import views
from vaectl.studies.ended import Ended, Outcome
from vaectl.studies.ledger import FOLDER, write_sealed
from vaectl.studies.trial import Trial

IMPORTING = f".{FOLDER}"
"""The folder of the sealed trials until all of them are sealed."""


def seal(directory: Folder, tell: Callable[[str], None]) -> set[str]:
    """Make trials/ where it is missing, with the trials that trials.csv and curves.csv have.

    A trial of the result must agree with its run; otherwise it is left out and trained again. For a
    trial of the tuning, the tables are the only source.

    Args:
        directory: of the comparison.
        tell: told of what is taken on trust, and of what is left out.

    Returns:
        The keys of what is left out.

    Raises:
        RunError: a file cannot be read or written, or is broken.
    """
    try:
        if directory.kind(FOLDER):
            return set()
        outcomes, curves = views.read(directory, tell)
        importing = directory.folder(IMPORTING)
        importing.make()
        trusted, left_out = 0, set()
        for number, (key, outcome) in enumerate(outcomes.items(), 1):
            try:
                trial = _ended(directory, outcome, curves[key], number)
            except (ValueError, VaectlError, OSError) as error:
                tell(
                    f"{directory.path / 'trials.csv'}: {outcome.label}, learning rate "
                    f"{outcome.learning_rate:g}, seed {outcome.seed}: does not agree with "
                    f"curves.csv or with its run ({_reason(error)}): it is trained again"
                )
                left_out.add(key)
                continue
            trusted += trial.stage == "tuning"
            write_sealed(importing, f"{key}.json", trial)
        directory.rename(IMPORTING, FOLDER)
    except OSError as error:
        raise unwritable(error) from None
    if trusted:
        tell(
            f"{directory.path}: {trusted} trials of the tuning were written before trials were "
            "sealed, and are taken as trials.csv and curves.csv have them"
        )
    return left_out


def _ended(directory: Folder, outcome: Outcome, rows: Sequence[Row], number: int) -> Ended:
    """A trial as it is sealed.

    Raises:
        ValueError: what is known of it does not agree.
        VaectlError: its configuration or its checkpoints cannot be read.
        OSError: its run cannot be read.
    """
    trial = Ended(
        key=outcome.key,
        number=number,
        label=outcome.label,
        stage=outcome.stage,
        optimizer=outcome.optimizer,
        learning_rate=outcome.learning_rate,
        seed=outcome.seed,
        error=outcome.error,
        rows=[row for i, row in enumerate(rows) if row not in rows[:i][-2:]],  # twice is once
        files=_files(directory, outcome) if outcome.stage == "result" else {},
    )
    if trial.outcome._replace(ran_on="") != outcome:
        raise ValueError("other numbers than those of its curve")
    if record := trial.record:
        config = trial.files["config.yaml"].encode()
        settings = reading.load(_run(directory, outcome).path / "config.yaml", content=config)
        fingerprint = record.data["fingerprint"]
        if outcome.key not in Trial(outcome.label, outcome.stage, settings).keys(fingerprint):
            raise ValueError("config.yaml is of another trial")
    return trial


def _run(directory: Folder, outcome: Outcome) -> Folder:
    """The directory of its run."""
    name = f"{outcome.label}-s{outcome.seed}"
    if "/" in name:
        raise ValueError("its label is no name")
    return directory.folder(name)


def _files(directory: Folder, outcome: Outcome) -> dict[str, str]:
    """The small files of its run."""
    run = _run(directory, outcome)
    names = [*FILES]
    names += [
        checkpoint_file(info.step)
        for info in kept(run.folder("checkpoints"))
        if info.epoch == outcome.best_epoch
    ]
    return {name: run.read(name, MOST_BYTES).decode() for name in names}


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return str(error).partition("\n")[0]
