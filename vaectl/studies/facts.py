"""The data, devices and versions that the runs of a study were trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from vaectl.runs.record import Device, Record

Seeds = Bool[np.ndarray, " seeds"]

_OF_CPU = {"platform", "kind", "cpu_threads", "host", "images", "processor"}


def environment(records: Iterable[Record]) -> dict[str, Any]:
    """Describe data, device and versions by the first run, and count the environments of all."""
    first: Record | None = None
    environments: set[str] = set()
    devices: list[list[Device]] = []
    for record in records:  # of many, one at a time is in memory
        first = first or record
        environments.add(repr((record.device, record.versions)))
        devices.append(_devices(record))
    return {
        "metrics": first.metrics if first else {},
        "data": first.model_dump(mode="json")["data"] if first else {},
        "device": first.device if first else {},
        "versions": first.versions if first else {},
        "git_commit": first.git_commit if first else None,
        "places": len(environments),
        "kinds": dict(Counter(_kinds(devices)).most_common()),
    }


def places(records: Iterable[tuple[str, int, Record]]) -> dict[tuple[str, int], str]:
    """Return the device and software of each run, by its label and its seed."""
    devices = {(label, seed): _devices(record) for label, seed, record in records}
    return dict(zip(devices, _kinds([*devices.values()]), strict=True))


def alike(places: Mapping[tuple[str, int], str], a: str, b: str, seeds: Sequence[int]) -> Seeds:
    """Mark the seeds at which two labels form a pair: both ran on one kind of device.

    Args:
        places: the kind of each run, as `places` names it; one without a run makes no difference.
        a: one label.
        b: the other.
        seeds: of both.
    """
    kinds = [{places.get((label, seed)) for label in (a, b)} - {None} for seed in seeds]
    return np.array([len(each) < 2 for each in kinds], np.bool_)


def kind(record: Record) -> str:
    """Name what a run was trained on, as far as its last bits depend on it."""
    return _kinds([_devices(record)])[0]


def _devices(record: Record) -> list[Device]:
    return [record.device, *(each.device for each in record.resumed)]


def _kinds(runs: Sequence[Sequence[Device]]) -> list[str]:
    """Name the devices of each run: that on which it began, and others on which it went on.

    A run of an older vaectl does not record its processor: that of other runs on its machine is
    used.
    """
    known = {
        each["host"]: each["processor"]
        for devices in runs
        for each in devices
        if "host" in each and "processor" in each
    }
    return [", then ".join(dict.fromkeys(_kind(each, known) for each in run)) for run in runs]


def _kind(device: Device, processors: Mapping[Any, Any]) -> str:
    named = f"{device.get('kind')}"
    if device.get("platform") == "cpu":
        processor = device.get("processor") or processors.get(device.get("host")) or "a CPU"
        count = device.get("cpu_threads")
        named = f"{processor}, {count} thread{'s' * (count != 1)}"
    variables = [f"{key}={value}" for key, value in device.items() if key not in _OF_CPU]
    return " with ".join([named, *variables])


def told(kinds: Mapping[str, int]) -> str:
    """Say on what kinds of devices the members of a study ran; nothing if it is one."""
    if len(kinds) < 2:
        return ""
    each = "; ".join(f"{count} on {name}" for name, count in kinds.items())
    return f"The members ran on {len(kinds)} kinds of devices, whose last bits differ: {each}."
