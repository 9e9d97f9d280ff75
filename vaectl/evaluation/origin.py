"""The distribution that chains start from, chosen by bounds on log p(x) of simulated images."""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from vaectl.base import devices, streams
from vaectl.evaluation import annealed
from vaectl.evaluation.annealed import Origin
from vaectl.evaluation.work import ORIGINS, Plan, Values, Work
from vaectl.runs.diagnosis import Bracketed
from vaectl.runs.record import Estimate
from vaectl.runs.trained import Trained


def origin_of(text: str) -> Origin | None:
    """Return the origin of that name; None for `auto`."""
    return next((origin for origin in ORIGINS if origin == text), None)


def choose(
    model: Trained, rows: UInt8[np.ndarray, "images numbers"], plan: Plan, work: Work
) -> tuple[Origin, Bracketed]:
    """Choose where chains start, and bound log p(x) of simulated images with such chains.

    If there is a choice, half of the images are used for it, and the other half for the bounds: on
    the images of the choice, the bounds would look too close to each other.

    Args:
        model: a trained model.
        rows: images, from whose classes as many are simulated.
        plan: the sizes of the diagnosis.
        work: told of the progress.

    Raises:
        DivergedError: a bound is not finite.
    """
    found = {
        each: work.part(
            f"simulated-{each}", (2, len(rows)), partial(_bracket, model, rows, each, plan, work)
        )
        for each in plan.origins
    }
    of_choice, of_bounds = slice(0, None, 2), slice(1, None, 2)
    if len(found) == 1:
        of_choice = of_bounds = slice(None)
    gaps = {each: (upper - lower)[of_choice].mean() for each, (lower, upper) in found.items()}
    origin = min(found, key=lambda each: abs(gaps[each]))
    lower, upper = (values[of_bounds] for values in found[origin])
    return origin, Bracketed(
        images=len(lower),
        lower=Estimate.of(lower),
        upper=Estimate.of(upper),
        gap=Estimate.of(upper - lower),
    )


def _bracket(
    model: Trained,
    rows: UInt8[np.ndarray, "images numbers"],
    origin: Origin,
    plan: Plan,
    work: Work,
) -> Values:
    """Bound log p(x) of simulated images, with chains from one origin."""
    work.tell("annealing simulated images, there and back")
    _, y = model.vae.apart(jnp.asarray(rows))
    key = streams.key(plan.seed, "diagnose", 1)
    found = annealed.bracket(
        *(model.vae, model.variables, len(rows), y, key),
        chains=plan.chains,
        temperatures=plan.temperatures,
        origin=origin,
    )
    devices.wait_for(found)
    bounds = np.stack(found)
    work.check_finite("simulated images", bounds)
    work.tell("annealing simulated images, there and back", len(rows) * work.bracketing)
    return bounds
