"""What an optimizer is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from vaectl.base.plugs import Plug
from vaectl.base.section import Positive

if TYPE_CHECKING:
    import optax


class Optimizer(Plug, kind="optimizer"):
    """A rule that makes a direction of a gradient; a parameter steps against the direction.

        theta <- theta - learning_rate * schedule(step) * direction

    The learning rate stays outside of the rule, so that another one is the same compiled program.
    """

    place_in_the_paper: ClassVar[int | None] = None
    """Where Fig. 3 of the paper has it; `compare-optimizers` compares these unless told others."""

    learning_rate: Positive
    """The paper's by default, where the paper has the optimizer."""
    gradient: Literal["mean", "sum"] = "mean"
    """Over the images of a batch. The paper's RMSProp and AdaGrad take the sum."""

    @abstractmethod
    def rule(self) -> optax.GradientTransformation:
        """Return the transform of a gradient into a direction."""

    @property
    def decays_before_the_rule(self) -> bool:
        """Whether weight decay joins the gradient before the rule, and not the direction after."""
        return False

    @property
    def resets_each_epoch(self) -> bool:
        """Whether its state is made new when an epoch starts."""
        return False
