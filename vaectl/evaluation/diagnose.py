"""Diagnosis of a trained model: where the nats go, and what to change."""

import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from vaectl.base import streams
from vaectl.base.errors import DataError, DivergedError
from vaectl.base.shapes import shaped
from vaectl.config.meaning import meaning
from vaectl.data.arrays import Split
from vaectl.data.binarization import SplitName
from vaectl.evaluation import amortization, annealed, mismatch
from vaectl.evaluation.advice import advice
from vaectl.evaluation.aggregate import Posteriors
from vaectl.evaluation.annealed import Origin
from vaectl.evaluation.likelihoods import compiled_weighting, likelihoods
from vaectl.runs.diagnosis import Annealing, Bracketed, Diagnosis, Nats
from vaectl.runs.record import ACTIVE, Estimate
from vaectl.runs.trained import AT_ONCE, Trained
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
) -> Diagnosis:
    """Find where the nats of a model go.

    Args:
        model: a trained model.
        split_name: the held-out images.
        plan: how many images, chains, temperatures and samples.
        watch: told of the progress.

    Raises:
        ConfigError: the chains do not fit into memory.
        DataError: the data set is missing, is not the run's, or a split has too few images.
        DivergedError: a number is not finite.

    Cremer et al. 2018 (gaps); Wu et al. 2017 (log p(x)); Hoffman & Johnson 2016 (KL).
    """
    begun = time.perf_counter()
    _check_room(model, plan)
    splits: dict[SplitName, Split] = {name: model.split(name) for name in (split_name, "train")}
    for name, split in splits.items():
        if len(split.images) < LEAST:
            raise DataError(
                f"{model.title}: {len(split.images)} {name} images are too few to diagnose",
                hint=f"at least {LEAST} are needed; --split chooses the held-out ones",
            )
    progress = _Progress(plan, [len(split.images) for split in splits.values()], watch)
    origin, bracketed = _origin(model, splits[split_name], plan, progress)
    plan = plan._replace(origin=origin)
    found = {name: _of_split(model, name, split, plan, progress) for name, split in splits.items()}
    held_out, train = found[split_name], found["train"]
    progress("comparing the aggregate posterior with the prior")
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


class _Progress:
    """The share of the work that is done, counted in gradients of the decoder for an image."""

    def __init__(self, plan: Plan, sizes: Sequence[int], watch: Watch) -> None:
        path = plan.chains * plan.temperatures * annealed.LEAPS
        self.annealing = 1.25 * path
        self.bracketing = 2.25 * path
        self.fitting = 8 * amortization.STEPS + 2 * 8 * CHUNKS / 3 + plan.importance_samples / 3
        self._watch, self._done = watch, 0.0
        each = self.annealing + self.fitting
        self._all = sum(each * min(plan.images, size) for size in sizes)
        self._all += len(_origins(plan)) * self.bracketing * min(plan.images, BATCH)

    def __call__(self, what: str, done: float = 0.0) -> None:
        """Tell what is done next, and add what was done."""
        self._done += done
        self._watch(what, min(round(100 * self._done / self._all), 100), 100)


def _check_room(model: Trained, plan: Plan) -> None:
    """Refuse chains that do not fit into memory."""
    images, bins = min(plan.images, BATCH), annealed.BINS
    flag, key = shaped((), np.bool_), streams.key(plan.seed, "diagnose")
    footprint.check_program(
        f"--chains {plan.chains}",
        "lower --chains, or --images",
        annealed.compiled_anneal,
        model.vae,
        model.variables,
        shaped((images, *model.image_shape), np.float32),
        model.vae.first_class(images),
        shaped((plan.chains, images, model.code_size), np.float32),
        *(key, shaped((), np.int32), shaped((bins, images), np.float32), flag, flag),
        _origins(plan)[0],
    )


def _of_split(
    model: Trained, name: SplitName, split: Split, plan: Plan, progress: _Progress
) -> _Found:
    """Estimate all numbers of a split."""
    order = np.random.default_rng(plan.seed).permutation(len(split.images))
    rows, subset = (_rows(model, split, order[:count]) for count in (MOST, plan.images))
    progress(f"KL and NLL of {name} images")
    whole = likelihoods(
        model.vae, model.variables, rows, samples=1, importance_samples=0, seed=plan.seed
    )
    posteriors = _encode(model, rows)
    key = jax.random.fold_in(streams.key(plan.seed, "diagnose"), zlib.crc32(name.encode()))
    parts = [
        {field: values[:count] for field, values in of_batch.items()}
        for of_batch, count in _of_batches(model, name, subset, key, plan, progress)
    ]
    each = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
    numbers = [*each.values(), whole.kl, whole.nll, posteriors.mu, posteriors.log_var]
    if not all(np.isfinite(values).all() for values in numbers):
        raise DivergedError(
            f"{model.title}: a bound is not finite on the {name} split",
            hint="an earlier checkpoint may be better: --checkpoint EPOCH",
        )
    elbo = Estimate.of(-(whole.kl + whole.nll))
    amortized = Estimate.of(each["best"] - each["elbo"])
    approximated = Estimate.of(each["log_p"] - each["best"])
    gap = Estimate.of(each["log_p"] - each["elbo"])
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
            log_p=Estimate.of(each["log_p"]),
            effective=float(each["effective"].mean()),
            acceptance=float(each["acceptance"].mean()),
            importance_weighted=Estimate.of(each["weighted"]),
            importance_effective=float(each["weighted_effective"].mean()),
            difference=Estimate.of(each["log_p"] - each["weighted"]),
        ),
    )
    return _Found(nats, posteriors)


