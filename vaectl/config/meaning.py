"""Descriptions of what an experiment's numbers mean, for tables and titles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.data import binarization

if TYPE_CHECKING:
    from vaectl.config.schema import Config


def meaning(settings: Config) -> str:
    """Say how the images are binarized, and whether the likelihood is a density."""
    if settings.likelihood.chosen.binary:
        return binarization.meaning(settings.data)
    if settings.data.binarization == "none":
        return "intensities from 0 to 1: the NLL is that of a density"
    return f"{binarization.meaning(settings.data)}: the NLL is that of a density"


def measured(settings: Config) -> str:
    """Say in a few words what the NLL is of; numbers of different things do not compare."""
    data = settings.data
    grey = data.binarization == "none"
    how = {"threshold": f"binarized at {data.threshold:g}", "stochastic": "binarized by draws"}
    if settings.likelihood.chosen.binary:
        return "grey levels as probabilities" if grey else how[data.binarization]
    return "densities of grey levels" if grey else f"densities, {how[data.binarization]}"


def estimators(settings: Config) -> dict[str, str]:
    """Say how each number of an epoch is estimated, by name; one that is left out is exact."""
    samples, prior = settings.objective.samples, settings.prior.chosen
    found = settings.objective.chosen.estimators(samples)
    sampled = {} if prior.standard else {"kl": f"{samples} sample{'s' * (samples > 1)}"}
    return {**found, **sampled} if "kl" in found else found


def notes(settings: Config) -> list[str]:
    """List what to know before comparing the numbers with those of other experiments."""
    if not settings.likelihood.chosen.binary and settings.data.binarization != "none":
        return [
            f"likelihood {settings.likelihood.name} is a density of grey levels, but the images "
            f"are {binarization.meaning(settings.data)}; --set data.binarization=none keeps grey "
            "levels"
        ]
    return [meaning(settings)] if settings.data.binarization == "none" else []
