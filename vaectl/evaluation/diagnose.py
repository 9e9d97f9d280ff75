"""Diagnosis of a trained model: where the nats go, and what to change."""

import math
import time
import zlib
from collections.abc import MutableMapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from vaectl.base import devices, streams
from vaectl.base.errors import DataError
from vaectl.base.shapes import shaped
from vaectl.config.meaning import meaning
from vaectl.data.arrays import Split
from vaectl.data.binarization import SplitName
from vaectl.evaluation import aggregate, amortization, annealed, mismatch
from vaectl.evaluation.advice import advice
from vaectl.evaluation.aggregate import Posteriors
from vaectl.evaluation.amortization import Posterior, compiled_best_posterior
from vaectl.evaluation.annealed import compiled_anneal
from vaectl.evaluation.likelihoods import (
    IMPORTANCE_BATCH,
    compiled_bound,
    compiled_weighting,
    likelihoods,
)
from vaectl.evaluation.origin import choose
from vaectl.evaluation.work import CHUNKS, Plan, Values, Watch, Work
from vaectl.runs import environment, resume
from vaectl.runs.diagnosis import Annealing, Diagnosis, Nats
from vaectl.runs.record import ACTIVE, Estimate
from vaectl.runs.trained import Trained
from vaectl.training import footprint

MOST = 10_000
"""The most images of a split for KL and NLL, and the most posteriors in the mixture."""
LEAST = 10
"""Fewest images of a split."""

LARGE_BRACKET = 0.5
"""The gap between the bounds on simulated images, in nats, above which log p(x) is uncertain."""
ACCEPTANCE = (0.4, 0.9)
"""The lower and the upper limit of an acceptable share of accepted transitions."""


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
    splits = _splits(model, split_name)
    sizes = {name: len(split.images) for name, split in splits.items()}
    _check_room(model, plan, max(sizes.values()))
    work = Work(model.title, plan, sizes, watch, {} if finished is None else finished)
    simulated = _some_rows(model, splits[split_name], plan)
    origin, bracketed = choose(model, simulated, plan, work)
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
            *(model, train.posteriors, gathered.width, splits[split_name]),
            count=plan.prior_samples,
            seed=plan.seed,
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


def _splits(model: Trained, held_out: Literal["validation", "test"]) -> dict[SplitName, Split]:
    """Return the held-out and the training images; refuse too few of either."""
    splits: dict[SplitName, Split] = {name: model.split(name) for name in (held_out, "train")}
    for name, split in splits.items():
        if len(split.images) < LEAST:
            raise DataError(
                f"{model.title}: {len(split.images)} {name} images are too few to diagnose",
                hint=f"at least {LEAST} are needed; --split chooses the held-out ones",
            )
    return splits


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
        "rounds": amortization.ROUNDS,
        "versions": environment.versions(),
        "machine": machine,
    }


def _check_room(model: Trained, plan: Plan, most: int) -> None:
    """Refuse a diagnosis one of whose programs does not fit into memory, before any of them runs.

    Args:
        model: a trained model.
        plan: the sizes of the diagnosis.
        most: images of the larger split.

    Raises:
        ConfigError: a program does not fit; the hint names the option to lower.
    """
    count, size = plan.at_once, model.code_size
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
            for origin in plan.origins
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
    """Return the first arguments of the programs, for `count` images."""
    x = shaped((count, *model.image_shape), np.float32)
    return model.vae, model.variables, x, model.vae.first_class(count)


def _of_split(model: Trained, name: SplitName, split: Split, plan: Plan, work: Work) -> _Found:
    """Estimate all numbers of a split."""
    order = np.random.default_rng(plan.seed).permutation(len(split.images))
    rows, subset = (_rows(model, split, order[:count]) for count in (MOST, plan.images))
    work.tell(f"KL and NLL of {name} images")
    whole = likelihoods(
        model.vae, model.variables, rows, samples=1, importance_samples=0, seed=plan.seed
    )
    posteriors = _encode(model, rows)
    numbers = (whole.kl, whole.nll, posteriors.mu, posteriors.log_var)
    work.check_finite(f"the {name} split", *numbers)
    key = jax.random.fold_in(streams.key(plan.seed, "diagnose"), zlib.crc32(name.encode()))
    parts, size = [], min(plan.at_once, len(subset))
    for some in plan.batches(len(subset)):
        batch, of_batch = subset[some], jax.random.fold_in(key, some.start)
        compute = partial(_of_batch, model, name, batch, size, of_batch, plan, work)
        parts.append(work.part(f"{name}-{some.start}", (len(_Each._fields), len(batch)), compute))
    each = _Each(*np.concatenate(parts, axis=1))
    elbo = Estimate.of(-(whole.kl + whole.nll))
    amortized = Estimate.of(each.best - each.elbo)
    approximated = Estimate.of(each.log_p - each.best)
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
            standard_error=_error_of_sum(elbo, each.elbo, each.log_p - each.elbo, len(rows)),
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


def _error_of_sum(
    elbo: Estimate,
    of_subset: Float[np.ndarray, " subset"],
    gaps: Float[np.ndarray, " subset"],
    images: int,
) -> float:
    """Return the standard error of a mean ELBO over many images plus a mean gap over some of them.

    The images are the same, those of the smaller set, so the two are not independent:

        Var = Var(ELBO) / N + Var(gap) / n + 2 Cov(ELBO, gap) / max(N, n)

    Args:
        elbo: the mean over N images.
        of_subset: the ELBO of each of n images.
        gaps: the gap of each of them.
        images: N.
    """
    covariance = np.cov(of_subset, gaps)[0, 1] / max(images, len(gaps))
    of_gap = Estimate.of(gaps).standard_error
    return math.sqrt(max(elbo.standard_error**2 + of_gap**2 + 2 * covariance, 0.0))


def _of_batch(
    model: Trained,
    name: SplitName,
    rows: UInt8[np.ndarray, "images row"],
    size: int,
    key: Key[Array, ""],
    plan: Plan,
    work: Work,
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
        origin=plan.origins[0],
    )
    devices.wait_for(chains)
    each = _Each(*map(np.asarray, (ours, best, weighted, effective, *chains)))
    found = np.stack(each)[:, :count]
    work.check_finite(f"the {name} split", found)
    work.tell(f"annealing {name} images", count * work.annealing)
    return found


def _some_rows(model: Trained, split: Split, plan: Plan) -> UInt8[np.ndarray, "some numbers"]:
    """Return as many images as are annealed at once; if there are too few, repeat some."""
    total, count = len(split.images), plan.at_once
    some = np.random.default_rng(plan.seed).choice(total, count, replace=count > total)
    return _rows(model, split, some)


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
