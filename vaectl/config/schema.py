"""The configuration of one experiment: frozen, typed and validated.

A configuration says what is computed. Where the run is written (`--runs-dir`, `--name`) and on
which device it is computed (`--device`) are not part of it, so that the same configuration is the
same experiment everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, create_model, model_validator

from vaectl.base.plugs import Choice, Plug, choice
from vaectl.base.section import Count, NonNegative, Positive, Section
from vaectl.config.published import Published
from vaectl.data.settings import Data
from vaectl.likelihoods.base import LikelihoodChoice
from vaectl.models.base import ModelChoice
from vaectl.objectives.base import ObjectiveChoice
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.priors.base import PriorChoice

CHOICES: dict[str, type[Choice[Any]]] = {
    base.plugs.kind: base
    for base in (ModelChoice, LikelihoodChoice, PriorChoice, ObjectiveChoice, OptimizerChoice)
}
"""The kinds of plugs of an experiment, by their keys."""

BASE = "base"
"""The key of the file whose experiment a file changes."""


def chosen_name(values: Mapping[str, Any], kind: str) -> str:
    """Return the name of the chosen plug; the default if the name is unknown."""
    section = values.get(kind)
    name = section.get("name") if isinstance(section, dict) else None
    choice = CHOICES[kind]
    return name if isinstance(name, str) and name in choice.plugs.known else choice.default


def place(path: Sequence[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the path of a key in full: `model.hidden_size` is short for `model.mlp.hidden_size`.

    Args:
        path: of the key, short or in full.
        values: the experiment, which says which plugs are chosen.
    """
    kind, *keys = path
    if kind not in CHOICES or not keys:
        return tuple(path)
    return (kind, *CHOICES[kind].path_of(keys[0], chosen_name(values, kind)), *keys[1:])


class Checkpoint(Section):
    """The times at which the state is saved."""

    every: Count = 10
    """Epochs between saves; the last epoch is always saved. The best epoch by validation
    ELBO, or by the objective's own bound, is remembered at every epoch and written at the next
    save."""
    every_seconds: Positive | None = 600.0
    """Seconds after which the state is saved although `every` does not ask for it, also inside an
    epoch; null: save only by `every`."""
    keep: Literal["needed", "all"] = "needed"
    """needed: the latest and the best state, and spares of them; all: every state that was saved,
    for animations over epochs."""


class EarlyStopping(Section):
    """The end of a run before its last epoch, by the validation score that marks the best epoch.

    The rule depends only on past epochs, so an interrupted and resumed run stops at the same epoch.
    If the learning rate falls by a schedule, the best epochs are often the last ones: use a long
    patience, or none. Comparisons and sweeps do not stop early, since their members are compared at
    equal numbers of epochs.
    """

    patience: Count | None = None
    """Epochs without a better score after which the run is finished; null: never."""
    min_delta: NonNegative = 0.0
    """The least improvement that counts, in nats per image: a score must exceed that of the last
    epoch that counted by more than this. The first epoch counts."""

    def idle(self) -> dict[str, str]:
        """Name what is for a patience, where there is none."""
        return {} if self.patience else {"min_delta": "patience is null, so no run stops early"}


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError("must be a power of 2")
    return number


class Experiment(Section):
    """One experiment: the base of `Config`, which has a section for each plug."""

    seed: int = Field(0, ge=0, lt=2**32)
    """All random numbers follow from it."""
    epochs: Annotated[int, Field(ge=1, le=10**6)] = 50
    """Passes over the training split."""
    batch_size: Annotated[int, Field(ge=1, le=10**7)] = 100
    """Images per step; the last batch of an epoch may be smaller."""
    microbatches: Annotated[int, Field(ge=1, le=2**16), AfterValidator(_power_of_two)] = 1
    """The number of equal parts of a batch, a power of 2. The gradients of the parts are computed
    one after another, which takes less memory, or on several devices, and then added."""
    data: Data = Data()
    model: ModelChoice
    likelihood: LikelihoodChoice
    prior: PriorChoice
    objective: ObjectiveChoice
    optimizer: OptimizerChoice
    checkpoint: Checkpoint = Checkpoint()
    early_stopping: EarlyStopping = EarlyStopping()
    published: Published | None = None
    """The result of a paper that this experiment repeats; see `vaectl verify`."""

    def __reduce__(self) -> tuple[Callable[..., Experiment], tuple[dict[str, Any]]]:
        """Pickle the values, and not the class, which is made anew when a plug is registered."""
        reading = importlib.import_module("vaectl.config.reading")  # by name: it imports this one
        return reading.of_mapping, (self.model_dump(),)

    @model_validator(mode="after")
    def _parts_suit_each_other(self) -> Self:
        for kind in CHOICES:
            getattr(self, kind).chosen.suits(self)
        return self


@cache
def _complete(registered: tuple[tuple[type[Plug], ...], ...]) -> type[Experiment]:
    """Build the schema with a section for each registered plug."""
    del registered
    sections: dict[str, Any] = {}
    for kind, base in CHOICES.items():
        section: Any = choice(base)
        sections[kind] = (section, Field(default=section(), description=base.__doc__))
    return create_model("Config", __base__=Experiment, __module__=__name__, **sections)


if TYPE_CHECKING:

    class Config(Experiment):
        """One experiment."""

        model: ModelChoice = ModelChoice(name="")
        likelihood: LikelihoodChoice = LikelihoodChoice(name="")
        prior: PriorChoice = PriorChoice(name="")
        objective: ObjectiveChoice = ObjectiveChoice(name="")
        optimizer: OptimizerChoice = OptimizerChoice(name="")

else:

    def __getattr__(name: str) -> type[Experiment]:
        """Return the schema as `Config`; it changes when a plug is registered."""
        if name != "Config":
            raise AttributeError(name)
        return _complete(tuple(tuple(base.plugs.known.values()) for base in CHOICES.values()))
