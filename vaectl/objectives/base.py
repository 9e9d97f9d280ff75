"""What an objective is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


class Objective(Plug, kind="objective"):
    """What training minimizes, and what it reports: values of each image, by name, in nats."""

    @property
    def best(self) -> str:
        """The number of the validation split whose highest value says which epoch is best."""
        return "elbo"

    def estimator(self, samples: int) -> str:
        """Say what the reported numbers are."""
        return f"ELBO, {samples} sample{'s' * (samples > 1)}"

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
            noise: standard normal; its first axis is L.
            epoch: how many epochs, and parts of one, were trained before.
        """


class ObjectiveChoice(Choice[Objective]):
    """What training maximizes."""

    plugs = Objective
    default = "elbo"

    samples: Annotated[int, Field(ge=1, le=100_000)] = 1
    """L, the samples of z per image in the estimate of E[log p(x|z)]."""


def with_elbo(terms: Mapping[str, float]) -> dict[str, float]:
    """Put the ELBO before its two parts, where these are known: -(NLL + KL), higher is better."""
    if "kl" in terms and "nll" in terms:
        parts = {name: value for name, value in terms.items() if name != "elbo"}
        return {"elbo": -(terms["nll"] + terms["kl"]), **parts}
    return dict(terms)


def label(name: str) -> str:
    """Write the name of a term for people: `elbo` as ELBO, `gradient_norm` as gradient norm."""
    return name.upper() if len(name) <= 4 else name.replace("_", " ")
