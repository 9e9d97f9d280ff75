"""What all optimizers share: clipping, weight decay, the scale of biases, the schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from vaectl.base.plugs import Choice
from vaectl.base.section import NonNegative, Positive
from vaectl.optimizers.base import Optimizer
from vaectl.optimizers.schedule import Schedule

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array

WeightDecayOn = Literal["all", "weights"]


class OptimizerChoice(Choice[Optimizer]):
    """The optimizer that trains, what all share, and the settings of each.

    A section for each optimizer, so that `--optimizer` alone moves a configuration from one to
    another, each with settings of its own.
    """

    plugs = Optimizer
    default = "adam"

    weight_decay: NonNegative = 0.0
    """Decoupled: each step takes `learning rate * weight_decay * parameter` away."""
    weight_decay_on: WeightDecayOn = "all"
    """Which parameters decay: `all`, or `weights`, which leaves the biases out."""
    clip_norm: Positive | None = None
    """Gradients of a larger global norm are scaled down to it; null: never."""
    bias_learning_rate_scale: NonNegative = 1.0
    """Biases learn at so many times the learning rate; the paper's code has 2."""
    schedule: Schedule = Schedule()

    def direction(self) -> optax.GradientTransformation:
        """Build the chosen optimizer: a gradient goes in, a direction to step against comes out.

        In order: clipping by the global norm, the optimizer's own rule, weight decay (before the
        rule where that asks for it; without the biases where `weight_decay_on` is `weights`), the
        scale of the biases.
        """
        import optax

        chosen = self.chosen
        mask = _no_bias if self.weight_decay_on == "weights" else None
        decay = optax.add_decayed_weights(self.weight_decay, mask)
        before = chosen.decays_before_the_rule
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
            decay if before else optax.identity(),
            chosen.rule(),
            optax.identity() if before else decay,
            _scale_biases(self.bias_learning_rate_scale),
        )


def _is_bias(path: tuple[Any, ...]) -> bool:
    import jax

    return bool(path[-1] == jax.tree_util.DictKey("bias"))


def _no_bias(params: optax.Params) -> Any:
    """A tree like the parameters: False for a bias, True for all else."""
    import jax

    return jax.tree_util.tree_map_with_path(lambda path, _: not _is_bias(path), params)


def _scale_biases(scale: float) -> optax.GradientTransformation:
    import jax
    import optax

    def scaled(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf * scale if _is_bias(path) else leaf

    return optax.stateless(
        lambda updates, _params: jax.tree_util.tree_map_with_path(scaled, updates)
    )
