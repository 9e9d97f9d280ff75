"""What the numbers of an experiment mean, for all that quotes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.data import binarization

if TYPE_CHECKING:
    from vaectl.config.schema import Config


def meaning(settings: Config) -> str:
    """Say what x is, and what the likelihood makes of it."""
    if settings.likelihood.chosen.binary:
        return binarization.meaning(settings.data)
    if settings.data.binarization == "none":
        return "intensities from 0 to 1: the NLL is that of a density"
    return f"{binarization.meaning(settings.data)}: the NLL is that of a density"


def notes(settings: Config) -> list[str]:
    """Say what a person should know before comparing the numbers with others."""
    if not settings.likelihood.chosen.binary and settings.data.binarization != "none":
        return [
            f"likelihood {settings.likelihood.name}: a density of grey levels, of images that are "
            f"{binarization.meaning(settings.data)}; --set data.binarization=none keeps their grey "
            "levels"
        ]
    return [meaning(settings)] if settings.data.binarization == "none" else []
