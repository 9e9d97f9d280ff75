"""Diagnosis of a trained model: where the nats go, and what to change."""

import math
import time
import zlib
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from vaectl.base import devices, streams
from vaectl.base.errors import DataError, DivergedError
from vaectl.base.shapes import shaped
from vaectl.config.meaning import meaning
from vaectl.data.arrays import Split
from vaectl.data.binarization import SplitName
from vaectl.evaluation import aggregate, amortization, annealed, mismatch
from vaectl.evaluation.advice import advice
from vaectl.evaluation.aggregate import Posteriors
from vaectl.evaluation.amortization import Posterior, compiled_best_posterior
from vaectl.evaluation.annealed import Origin, compiled_anneal
from vaectl.evaluation.likelihoods import (
    IMPORTANCE_BATCH,
    compiled_bound,
    compiled_weighting,
    likelihoods,
)
from vaectl.runs import environment, resume
from vaectl.runs.diagnosis import Annealing, Bracketed, Diagnosis, Nats
from vaectl.runs.record import ACTIVE, Estimate
from vaectl.runs.trained import Trained
from vaectl.training import footprint

BATCH = 50
"""Images whose chains run at once."""
MOST = 10_000
"""Most images of a split of which KL and NLL are known, and most posteriors of the mixture."""
ORIGINS: tuple[Origin, ...] = ("posterior", "prior")
"""The distributions that chains may start from."""
LEAST = 10
"""Fewest images of a split."""
CHUNKS = 64
"""Times eight samples of z by which a bound is estimated."""

LARGE_BRACKET = 0.5
"""Nats between the bounds on simulated images above which log p(x) is not to be trusted."""
ACCEPTANCE = (0.4, 0.9)
"""Between these the share of accepted transitions is as it should be."""

Watch = Callable[[str, float, float], None]
"""A function that is told what is being done, how much is done, and how much there is."""
Values = Float[np.ndarray, "_numbers _images"]
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
    """The start of chains; None: that whose bounds on simulated images are nearer to each other."""
    seed: int = 0


def diagnose(
    model: Trained,
    split_name: Literal["validation", "test"],
    plan: Plan,
    watch: Watch = lambda _what, _done, _total: None,
    finished: MutableMapping[str, Values] | None = None,
) -> Diagnosis:
    """Find where the nats of a model go.

    The images are diagnosed in parts, each of which depends on the arguments alone.

    Args:
        model: a trained model.
        split_name: the held-out images.
        plan: how many images, chains, temperatures and samples.
        watch: told of the progress.
        finished: parts that are not computed again; each part is added as soon as it is computed.

    Raises:
        ConfigError: the diagnosis does not fit into memory.
        DataError: the data set is missing, is not the run's, or a split has too few images.
        DivergedError: a number is not finite.

    Cremer et al. 2018 (gaps); Wu et al. 2017 (log p(x)); Hoffman & Johnson 2016 (KL).
    """
    begun = time.perf_counter()
    splits: dict[SplitName, Split] = {name: model.split(name) for name in (split_name, "train")}
    for name, split in splits.items():
        if len(split.images) < LEAST:
            raise DataError(
                f"{model.title}: {len(split.images)} {name} images are too few to diagnose",
                hint=f"at least {LEAST} are needed; --split chooses the held-out ones",
            )
    sizes = {name: len(split.images) for name, split in splits.items()}
    _check_room(model, plan, max(sizes.values()))
    work = _Work(plan, sizes, watch, {} if finished is None else finished)
    origin, bracketed = _origin(model, splits[split_name], plan, work)
    plan = plan._replace(origin=origin)
    found = {name: _of_split(model, name, split, plan, work) for name, split in splits.items()}
    held_out, train = found[split_name], found["train"]
    work.tell("comparing the aggregate posterior with the prior")
    gathered = mismatch.divergence(model, held_out.posteriors, plan.seed)
    activity = held_out.posteriors.mu.var(axis=0, dtype=np.float64)
    diagnosis = Diagnosis(
        run=model.rundir.name,
        epoch=model.checkpoint.epoch,
        step=model.checkpoint.step,
        where=model.checkpoint.where,
        binarization=meaning(model.settings),
        conditional=bool(model.vae.classes),
        seed=plan.seed,
        origin=origin,
        chains=plan.chains,
        temperatures=plan.temperatures,
        importance_samples=plan.importance_samples,
        held_out=held_out.nats,
        train=train.nats,
        bracket=bracketed,
        aggregate=gathered,
        code_size=model.code_size,
        active_units=int((activity > ACTIVE).sum()),
        encoder_overfitting=_minus(held_out.nats.amortization, train.nats.amortization),
        decoder_overfitting=_minus(train.nats.log_p, held_out.nats.log_p),
        samples=mismatch.samples(
            model, train.posteriors, gathered.width, count=plan.prior_samples, seed=plan.seed
        )
        if plan.prior_samples
        else None,
        seconds=time.perf_counter() - begun,
    )
    return diagnosis.model_copy(
        update={
            "advice": tuple(advice(diagnosis, model.settings)),
            "warnings": tuple(_warnings(diagnosis)),
        }
    )