def _of_batches(
    model: Trained,
    name: str,
    rows: np.ndarray,
    key: Key[Array, ""],
    plan: Plan,
    progress: _Progress,
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield the values of each image of a batch by name, and how many of them count."""
    vae, variables = model.vae, model.variables
    k, chunks = jnp.int32(plan.importance_samples), jnp.int32(CHUNKS)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        count, size = len(batch), min(BATCH, len(rows))
        # a short batch is filled with copies of its last image, so that one shape is compiled
        filled = np.pad(batch, ((0, size - count), (0, 0)), mode="edge")
        pixels, y = vae.apart(jnp.asarray(filled))
        x = vae.unit(pixels)
        of_fit, of_bound, of_weights, of_chains = jax.random.split(
            jax.random.fold_in(key, start), 4
        )
        progress(f"optimizing posteriors of {name} images")
        posteriors = [
            amortization.Posterior(*vae.network(variables).given(y).encode(x)),
            amortization.compiled_best_posterior(vae, variables, x, y, of_fit),
        ]
        ours, best = (
            amortization.compiled_bound(vae, variables, x, y, posterior, of_bound, chunks).elbo
            for posterior in posteriors
        )
        weighted, effective = compiled_weighting(vae, variables, x, y, of_weights, k)
        weighted.block_until_ready()
        progress(f"annealing {name} images", count * progress.fitting)
        chains = annealed.annealed(
            *(vae, variables, x, y, of_chains),
            chains=plan.chains,
            temperatures=plan.temperatures,
            origin=_origins(plan)[0],
        )
        values = {
            "elbo": ours,
            "best": best,
            "weighted": weighted,
            "weighted_effective": effective,
            **chains._asdict(),
        }
        yield {field: np.asarray(each) for field, each in values.items()}, count
        progress(f"annealing {name} images", count * progress.annealing)


def origin_of(text: str) -> Origin | None:
    """Return the origin of that name; None for `auto`."""
    return next((origin for origin in ORIGINS if origin == text), None)


def _origins(plan: Plan) -> tuple[Origin, ...]:
    """Return where chains may start."""
    return (plan.origin,) if plan.origin else ORIGINS


def _origin(
    model: Trained, split: Split, plan: Plan, progress: _Progress
) -> tuple[Origin, Bracketed]:
    """Choose where chains start, and bound log p(x) of simulated images with such chains.

    If both may be chosen, half of the images are for it and the other half for the bounds, which
    would look too near to each other on the images that they were chosen by.
    """
    found = {each: _bracket(model, split, each, plan, progress) for each in _origins(plan)}
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
    model: Trained, split: Split, origin: Origin, plan: Plan, progress: _Progress
) -> tuple[Float[np.ndarray, " images"], Float[np.ndarray, " images"]]:
    """Bound log p(x) of simulated images, whose classes are those of images of a split."""
    progress("annealing simulated images, there and back")
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
    lower, upper = (np.asarray(values) for values in found)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise DivergedError(
            f"{model.title}: a bound is not finite on simulated images",
            hint="raise --temperatures, or choose an earlier checkpoint: --checkpoint EPOCH",
        )
    progress("annealing simulated images, there and back", count * progress.bracketing)
    return lower, upper


def _rows(
    model: Trained, split: Split, places: Int[np.ndarray, " some"]
) -> UInt8[np.ndarray, "some numbers"]:
    """Return some images of a split as the model's functions take them, in their order."""
    return np.asarray(split.rows(labelled=bool(model.vae.classes))[np.sort(places)])


def _encode(model: Trained, rows: np.ndarray) -> Posteriors:
    """Return the posteriors of many images, some at a time."""
    conditional = bool(model.vae.classes)
    classes = rows[:, -1].astype(np.int32) if conditional else np.zeros(len(rows), np.int32)
    starts = [slice(start, start + AT_ONCE) for start in range(0, len(rows), AT_ONCE)]
    parts = [
        model.encode(rows[some, : model.vae.pixels], classes[some] if conditional else None)
        for some in starts
    ]
    mu, log_var = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Posteriors(mu, log_var, classes)


def _minus(a: Estimate, b: Estimate) -> Estimate:
    """Return the difference of two independent estimates."""
    error = math.hypot(a.standard_error, b.standard_error)
    return Estimate(mean=a.mean - b.mean, standard_error=error)
