"""The protocol of objectives, and the names of their terms."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vaectl.base.errors import ConfigError
from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""The form of a term's name, which also names a column, a figure and a curve."""
_TAKEN = (
    *("epoch", "step", "split", "seconds", "key"),
    *("curves", "sample", "manifold", "morph", "reconstruct", "inspect", "diagnosis"),
)
"""Other columns of metrics.csv and curves.csv, and other figures of a run."""


class Objective(Plug, kind="objective"):
    """The loss that training minimizes, and the terms that it reports, in nats per image."""

    @property
    def best(self) -> str:
        """The term of the validation split whose highest value marks the best epoch."""
        return "elbo"

    def estimator(self, samples: int) -> str:
        """Describe how the reported numbers are estimated."""
        return f"ELBO, {samples} sample{'s' * (samples > 1)}"

    def estimators(self, samples: int) -> dict[str, str]:
        """Say how each term is estimated, by name; one that is left out is exact or unknown."""
        drawn = f"{samples} sample{'s' * (samples > 1)}"
        return {"elbo": drawn, "kl": "closed form", "nll": drawn}

    @abstractmethod
    def terms(
        self,
        network: Network,
        x: Float[Array, "batch h w c"],
        noise: Float[Array, "samples batch code"],
        epoch: Float[Array, ""],
    ) -> tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]:
        """Return the loss of each image, and the terms that are reported.

        Args:
            network: the encoder and the decoder.
            x: images in [0, 1].
            noise: standard normal numbers; L samples for each image.
            epoch: the epochs trained so far, with fractions.
        """


class ObjectiveChoice(Choice[Objective]):
    """The objective that training maximizes."""

    plugs = Objective
    default = "elbo"

    samples: Annotated[int, Field(ge=1, le=100_000)] = 1
    """The number of samples of z per image: L of the ELBO, K of the IWAE bound."""


def with_elbo(terms: Mapping[str, float]) -> dict[str, float]:
    """Add ELBO = -(NLL + KL) before its two parts, if both are there; higher is better."""
    if "kl" in terms and "nll" in terms:
        parts = {name: value for name, value in terms.items() if name != "elbo"}
        return {"elbo": -(terms["nll"] + terms["kl"]), **parts}
    return dict(terms)


def check_terms(objective: Objective, names: Sequence[str]) -> None:
    """Refuse terms that cannot be columns of metrics.csv, and a `best` that is not among them.

    Raises:
        ConfigError: a name is unusable or taken, or `best` is none of them.
    """
    what = f"the objective {objective.name}"
    for name in names:
        if not _NAME.fullmatch(name) or name in _TAKEN:
            raise ConfigError(
                f"{what}: {name!r} cannot be the name of a term",
                hint="use at most 40 small letters, digits and '_', begin with a letter, and avoid "
                + ", ".join(_TAKEN),
            )
    columns = with_elbo(dict.fromkeys(names, 0.0))
    if objective.best not in columns:
        raise ConfigError(
            f"{what}: its best term is no {objective.best!r} among {', '.join(columns)}",
            hint="let `best` return the name of one of these; elbo needs the terms kl and nll",
        )


def label(name: str) -> str:
    """Return a term's name for people: `elbo` as ELBO, `gradient_norm` as gradient norm."""
    return name.upper() if len(name) <= 4 else name.replace("_", " ")