class _Found(NamedTuple):
    """The numbers of a split, and the posteriors of its images."""

    nats: Nats
    posteriors: Posteriors


class _Each(NamedTuple):
    """The numbers of each image of a split."""

    elbo: Float[np.ndarray, " images"]
    best: Float[np.ndarray, " images"]
    """The ELBO of the best posterior."""
    weighted: Float[np.ndarray, " images"]
    """IW-K."""
    weighted_effective: Float[np.ndarray, " images"]
    log_p: Float[np.ndarray, " images"]
    effective: Float[np.ndarray, " images"]
    acceptance: Float[np.ndarray, " images"]


def _warnings(d: Diagnosis) -> list[str]:
    """Say what makes the numbers uncertain."""
    found = []
    if d.bracket.gap.mean > LARGE_BRACKET:
        found.append(
            f"log p(x) is uncertain: its bounds on simulated images are {d.bracket.gap.mean:.2f} "
            f"nats apart; raise --temperatures above {d.temperatures}, or --chains"
        )
    acceptance = d.held_out.annealing.acceptance
    if not ACCEPTANCE[0] < acceptance < ACCEPTANCE[1]:
        found.append(
            f"{acceptance:.0%} of the transitions are accepted, not about 65 %: the step sizes do "
            "not suit the posteriors; raise --temperatures"
        )
    if d.held_out.approximation.mean < -2 * d.held_out.approximation.standard_error:
        found.append(
            "log p(x) is below the ELBO of the best posteriors, which it cannot be: the chains do "
            "not mix; raise --temperatures, or --chains"
        )
    return found


def inputs(model: Trained, split_name: str, plan: Plan) -> dict[str, Any]:
    """Return everything that the numbers of a diagnosis depend on, to the last bit, as JSON."""
    machine = devices.describe(jax.devices()[0])
    del machine["host"]
    return {
        "checkpoint": model.checkpoint.model_dump(mode="json"),
        "settings": model.settings.model_dump(mode="json"),
        "plugs": [(plug.name, plug.sha256) for plug in resume.plugs_of(model.settings)],
        "data": model.rundir.read_record().data["fingerprint"],
        "split": split_name,
        "plan": plan._asdict(),
        "versions": environment.versions(),
        "machine": machine,
    }


class _Work:
    """The parts of a diagnosis, and the share of them that is done.

    The share is counted in gradients of the decoder for an image.
    """

    def __init__(
        self,
        plan: Plan,
        sizes: Mapping[SplitName, int],
        watch: Watch,
        finished: MutableMapping[str, Values],
    ) -> None:
        path = plan.chains * plan.temperatures * annealed.LEAPS
        self.annealing = 1.25 * path
        self.bracketing = 2.25 * path
        self.fitting = 8 * amortization.STEPS + 2 * 8 * CHUNKS / 3 + plan.importance_samples / 3
        costs = {
            f"simulated-{origin}": self.bracketing * min(plan.images, BATCH)
            for origin in _origins(plan)
        }
        for name, size in sizes.items():
            count = min(plan.images, size)
            for start in range(0, count, BATCH):
                images = min(BATCH, count - start)
                costs[f"{name}-{start}"] = (self.fitting + self.annealing) * images
        self._watch, self._finished = watch, finished
        self._all = sum(costs.values())
        self._done = sum(cost for name, cost in costs.items() if name in finished)

    def tell(self, what: str, done: float = 0.0) -> None:
        """Tell what is done next, and add what was done."""
        self._done += done
        self._watch(what, min(round(100 * self._done / self._all), 100), 100)

    def part(self, name: str, shape: tuple[int, int], compute: Callable[[], Values]) -> Values:
        """Return the numbers of a part, which are computed unless they are there."""
        found = self._finished.get(name)
        if found is None or found.shape != shape:
            found = self._finished[name] = compute()
        return found


