"""Checks before a run is resumed or loaded: what must be the same, and what gives a warning."""

from collections.abc import Iterator
from typing import Any

from vaectl.base import plugins, surroundings
from vaectl.base.errors import ConfigError, RunError
from vaectl.base.section import flat, nested
from vaectl.config import CHOICES, schema
from vaectl.config.schema import Config
from vaectl.runs import metrics
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import Row
from vaectl.runs.record import PlugFacts, Record

OF_MACHINE = ("data.source", "data.memory_gb")
"""Settings about where and how this machine keeps the data; they do not change which data."""


def check_settings(name: str, stored: Config, wanted: Config, *, extend: bool) -> None:
    """Refuse settings that differ from the run's, except `OF_MACHINE`.

    To extend the run, the number of epochs may differ too.

    Raises:
        ConfigError: settings differ, or another number of epochs would change earlier epochs.
    """
    asked = dict(_keys(wanted))
    differing = [
        f"{key}: {value} in the run, {asked.get(key)} requested"
        for key, value in _keys(stored)
        if asked.get(key) != value and key not in OF_MACHINE and not (extend and key == "epochs")
    ]
    if differing:
        raise ConfigError(
            "\n".join([f"{name} cannot be resumed with another configuration", *differing]),
            hint="only --epochs, data.source and data.memory_gb may change; for other settings "
            "train a new run",
        )
    schedule = stored.optimizer.schedule
    if wanted.epochs != stored.epochs and schedule.needs_the_end:
        raise ConfigError(
            f"--epochs {wanted.epochs}: with optimizer.schedule.name {schedule.name} the learning "
            "rate "
            f"of every epoch depends on the number of epochs, which was {stored.epochs}",
            hint="train a new run",
        )


def check_unchanged(name: str, stored: Config, record: Record) -> None:
    """Refuse a config.yaml that was changed after the run started.

    Raises:
        RunError: a setting on which results depend was changed.
    """
    there = settled(stored)
    # only keys that the run has: a newer vaectl may have more
    differing = [
        f"{key}: {value} at the start, {there[key]} now"
        for key, value in _recorded(record).items()
        if key in there and there[key] != value
    ]
    if stored.epochs != record.epochs and stored.optimizer.schedule.needs_the_end:
        differing.append(f"epochs: {record.epochs} at the start, {stored.epochs} now")
    if differing:
        raise RunError(
            "\n".join([f"{name}: its config.yaml was changed after training", *differing]),
            hint="restore the old values, or train a new run",
        )


def read_metrics(rundir: RunDir, until: int, digest: str) -> list[Row]:
    """Read the metrics of all epochs up to `until`, and check their digest.

    Args:
        rundir: the run.
        until: the last epoch.
        digest: the digest in the checkpoint of that epoch; empty if an older vaectl saved it.

    Raises:
        RunError: metrics.csv is broken, lacks an epoch, or was changed.
    """
    rows = rundir.read_metrics(until=until)
    if digest and metrics.digest(rows) != digest:
        raise RunError(
            f"{rundir.path / 'metrics.csv'}: not the numbers of this run: it was changed or is "
            "damaged",
            hint="restore it from a copy, or train again under another --name",
        )
    return rows


def plugs_of(settings: Config) -> list[PlugFacts]:
    """Return the plugs of an experiment that are not built in."""
    chosen = [*(getattr(settings, kind).chosen for kind in CHOICES), settings.data.plug]
    return [
        PlugFacts(kind=plug.kind, name=plug.name, **origin._asdict())
        for plug in chosen
        if (origin := plugins.origin(type(plug))) is not None
    ]


def changed_plugs(settings: Config, record: Record) -> list[str]:
    """Return a warning for each plug of a run whose file was changed since the run started."""
    now = {(plug.kind, plug.name): plug.sha256 for plug in plugs_of(settings)}
    return [
        f"{plug}: the file was changed since {record.name} started: the numbers may differ"
        for plug in record.plugs
        if now.get((plug.kind, plug.name), plug.sha256) != plug.sha256
    ]


def _recorded(record: Record) -> dict[str, object]:
    """Return a run's settings in its record, with the names that keys have now."""
    if not record.settings:  # an older vaectl wrote none
        return {}
    try:
        return settled(schema.Config.model_validate(nested(record.settings)))
    except ValueError:  # written by a newer vaectl
        return record.settings


def settled(settings: Config) -> dict[str, object]:
    """Return the settings that a run cannot change, by dotted path."""
    return {key: value for key, value in _keys(settings) if key not in ("epochs", *OF_MACHINE)}


def differences(record: Record, versions: dict[str, str], device: dict[str, Any]) -> list[str]:
    """Return a warning for each change since the run last trained that may change the last bits.

    Another number of devices changes nothing, unless each had one part of a batch: see
    `base.mesh.summed`.
    """
    last = record.resumed[-1] if record.resumed else record
    before, now = last.versions | last.device, versions | device
    known = before.get("processor")
    same = {"host"} if known and known == now.get("processor") else set()
    parts = _recorded(record).get("microbatches", 1)
    if parts == 1 or parts not in (before.get("devices"), now.get("devices")):
        same.add("devices")
    return [
        f"{key} was {before.get(key, 'not set')}, is {now.get(key, 'not set')}: "
        "the last bits may differ"
        for key in before | now
        if key not in same
        and before.get(key) != now.get(key)
        and (key in before or key == "devices" or surroundings.is_recorded(key))
    ]


def _keys(settings: Config) -> Iterator[tuple[str, object]]:
    """Yield the dotted path and the value of each setting on which something depends."""
    return flat(settings.model_dump(mode="json", exclude={"published"}))
