"""Evaluation of a trained model on a split: means with standard errors."""

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from vaectl.base import streams
from vaectl.base.errors import DataError, DivergedError
from vaectl.base.shapes import shaped
from vaectl.config.meaning import bits_per_dimension, dimensions, meaning
from vaectl.data.binarization import SplitName
from vaectl.evaluation.likelihoods import IMPORTANCE_BATCH, Likelihoods, compiled_bound, likelihoods
from vaectl.evaluation.samples import broken, broken_share
from vaectl.runs.record import ACTIVE, Bits, Estimate, Evaluation
from vaectl.runs.trained import Trained
from vaectl.training import footprint


def assess(
    model: Trained,
    split_name: SplitName,
    *,
    samples: int,
    importance_samples: int,
    seed: int,
    precision: Literal["float32", "bfloat16"] = "float32",
    prior_samples: int = 0,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Evaluate a model on a split.

    Args:
        model: a trained model.
        split_name: which images.
        samples: L of the ELBO.
        importance_samples: K of the importance-weighted bound; 0 to leave it out.
        seed: the seed of the noise.
        precision: that of the products of the importance-weighted bound; all else is in float32.
        prior_samples: how many samples from the prior are compared with the data.
        watch: called with the number of images done, and of all.

    Raises:
        ConfigError: the samples do not fit into memory.
        DataError: the data set is missing or not the run's, or the split has only one image.
        DivergedError: the bound of an image is not finite.
    """
    split = model.split(split_name)
    if len(split.images) < 2:
        raise DataError(
            f"{model.title}: one {split_name} image is too few to evaluate: no standard error, and "
            "no activity of the code",
            hint="--split chooses other images; more of them at the next training by "
            f"data.{split_name}_size",
        )
    _check_room(model, samples, prior_samples)
    start = time.perf_counter()
    found = likelihoods(
        model.vae,
        model.variables,
        split.rows(labelled=bool(model.vae.classes)),
        samples=samples,
        importance_samples=importance_samples,
        seed=seed,
        bfloat16=precision == "bfloat16",
        watch=watch,
    )
    _check_finite(found, f"{model.title}: its ELBO is not finite on the {split_name} split")
    activity = found.mu.var(axis=0, dtype=np.float64)
    elbo, kl, nll = map(Estimate.of, (-(found.kl + found.nll), found.kl, found.nll))
    iw = None if found.iw is None else Estimate.of(found.iw)
    broken_samples, broken_images = _broken(model, split_name, prior_samples, seed)
    return Evaluation(
        run=model.rundir.name,
        epoch=model.checkpoint.epoch,
        step=model.checkpoint.step,
        where=model.checkpoint.where,
        split=split_name,
        images=len(split.images),
        binarization=meaning(model.settings),
        seed=seed,
        samples=samples,
        elbo=elbo,
        kl=kl,
        nll=nll,
        importance_samples=importance_samples,
        precision=precision,
        log_likelihood=iw,
        bits_per_dimension=_in_bits(model, elbo, kl, nll, iw),
        code_size=model.code_size,
        active_units=int((activity > ACTIVE).sum()),
        activity=activity.tolist(),
        kl_by_dimension=found.kl_by_dimension.tolist(),
        prior_samples=prior_samples,
        broken_samples=broken_samples,
        broken_images=broken_images,
        seconds=time.perf_counter() - start,
    )


def _check_room(model: Trained, samples: int, prior_samples: int) -> None:
    """Refuse samples that do not fit into memory, before any are drawn."""
    footprint.check_program(
        f"--samples {samples}",
        "lower --samples",
        compiled_bound,
        model.vae,
        model.variables,
        shaped((IMPORTANCE_BATCH, *model.image_shape), np.float32),
        model.vae.first_class(IMPORTANCE_BATCH),
        streams.key(0, "evaluate"),
        samples,
    )
    model.check_room(prior_samples)


def _broken(
    model: Trained, split_name: SplitName, count: int, seed: int
) -> tuple[int | None, float | None]:
    """Count the samples from the prior that look broken; return the share of held-out images, too.

    Without samples there are neither.
    """
    if not count:
        return None, None
    dataset = model.dataset()
    images = model.sample(count, seed=seed).reshape(count, -1)
    held_out = dataset.test if split_name == "test" else dataset.validation
    return int(broken(images, dataset).either.sum()), broken_share(held_out, dataset)


def _check_finite(found: Likelihoods, problem: str) -> None:
    numbers = (found.kl, found.nll, found.mu, 0.0 if found.iw is None else found.iw)
    if not all(np.isfinite(values).all() for values in numbers):
        hint = "an earlier checkpoint may be better: --checkpoint EPOCH"
        raise DivergedError(problem, hint=hint)


def _in_bits(
    model: Trained, elbo: Estimate, kl: Estimate, nll: Estimate, iw: Estimate | None
) -> Bits | None:
    """Convert nats per image to bits per dimension; None if the model has none."""
    size = dimensions(model.settings, model.image_shape)
    if size is None:
        return None

    def of(nats: Estimate, sign: int = 1) -> Estimate:  # -1: the negative of a log-probability
        return Estimate(
            mean=bits_per_dimension(sign * nats.mean, size),
            standard_error=-bits_per_dimension(nats.standard_error, size),
        )

    return Bits(
        dimensions=size, elbo=of(elbo), kl=of(kl, -1), nll=of(nll, -1), log_likelihood=iw and of(iw)
    )
