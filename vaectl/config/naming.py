"""Readable names of experiments, for run directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaectl.config.schema import Config


def name_of(settings: Config) -> str:
    """Name what is trained and how, as in `mnist-z20-adam-s0` or `mnist-conv-z2-iwae-sgd-s1`.

    The model, the likelihood, the prior and the objective are named only if they are not the
    default.
    """
    objective = "".join(f"-{each}" for each in settings.objective.unusual)
    return f"{network_name_of(settings)}{objective}-{settings.optimizer.name}-s{settings.seed}"


def network_name_of(settings: Config) -> str:
    """Name the data and the network, as in `mnist-z20` or `mnist-conv-z20-gaussian-vamp`."""
    model = settings.model
    others = *settings.likelihood.unusual, *settings.prior.unusual
    parts = [settings.data.plug.short_name, *model.unusual, f"z{model.code_size}", *others]
    return "-".join(parts)
