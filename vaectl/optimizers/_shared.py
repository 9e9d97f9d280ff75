"""Settings that all optimizers share: clipping, weight decay, biases, an average, the schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vaectl.base.plugs import Choice
from vaectl.base.section import NonNegative, Positive, conflict
from vaectl.optimizers._ema import average, with_average
from vaectl.optimizers._schedule import Schedule
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float

WeightDecayOn = Literal["all", "weights"]


class OptimizerChoice(Choice[Optimizer]):
    """The optimizer that trains, and settings that all optimizers share.

    Each optimizer has its own section, so that `--optimizer` alone switches to another one with its
    own settings.
    """

    plugs = Optimizer
    default = "adam"

    weight_decay: NonNegative = 0.0
    """Decoupled decay: each step subtracts `learning rate * weight_decay * parameter`. With `dog`,
    and with `sgd.decay_in_momentum`, `weight_decay * parameter` is added to the gradient."""
    weight_decay_on: WeightDecayOn = "all"
    """The parameters that decay: `all`, or `weights`, without the biases."""
    clip_norm: Positive | None = None
    """Scale gradients of a larger global norm down to this norm; null: no clipping."""
    bias_learning_rate_scale: NonNegative = 1.0
    """Factor of the learning rate of biases; the paper's code has 2."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the parameters, such as 0.999, which averages about
    the last 1,000 steps, and fewer at first. Validation, the best epoch, samples and exports use
    the average; training continues with the parameters themselves; null: none. Other state of a
    network, such as the running means of batch normalization, is not averaged."""
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Refuse a falling learning rate or another average beside an average of the parameters.

        Raises:
            PydanticCustomError: there are both, or the state of an average would be reset.
        """
        if self.ema is not None and (self.chosen.averages or self.chosen.resets_each_epoch):
            why = "averages its parameters" if self.chosen.averages else "resets its state"
            raise conflict(
                f"ema {self.ema:g}: {self.name} {why} itself",
                hint="set optimizer.ema to null, or choose another optimizer",
            )
        if self.chosen.averages and self.schedule.name != "constant":
            raise conflict(
                f"schedule.name {self.schedule.name}: {self.name} averages its parameters instead",
                hint="set optimizer.schedule.name to constant; optimizer.schedule.warmup_epochs "
                "may stay",
            )

    def idle(self) -> dict[str, str]:
        """Name what is for a weight decay, where there is none."""
        return {} if self.weight_decay else {"weight_decay_on": "weight_decay is 0"}

    def value(self, key: str) -> Any:
        """Return the value of a shared key, or of one of the chosen optimizer's; None if neither.

        Keys of the schedule are not among them.
        """
        return getattr(self if key in self.shared_fields() else self.chosen, key, None)

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return the same choice with other values of keys as `value` takes them."""
        shared = {key: value for key, value in values.items() if key in self.shared_fields()}
        own = {key: value for key, value in values.items() if key not in shared}
        return self.model_copy(update=shared).with_chosen(**own) if values else self

    def without(self, traced: Sequence[str]) -> Self:
        """Return what a program is compiled for: without its learning rate and other numbers."""
        defaults = type(self)(name=self.name) if traced else self
        values = {key: defaults.value(key) for key in traced}
        return self.with_values(values).with_chosen(learning_rate=1.0)

    @property
    def averages(self) -> bool:
        """True if the network is evaluated with other parameters than those that train."""
        return self.chosen.averages or self.ema is not None

    def evaluated(
        self, params: optax.Params, state: optax.OptState, learning_rate: Float[Array, ""]
    ) -> optax.Params:
        """Return the parameters to evaluate with."""
        if self.ema is not None:
            return average(params, state.offset, learning_rate)
        return self.chosen.evaluated(params, state, learning_rate)

    def direction(self) -> optax.GradientTransformationExtraArgs:
        """Return the transform from a gradient to a direction to step against.

        In order: clipping by the global norm, the optimizer's own rule, weight decay (before the
        rule if the optimizer asks for it), and the factor of the biases. Its `update` takes the
        factor of the schedule as `schedule`, for the optimizers that need it.
        """
        import optax

        chosen = self.chosen
        mask = _no_bias if self.weight_decay_on == "weights" else None
        decay = optax.add_decayed_weights(self.weight_decay, mask)
        before = chosen.decays_before_the_rule
        direction = optax.chain(
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
            decay if before else optax.identity(),
            chosen.rule(),
            optax.identity() if before else decay,
            _scale_biases(self.bias_learning_rate_scale),
        )
        whole = chosen.around(optax.with_extra_args_support(direction))
        return with_average(whole, self.ema) if self.ema else whole


def _is_bias(path: tuple[Any, ...]) -> bool:
    import jax

    return bool(path[-1] == jax.tree_util.DictKey("bias"))


def _no_bias(params: optax.Params) -> Any:
    """Return a tree like the parameters: False for a bias, True otherwise."""
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
