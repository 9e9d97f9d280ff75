"""Names of the points of a sweep, which become names of runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vaectl.base.section import flat
from vaectl.config.schema import CHOICES, Config

_LONGEST = 80
"""The most characters of a label."""


def labels(
    base: Config, experiments: Sequence[Config], kept: Mapping[int, str] = MappingProxyType({})
) -> list[str]:
    """Name each point by what differs from the base experiment.

    Names are short, so points that differ in another axis could get the same name.

    Args:
        base: the experiment that varies.
        experiments: of the points.
        kept: names that points have already, by their places; no other point gets them.
    """
    old = dict(flat(base.model_dump(mode="json")))
    found = []
    for experiment in experiments:
        new = dict(flat(experiment.model_dump(mode="json")))
        changed = {key: value for key, value in new.items() if old.get(key) != value}
        # with another plug come all of its settings; those that are its defaults say nothing
        own = {
            key: value
            for key, value in changed.items()
            if key in old or value != _default(experiment, key)
        }
        found.append(own)
    labels = ["-".join(_part(key, value) for key, value in own.items()) or "base" for own in found]
    counts = Counter(labels)
    taken = {*kept.values(), *(label for label in counts if counts[label] > 1)}
    return [
        kept[place]
        if place in kept
        else f"{label[:60]}-{_digest(own)}"
        if label in taken or len(label) > _LONGEST
        else label
        for place, (label, own) in enumerate(zip(labels, found, strict=True))
    ]


def _default(settings: Config, key: str) -> object:
    kind, _, name = key.partition(".")
    plug = getattr(settings, kind).chosen if kind in CHOICES else None
    return getattr(type(plug)(), name.rpartition(".")[2], None) if plug is not None else None


def _part(key: str, value: object) -> str:
    written = f"{value:g}" if isinstance(value, float) else str(value).lower()
    text = written if key.endswith(".name") else f"{short(key)}-{written}"
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def short(key: str) -> str:
    """Return the part of a key that names it among others: `learning_rate`, or `optimizer`."""
    kind, _, name = key.rpartition(".")
    return kind if name == "name" else name


def _digest(own: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]
