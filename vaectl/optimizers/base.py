"""The protocol of optimizers."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from vaectl.base.plugs import Plug
from vaectl.base.section import Positive, conflict

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float

    Rule: TypeAlias = optax.GradientTransformation
else:
    Rule = Any  # a rule imports Optax itself


class Optimizer(Plug, kind="optimizer"):
    """A rule that turns a gradient into a direction; parameters step against the direction.

        theta <- theta - learning_rate * schedule(step) * direction

    The learning rate is not part of the rule, so that all of them share one compiled program.
    """

    place_in_the_paper: ClassVar[int | None] = None
    """The position in the paper's Fig. 3, or None; comparisons use these optimizers by default."""

    averages: ClassVar[bool] = False
    """True if the network is evaluated with an average of its parameters. The average replaces a
    falling learning rate, so no schedule except a warm-up is allowed."""

    divisors: ClassVar[tuple[str, ...]] = ()
    """Constants of which one must keep a divisor from being zero, by their keys."""

    learning_rate: Positive
    """Learning rate; the default is the paper's, for the paper's optimizers."""
    gradient: Literal["mean", "sum"] = "mean"
    """Mean or sum over the images of a batch; the paper's RMSProp and AdaGrad take the sum."""

    @classmethod
    def described(cls) -> tuple[str, str]:
        """Return the first line of its description, and the last paragraph: its source.

        A description of one paragraph names none.
        """
        first, *others = ((cls.__doc__ and inspect.cleandoc(cls.__doc__)) or "").split("\n\n")
        return " ".join(first.split()), " ".join(others[-1].split()) if others else ""

    def suits(self, experiment: Any) -> None:
        """Refuse a divisor that may be zero."""
        del experiment
        if self.divisors and not any(getattr(self, key) for key in self.divisors):
            raise conflict(
                f"optimizer.{self.name}: {' and '.join(self.divisors)} are 0, and a parameter "
                "whose gradient is always 0, such as a weight of a pixel that is always black, "
                "would become 0 / 0",
                hint=f"leave optimizer.{self.name}.{self.divisors[0]} at its default",
            )

    @abstractmethod
    def rule(self) -> Rule:
        """Return the Optax transform from a gradient to a direction."""

    def around(
        self, direction: optax.GradientTransformationExtraArgs
    ) -> optax.GradientTransformationExtraArgs:
        """Return what takes the place of the whole direction; by default the direction itself.

        Its `update` is given the schedule's factor of the learning rate, as `schedule`.

        Args:
            direction: the rule, with clipping, weight decay and the factor of biases.
        """
        return direction

    def evaluated(
        self, params: optax.Params, state: optax.OptState, learning_rate: Float[Array, ""]
    ) -> optax.Params:
        """Return the parameters to evaluate with; by default those that train. See `averages`."""
        del state, learning_rate
        return params

    @property
    def decays_before_the_rule(self) -> bool:
        """True if weight decay is added to the gradient, not to the direction."""
        return False

    @property
    def resets_each_epoch(self) -> bool:
        """True if the state is reset at the start of each epoch."""
        return False
