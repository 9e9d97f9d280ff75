"""Descriptions of what an experiment's numbers mean, for tables and titles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vaectl.base.plugs import Choice
from vaectl.base.section import Section
from vaectl.data import binarization

if TYPE_CHECKING:
    from vaectl.config.schema import Config
    from vaectl.likelihoods.base import Measure

_WARMUP = "warmup_epochs"
"""The key of every section whose effect begins slowly."""

_NLL: dict[Measure, str] = {
    "density": "the NLL is that of a density",
    "bytes": "the NLL is that of bytes",
}
_SHORT: dict[Measure, str] = {"density": "densities", "bytes": "probabilities of bytes"}
_OF: dict[Measure, str] = {"density": "a density of grey levels", "bytes": "a probability of bytes"}


def meaning(settings: Config) -> str:
    """Describe how the images are binarized, and what the likelihood is a probability of."""
    return _pixels(settings) + _given(settings)


def _given(settings: Config) -> str:
    """Return the condition of a conditional model's probabilities; an empty text for others."""
    return ", given the class" if settings.model.condition != "none" else ""


def _pixels(settings: Config) -> str:
    measure = settings.likelihood.chosen.measure
    if measure == "binary":
        return binarization.meaning(settings.data)
    grey = settings.data.binarization == "none"
    levels = "256 levels" if measure == "bytes" else "intensities from 0 to 1"
    return f"{levels if grey else binarization.meaning(settings.data)}: {_NLL[measure]}"


def measured(settings: Config) -> str:
    """Describe briefly what the NLL measures; values of different measures do not compare."""
    return _few_words(settings) + _given(settings)


def _few_words(settings: Config) -> str:
    data, measure = settings.data, settings.likelihood.chosen.measure
    grey = data.binarization == "none"
    how = {
        "threshold": f"binarized at {data.threshold:g}",
        "stochastic": "binarized by draws",
        "static": "binarized by one draw",
    }
    if measure == "binary":
        return "grey levels as probabilities" if grey else how[data.binarization]
    if grey:
        return "densities of grey levels" if measure == "density" else _SHORT[measure]
    return f"{_SHORT[measure]}, {how[data.binarization]}"


def estimators(settings: Config) -> dict[str, str]:
    """Describe how each number of an epoch is estimated, by name; missing numbers are exact."""
    samples, prior = settings.objective.samples, settings.prior.chosen
    found = settings.objective.chosen.estimators(samples)
    sampled = {} if prior.standard else {"kl": f"{samples} sample{'s' * (samples > 1)}"}
    return {**found, **sampled} if "kl" in found else found


def notes(settings: Config) -> list[str]:
    """List what to know before comparing the numbers with those of other experiments."""
    measure = settings.likelihood.chosen.measure
    if measure != "binary" and settings.data.binarization != "none":
        return [
            f"likelihood {settings.likelihood.name} is {_OF[measure]}, but the images are "
            f"{binarization.meaning(settings.data)}; --set data.binarization=none keeps grey levels"
        ]
    if settings.data.binarization != "none":
        return []
    limits = {
        "binary": "",
        "bytes": "; it compares with that of other probabilities of bytes alone",
        "density": "; it compares with that of other densities of the same images alone, and gives "
        "no bits per dimension",
    }
    return [meaning(settings) + limits[measure]]


def without_effect(settings: Config) -> list[str]:
    """List the settings that do nothing in this experiment, or less than they say."""
    found = []
    for path, section in _in_use(settings, ""):
        for key, why in section.idle().items():
            if getattr(section, key) != type(section).model_fields[key].default:
                found.append(f"{path}{key} has no effect: {why}")
        if (getattr(section, _WARMUP, 0) or 0) > settings.epochs:
            found.append(f"{path}{_WARMUP} is more than epochs: the run ends before its warm-up")
    return found


def _in_use(section: Section, path: str) -> Iterator[tuple[str, Section]]:
    """Yield a section and all sections in it with their paths, except plugs that are not chosen."""
    yield path, section
    others = {*section.sections()} - {section.name} if isinstance(section, Choice) else set()
    for key in type(section).model_fields:
        inside = getattr(section, key)
        if isinstance(inside, Section) and key not in others:
            yield from _in_use(inside, f"{path}{key}.")


def dimensions(settings: Config, image_shape: tuple[int, int, int]) -> int | None:
    """Return the number of values in an image if nats convert to bits per dimension; else None.

    They do for probabilities of the bytes of the data. A density of grey levels would need images
    with uniform noise added, and would only give a bound (Theis et al. 2016). Black and white
    images are not bytes.
    """
    of_bytes = settings.likelihood.chosen.measure == "bytes"
    return math.prod(image_shape) if of_bytes and settings.data.binarization == "none" else None


def bits_per_dimension(log_prob: float, dimensions: int) -> float:
    """Convert nats per image to bits per dimension; fewer are better.

    bits = -log p / (dimensions log 2)
    """
    return -log_prob / (dimensions * math.log(2))
