"""The plan of a diagnosis, its finished parts, and the share of the work that is done."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from vaectl.base.errors import DivergedError
from vaectl.data.binarization import SplitName
from vaectl.evaluation import amortization, annealed
from vaectl.evaluation.annealed import Origin

BATCH = 50
"""Images whose chains run at once."""
CHUNKS = 64
"""A bound is estimated from this number of chunks of eight samples of z."""
ORIGINS: tuple[Origin, ...] = ("posterior", "prior")
"""The distributions that chains may start from."""

Watch: TypeAlias = Callable[[str, float, float], None]
"""A function that is told what is being done, how much is done, and how much there is."""
Values: TypeAlias = Float[np.ndarray, "_numbers _images"]
"""The numbers of a part of a diagnosis: a row for each quantity, a column for each image."""


class Plan(NamedTuple):
    """The sizes of a diagnosis."""

    images: int = 100
    """Images of each split that are annealed, and whose posteriors are optimized."""
    chains: int = 8
    temperatures: int = 200
    importance_samples: int = 5000
    prior_samples: int = 1000
    origin: Origin | None = None
    """The start of chains; None: the one with the smaller gap between the bounds on simulated
    images."""
    seed: int = 0

    @property
    def at_once(self) -> int:
        """The most images whose chains run at once."""
        return min(self.images, BATCH)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The distributions that chains may start from."""
        return (self.origin,) if self.origin else ORIGINS

    def batches(self, images: int) -> Iterator[slice]:
        """Yield the batches of a split with `images` images, up to the planned number of images."""
        count = min(self.images, images)
        return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


class Work:
    """The parts of a diagnosis, and the share of them that is done.

    The share is counted in gradients of the decoder for an image.

    Args:
        title: the model, for messages.
        plan: the sizes of the diagnosis.
        sizes: the images of each split.
        watch: told of the progress.
        finished: parts that are not computed again; each part is added as soon as it is computed.
    """

    def __init__(
        self,
        title: str,
        plan: Plan,
        sizes: Mapping[SplitName, int],
        watch: Watch,
        finished: MutableMapping[str, Values],
    ) -> None:
        leaps = float(plan.chains * annealed.LEAPS)
        path, pilot = leaps * plan.temperatures, leaps * annealed.short(plan.temperatures)
        self.annealing = pilot + path
        self.bracketing = pilot + 2 * path
        self.fitting = 8 * amortization.STEPS + 2 * 8 * CHUNKS / 3 + plan.importance_samples / 3
        costs: dict[str, float] = {
            f"simulated-{origin}": self.bracketing * plan.at_once for origin in plan.origins
        }
        for name, size in sizes.items():
            for batch in plan.batches(size):
                images = batch.stop - batch.start
                costs[f"{name}-{batch.start}"] = (self.fitting + self.annealing) * images
        self._title, self._watch, self._finished = title, watch, finished
        self._all = sum(costs.values())
        self._done = sum(cost for name, cost in costs.items() if name in finished)

    def tell(self, what: str, done: float = 0.0) -> None:
        """Tell what is done next, and add what was done."""
        self._done += done
        self._watch(what, min(round(100 * self._done / self._all), 100), 100)

    def part(self, name: str, shape: tuple[int, int], compute: Callable[[], Values]) -> Values:
        """Return the numbers of a part; compute them unless the part is finished."""
        found = self._finished.get(name)
        if found is None or found.shape != shape:
            found = self._finished[name] = compute()
        return found

    def check_finite(self, place: str, *numbers: np.ndarray) -> None:
        """Refuse numbers that are not finite.

        Args:
            place: the images that they are of, for the message.
            numbers: arrays of any shape.

        Raises:
            DivergedError: one of them is not finite.
        """
        if not all(np.isfinite(values).all() for values in numbers):
            raise DivergedError(
                f"{self._title}: a bound is not finite on {place}",
                hint="an earlier checkpoint may be better: --checkpoint EPOCH; or raise "
                "--temperatures",
            )