def _check_room(model: Trained, plan: Plan, most: int) -> None:
    """Refuse a diagnosis of which a program does not fit into memory, before any of them runs.

    Args:
        model: a trained model.
        plan: the sizes of the diagnosis.
        most: images of the larger split.

    Raises:
        ConfigError: with the option to lower.
    """
    count, size = min(plan.images, BATCH), model.code_size
    batch, many = (_some(model, each) for each in (count, IMPORTANCE_BATCH))
    key, number, flag = streams.key(plan.seed, "diagnose"), shaped((), np.int32), shaped((), bool)
    posterior = Posterior(*[shaped((count, size), np.float32)] * 2)
    chains = shaped((plan.chains, count, size), np.float32)
    steps = shaped((annealed.BINS, count), np.float32)
    of_chains = f"--chains {plan.chains}", "lower --chains, or --images"
    of_images = f"--images {plan.images}", f"lower --images below {count}"
    of_split = f"{IMPORTANCE_BATCH} images at once", "no option lowers it: use another device"
    programs: list[tuple[Any, ...]] = [
        *(
            (of_chains, compiled_anneal, *batch, chains, key, number, steps, flag, flag, origin)
            for origin in _origins(plan)
        ),
        (of_images, compiled_best_posterior, *batch, key),
        (of_images, amortization.compiled_bound, *batch, posterior, key, number),
        (of_images, compiled_weighting, *batch, key, number),
        (of_split, compiled_bound, *many, key, 1),
        (of_split, aggregate.compiled_densities, *mismatch.shapes(min(most, MOST), size)),
    ]
    for (what, hint), function, *arguments in programs:
        footprint.check_program(what, hint, function, *arguments)
    model.check_room(plan.prior_samples)


def _some(model: Trained, count: int) -> tuple[Any, ...]:
    """Return the first arguments of the programs for so many images."""
    x = shaped((count, *model.image_shape), np.float32)
    return model.vae, model.variables, x, model.vae.first_class(count)


def _of_split(model: Trained, name: SplitName, split: Split, plan: Plan, work: _Work) -> _Found:
    """Estimate all numbers of a split."""
    order = np.random.default_rng(plan.seed).permutation(len(split.images))
    rows, subset = (_rows(model, split, order[:count]) for count in (MOST, plan.images))
    work.tell(f"KL and NLL of {name} images")
    whole = likelihoods(
        model.vae, model.variables, rows, samples=1, importance_samples=0, seed=plan.seed
    )
    posteriors = _encode(model, rows)
    numbers = (whole.kl, whole.nll, posteriors.mu, posteriors.log_var)
    _check_finite(model, f"the {name} split", *numbers)
    key = jax.random.fold_in(streams.key(plan.seed, "diagnose"), zlib.crc32(name.encode()))
    size = min(BATCH, len(subset))
    parts = []
    for start in range(0, len(subset), BATCH):
        batch, of_batch = subset[start : start + BATCH], jax.random.fold_in(key, start)
        compute = partial(_of_batch, model, name, batch, size, of_batch, plan, work)
        parts.append(work.part(f"{name}-{start}", (len(_Each._fields), len(batch)), compute))
    each = _Each(*np.concatenate(parts, axis=1))
    elbo = Estimate.of(-(whole.kl + whole.nll))
    amortized = Estimate.of(each.best - each.elbo)
    approximated = Estimate.of(each.log_p - each.best)
    gap = Estimate.of(each.log_p - each.elbo)
    nats = Nats(
        split=name,
        images=len(rows),
        subset=len(subset),
        nll=Estimate.of(whole.nll),
        kl=Estimate.of(whole.kl),
        elbo=elbo,
        amortization=amortized,
        approximation=approximated,
        log_p=Estimate(
            mean=elbo.mean + amortized.mean + approximated.mean,
            standard_error=math.hypot(elbo.standard_error, gap.standard_error),
        ),
        annealing=Annealing(
            log_p=Estimate.of(each.log_p),
            effective=float(each.effective.mean()),
            acceptance=float(each.acceptance.mean()),
            importance_weighted=Estimate.of(each.weighted),
            importance_effective=float(each.weighted_effective.mean()),
            difference=Estimate.of(each.log_p - each.weighted),
        ),
    )
    return _Found(nats, posteriors)


