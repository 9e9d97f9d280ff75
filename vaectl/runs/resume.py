"""What must be the same, what may differ, and what is said of it when a run is resumed."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from vaectl.base import plugins, surroundings
from vaectl.base.errors import ConfigError, RunError
from vaectl.config import CHOICES, schema
from vaectl.config.schema import Config
from vaectl.runs import metrics
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import Row
from vaectl.runs.record import PlugFacts, Record


def check_settings(name: str, stored: Config, wanted: Config, *, extend: bool) -> None:
    """Refuse other settings than those of the run, but for where its data is.

    Args:
        name: of the run.
        stored: its settings.
        wanted: those that are asked for.
        extend: whether the number of epochs may be another.

    Raises:
        ConfigError: they differ, or another number of epochs would change those before it.
    """
    asked = dict(_keys(wanted))
    differing = [
        f"{key}: {value} in the run, {asked.get(key)} asked for"
        for key, value in _keys(stored)
        if asked.get(key) != value and key != "data.source" and not (extend and key == "epochs")
    ]
    if differing:
        raise ConfigError(
            "\n".join([f"{name} cannot be resumed under another configuration", *differing]),
            hint="--epochs and data.source alone may change; for the rest train another run",
        )
    schedule = stored.optimizer.schedule.name
    if wanted.epochs != stored.epochs and schedule != "constant":
        raise ConfigError(
            f"--epochs {wanted.epochs}: under optimizer.schedule.name {schedule} the learning "
            f"rate of every epoch follows from their number, which was {stored.epochs}",
            hint="train another run, from the beginning",
        )


def check_unchanged(name: str, stored: Config, record: Record) -> None:
    """Refuse a config.yaml that is not what the run began with.

    Args:
        name: of the run.
        stored: its settings, by config.yaml.
        record: of the run.

    Raises:
        RunError: they differ in what its numbers follow from.
    """
    there = settled(stored)
    # those that the run knew: a later vaectl may have more
    differing = [
        f"{key}: {value} when it began, {there[key]} now"
        for key, value in _recorded(record).items()
        if key in there and there[key] != value
    ]
    if stored.epochs != record.epochs and stored.optimizer.schedule.name != "constant":
        differing.append(f"epochs: {record.epochs} when it began, {stored.epochs} now")
    if differing:
        raise RunError(
            "\n".join([f"{name}: its config.yaml was changed after training", *differing]),
            hint="put the old values back, or train another run",
        )


def read_metrics(rundir: RunDir, until: int, digest: str) -> list[Row]:
    """Read the metrics of all epochs until one, and refuse others than the run had.

    Args:
        rundir: of the run.
        until: the last epoch.
        digest: by the checkpoint of that epoch; empty where an older vaectl saved it.

    Raises:
        RunError: metrics.csv is broken, lacks an epoch, or was changed.
    """
    rows = rundir.read_metrics(until=until)
    if digest and metrics.digest(rows) != digest:
        raise RunError(
            f"{rundir.path / 'metrics.csv'}: not the numbers of this run: it was changed, or is "
            "damaged",
            hint="put it back from a copy, or train again under another --name",
        )
    return rows


def plugs_of(settings: Config) -> list[PlugFacts]:
    """Name the plugs of an experiment that are not built in."""
    chosen = [*(getattr(settings, kind).chosen for kind in CHOICES), settings.data.plug]
    return [
        PlugFacts(kind=plug.kind, name=plug.name, **origin._asdict())
        for plug in chosen
        if (origin := plugins.origin(type(plug))) is not None
    ]


def changed_plugs(settings: Config, record: Record) -> list[str]:
    """Say which plugs of a run are defined by another file now than when it began."""
    now = {(plug.kind, plug.name): plug.sha256 for plug in plugs_of(settings)}
    return [
        f"{plug} was another file when {record.name} began: the numbers may differ"
        for plug in record.plugs
        if now.get((plug.kind, plug.name), plug.sha256) != plug.sha256
    ]


def _recorded(record: Record) -> dict[str, object]:
    """What a run is, by its record; an older vaectl knew fewer keys, some by other names."""
    if not record.settings:  # of a vaectl that wrote none
        return {}
    nested: dict[str, Any] = {}
    for key, value in record.settings.items():
        *parents, last = key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    try:
        return settled(schema.Config.model_validate(nested))
    except ValidationError:  # of a later vaectl
        return record.settings


def settled(settings: Config) -> dict[str, object]:
    """What a run is from beginning to end, by dotted path: not how long, nor where its data is."""
    return {key: value for key, value in _keys(settings) if key not in ("epochs", "data.source")}


def differences(record: Record, versions: dict[str, str], device: dict[str, Any]) -> list[str]:
    """What is not as it was when the run last trained, and may change the last bits."""
    last = record.resumed[-1] if record.resumed else record
    before, now = last.versions | last.device, versions | device
    return [
        f"{key} was {before.get(key, 'not set')}, is {now.get(key, 'not set')}: "
        "the last bits may differ"
        for key in before | now
        if before.get(key) != now.get(key) and (key in before or surroundings.is_recorded(key))
    ]


def _keys(settings: Config) -> Iterator[tuple[str, object]]:
    """Every key that counts by its dotted path, with its value."""
    return _flat(settings.model_dump(mode="json"), "")


def _flat(values: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
