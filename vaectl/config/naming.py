"""Readable names of experiments, for run directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaectl.config.schema import Config


def name_of(settings: Config) -> str:
    """Name what is trained and how, as in `mnist-z20-adam-s0` or `mnist-conv-z2-iwae-sgd-s1`.

    A model, a likelihood or an objective is named if it is not the default one.
    """
    objective = "".join(f"-{each}" for each in settings.objective.unusual)
    return f"{network_name_of(settings)}{objective}-{settings.optimizer.name}-s{settings.seed}"


def network_name_of(settings: Config) -> str:
    """Name the data and the network, as in `mnist-z20` or `mnist-conv-z20-gaussian`."""
    data, model, likelihood = settings.data, settings.model, settings.likelihood
    parts = [data.plug.short_name, *model.unusual, f"z{model.code_size}", *likelihood.unusual]
    return "-".join(parts)