def _of_batch(
    model: Trained,
    name: SplitName,
    rows: UInt8[np.ndarray, "images row"],
    size: int,
    key: Key[Array, ""],
    plan: Plan,
    work: _Work,
) -> Values:
    """Estimate the numbers of the images of a batch.

    Args:
        model: a trained model.
        name: the split, for messages.
        rows: the images.
        size: images of a whole batch.
        key: of all random numbers.
        plan: the sizes of the diagnosis, with the origin of the chains.
        work: told of the progress.

    Raises:
        DivergedError: a number is not finite.
    """
    vae, variables = model.vae, model.variables
    k, chunks = jnp.int32(plan.importance_samples), jnp.int32(CHUNKS)
    count = len(rows)
    # a short batch is filled with copies of its last image, so that one shape is compiled
    pixels, y = vae.apart(jnp.asarray(np.pad(rows, ((0, size - count), (0, 0)), mode="edge")))
    x = vae.unit(pixels)
    of_fit, of_bound, of_weights, of_chains = jax.random.split(key, 4)
    work.tell(f"optimizing posteriors of {name} images")
    posteriors = [
        Posterior(*vae.network(variables).given(y).encode(x)),
        compiled_best_posterior(vae, variables, x, y, of_fit),
    ]
    ours, best = (
        amortization.compiled_bound(vae, variables, x, y, posterior, of_bound, chunks).elbo
        for posterior in posteriors
    )
    weighted, effective = compiled_weighting(vae, variables, x, y, of_weights, k)
    devices.wait_for([ours, best, weighted])
    work.tell(f"annealing {name} images", count * work.fitting)
    chains = annealed.annealed(
        *(vae, variables, x, y, of_chains),
        chains=plan.chains,
        temperatures=plan.temperatures,
        origin=_origins(plan)[0],
    )
    devices.wait_for(chains)
    each = _Each(*map(np.asarray, (ours, best, weighted, effective, *chains)))
    found = np.stack(each)[:, :count]
    _check_finite(model, f"the {name} split", found)
    work.tell(f"annealing {name} images", count * work.annealing)
    return found


def _check_finite(model: Trained, place: str, *numbers: np.ndarray) -> None:
    """Refuse numbers that are not finite."""
    if not all(np.isfinite(values).all() for values in numbers):
        raise DivergedError(
            f"{model.title}: a bound is not finite on {place}",
            hint="an earlier checkpoint may be better: --checkpoint EPOCH; or raise --temperatures",
        )


def origin_of(text: str) -> Origin | None:
    """Return the origin of that name; None for `auto`."""
    return next((origin for origin in ORIGINS if origin == text), None)


def _origins(plan: Plan) -> tuple[Origin, ...]:
    """Return where chains may start."""
    return (plan.origin,) if plan.origin else ORIGINS


def _origin(model: Trained, split: Split, plan: Plan, work: _Work) -> tuple[Origin, Bracketed]:
    """Choose where chains start, and bound log p(x) of simulated images with such chains.

    If both may be chosen, half of the images are for it and the other half for the bounds, which
    would look too near to each other on the images that they were chosen by.
    """
    shape = 2, min(plan.images, BATCH)
    found = {
        each: work.part(
            f"simulated-{each}", shape, partial(_bracket, model, split, each, plan, work)
        )
        for each in _origins(plan)
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


def _bracket(model: Trained, split: Split, origin: Origin, plan: Plan, work: _Work) -> Values:
    """Bound log p(x) of simulated images, whose classes are those of images of a split."""
    work.tell("annealing simulated images, there and back")
    count = min(plan.images, BATCH)
    total = len(split.images)
    some = np.random.default_rng(plan.seed).choice(total, count, replace=count > total)
    _, y = model.vae.apart(jnp.asarray(_rows(model, split, some)))
    found = annealed.bracket(
        *(model.vae, model.variables, count, y, streams.key(plan.seed, "diagnose", 1)),
        chains=plan.chains,
        temperatures=plan.temperatures,
        origin=origin,
    )
    devices.wait_for(found)
    bounds = np.stack(found)
    _check_finite(model, "simulated images", bounds)
    work.tell("annealing simulated images, there and back", count * work.bracketing)
    return bounds


def _rows(
    model: Trained, split: Split, places: Int[np.ndarray, " some"]
) -> UInt8[np.ndarray, "some numbers"]:
    """Return some images of a split as the model's functions take them, in their order."""
    return np.asarray(split.rows(labelled=bool(model.vae.classes))[np.sort(places)])


def _encode(model: Trained, rows: np.ndarray) -> Posteriors:
    """Return the posteriors of many images, some at a time."""
    conditional = bool(model.vae.classes)
    classes = rows[:, -1].astype(np.int32) if conditional else np.zeros(len(rows), np.int32)
    starts = range(0, len(rows), IMPORTANCE_BATCH)
    parts = [
        model.encode(rows[some, : model.vae.pixels], classes[some] if conditional else None)
        for some in (slice(start, start + IMPORTANCE_BATCH) for start in starts)
    ]
    mu, log_var = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Posteriors(mu, log_var, classes)


def _minus(a: Estimate, b: Estimate) -> Estimate:
    """Return the difference of two independent estimates."""
    error = math.hypot(a.standard_error, b.standard_error)
    return Estimate(mean=a.mean - b.mean, standard_error=error)
