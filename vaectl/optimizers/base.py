"""The protocol of optimizers."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from vaectl.base.plugs import Plug
from vaectl.base.section import Positive

if TYPE_CHECKING:
    import optax


class Optimizer(Plug, kind="optimizer"):
    """A rule that turns a gradient into a direction; parameters step against the direction.

        theta <- theta - learning_rate * schedule(step) * direction

    The learning rate is not part of the rule, so that all of them share one compiled program.
    """

    place_in_the_paper: ClassVar[int | None] = None
    """Position in the paper's Fig. 3, or None; by default these optimizers are compared."""

    learning_rate: Positive
    """Learning rate; the default is the paper's, for the paper's optimizers."""
    gradient: Literal["mean", "sum"] = "mean"
    """Mean or sum over the images of a batch; the paper's RMSProp and AdaGrad take the sum."""

    @abstractmethod
    def rule(self) -> optax.GradientTransformation:
        """Return the Optax transform from a gradient to a direction."""

    @property
    def decays_before_the_rule(self) -> bool:
        """Whether weight decay is added to the gradient, not to the direction."""
        return False

    @property
    def resets_each_epoch(self) -> bool:
        """Whether the state is reset at the start of each epoch."""
        return False
