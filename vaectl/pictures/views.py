"""Pictures of a trained model, and the arrays that they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vaectl.base import streams
from vaectl.base.errors import ConfigError, RunError, remedy
from vaectl.base.files import replacing
from vaectl.base.terminal import say
from vaectl.config.meaning import meaning
from vaectl.data.binarization import SplitName
from vaectl.evaluation.likelihoods import likelihoods
from vaectl.pictures import figures, latent
from vaectl.pictures import sheets as pictures
from vaectl.pictures.sheets import Panel
from vaectl.runs.directory import save_figure
from vaectl.runs.find import find
from vaectl.runs.trained import Trained, load

Space = Literal["both", "latent", "image"]
Draw = Literal["mean", "binary"]
Arrays = dict[str, np.ndarray]

FORMATS = ("png", "svg", "pdf")


class View(NamedTuple):
    """A picture, and the arrays that it shows."""

    name: str
    figure: Figure
    arrays: Arrays


def save(model: Trained, view: View, out: Path | None, arrays: Path | None) -> Path:
    """Write a picture to `out`, or into the run's figures/, and its arrays if a file is given.

    Raises:
        RunError: a file cannot be written.
    """
    if out is None:
        (path,) = model.rundir.write_figure(view.name, view.figure, ["png"])
    else:
        save_figure(path := out, view.figure)
    if arrays is not None:
        try:
            with replacing(arrays) as file:
                np.savez_compressed(file, allow_pickle=False, **view.arrays)
        except OSError as error:
            raise RunError(
                f"{arrays}: cannot be written: {error.strerror}", hint=remedy(error)
            ) from None
    return path


def open_run(
    run: str, runs_dir: Path, checkpoint: str, out: Path | None, arrays: Path | None
) -> Trained:
    """Check the formats of the output files, then load the model.

    Raises:
        ConfigError: a format cannot be written.
        RunError: there is no such run, or its checkpoint does not load.
    """
    if out is not None and out.suffix.lower()[1:] not in FORMATS:
        raise ConfigError(f"--out {out}: unknown format", hint="end it in .png, .svg or .pdf")
    if arrays is not None and arrays.suffix != ".npz":
        raise ConfigError(f"--save-arrays {arrays}: not a NumPy archive", hint="end it in .npz")
    model = load(find(run, runs_dir), checkpoint)
    for warning in model.warnings:
        say(f"warning: {warning}")
    return model


def parse_pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Read pairs of indices written as I:J.

    Raises:
        ConfigError: a text has another form.
    """
    pairs = []
    for text in texts:
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
        if match is None:
            raise ConfigError(
                f"--pairs {text}: not two indices", hint="write I:J, for example --pairs 0:1"
            )
        pairs.append((int(match[1]), int(match[2])))
    return pairs


def sample(model: Trained, *, count: int, temperature: float, draw: Draw, seed: int) -> View:
    """Decode codes from the prior (Fig. 4 of the paper).

    Raises:
        ConfigError: binary draws of a likelihood whose pixels are grey levels.
    """
    likelihood = model.settings.likelihood
    if draw == "binary" and not likelihood.chosen.binary:
        raise ConfigError(
            f"--draw binary: the pixels of the likelihood {likelihood.name} are not binary",
            hint="--draw mean shows the mean of each pixel",
        )
    z = model.prior(count, seed=seed, temperature=temperature)
    images = model.decode(z)
    if draw == "binary":
        images = (np.random.default_rng(seed).random(images.shape) < images).astype(np.float32)
    means = "probabilities" if likelihood.chosen.binary else "means"
    what = means if draw == "mean" else "binary draws"
    heat = "" if temperature == 1 else f", temperature {temperature:g}"
    title = f"{model.title}\n{count} samples from the prior{heat}: {what}"
    figure = pictures.sheet([[Panel(pictures.near_square(images))]], title=title)
    return View("sample", figure, {"z": z, "images": images})


def manifold(
    model: Trained,
    *,
    grid: int,
    limit: float,
    spacing: latent.Spacing,
    dims: tuple[int, int] | None,
    anchor: int | None,
) -> View:
    """Decode a plane of the latent space (Fig. 5 of the paper).

    Raises:
        ConfigError: a dimension or the image is out of range, or the dimensions are equal.
        RunError: the code has only one dimension.
    """
    dims = _plane(model, dims)
    centre = np.zeros(model.code_size, np.float32)
    if anchor is not None:
        images = model.split("test").images
        _check_index("--anchor", anchor, len(images), "test images")
        centre = model.encode(images[anchor : anchor + 1])[0][0]
    coordinates = latent.axis(grid, limit, spacing)
    z = latent.plane(coordinates, dims, centre)
    images = model.decode(z)
    every = -(-grid // 25)  # a large grid only has room for some numbers
    ticks = [f"{c:.1f}" if i % every == 0 else "" for i, c in enumerate(coordinates)]
    panel = Panel(
        images,
        row_labels=ticks[::-1],
        column_labels=ticks,
        x_label=f"$z_{{{dims[0]}}}$",
        y_label=f"$z_{{{dims[1]}}}$",
    )
    others = "" if model.code_size == 2 else ", the others at zero"
    if anchor is not None:
        others = f", through test image {anchor}"
    title = f"{model.title}\ndecoded plane of the latent space, {spacing} spacing{others}"
    figure = pictures.sheet([[panel]], title=title)
    return View("manifold", figure, {"z": z, "images": images, "coordinates": coordinates})


def _plane(model: Trained, dims: tuple[int, int] | None) -> tuple[int, int]:
    """Check the dimensions of a plane; without any, choose the most active ones."""
    if model.code_size < 2:
        raise RunError(
            f"{model.rundir.path}: a code of one dimension has no plane",
            hint="vaectl sample, or a model of --code-size 2",
        )
    if dims is None:
        return (0, 1) if model.code_size == 2 else _most_active(model)
    for dim in dims:
        _check_index("--dims", dim, model.code_size, "dimensions of the code")
    if dims[0] == dims[1]:
        raise ConfigError(
            f"--dims {dims[0]} {dims[1]}: a plane has two different dimensions",
            hint="choose two different dimensions",
        )
    return dims


def morph(
    model: Trained,
    *,
    rows: int,
    steps: int,
    pairs: Sequence[tuple[int, int]],
    space: Space,
    path: latent.Path,
    from_mean: bool,
    seed: int,
) -> View:
    """Morph from image to image, in image space and in latent space (Fig. 6 of the paper).

    Without pairs, each row starts with the last image of the row above. An image in several rows
    has the same posterior sample in all of them.

    Raises:
        ConfigError: an index is out of range.
    """
    split = model.split("test")
    for pair in pairs:
        for index in pair:
            _check_index("--pairs", index, len(split.images), "test images")
    chosen = list(pairs) or latent.chain(rows, len(split.images), split.labels, seed)
    used = sorted({index for pair in chosen for index in pair})
    images = dict(zip(used, _in_unit(model, split.images[used]), strict=True))
    codes = dict(zip(used, _codes(model, split.images[used], from_mean, seed), strict=True))
    z = np.stack([latent.way(codes[a], codes[b], steps, path) for a, b in chosen])
    arrays: Arrays = {"pairs": np.asarray(chosen), "z": z}
    panels = []
    if space in ("both", "image"):
        arrays["image_space"] = np.stack(
            [latent.way(images[a], images[b], steps, "linear") for a, b in chosen]
        )
        panels.append(Panel(arrays["image_space"], heading="image space"))
    if space in ("both", "latent"):
        arrays["latent_space"] = model.decode(z)
        panels.append(Panel(arrays["latent_space"], heading=f"latent space, {path}"))
    ends = "posterior means" if from_mean else "posterior samples"
    chain = all(before[1] == after[0] for before, after in pairwise(chosen))
    how = "; each row starts where the last one ended" if chain and len(chosen) > 1 else ""
    title = f"{model.title}\nmorphing test images, {ends}{how}"
    return View("morph", pictures.sheet([panels], title=title), arrays)


def reconstruct(model: Trained, *, count: int, split_name: SplitName, seed: int) -> View:
    """Show images beside their reconstructions from posterior means.

    Raises:
        ConfigError: `count` exceeds the size of the split.
    """
    split = model.split(split_name)
    if count > len(split.images):
        raise ConfigError(
            f"--count {count}: there are {len(split.images)} images in the {split_name} split",
            hint="use a smaller --count, or another --split",
        )
    chosen = np.random.default_rng(seed).permutation(len(split.images))[:count]
    originals = _in_unit(model, split.images[chosen])
    means = model.decode(model.encode(split.images[chosen])[0])
    difference = np.abs(originals - means)
    if model.image_shape[-1] == 3:  # as ink on paper, like that of grey images
        difference = np.broadcast_to(1 - difference.mean(axis=-1, keepdims=True), means.shape)
    elbo = model.elbo(split.images[chosen], samples=1, seed=seed)
    rows = []
    for start in range(0, count, 10):
        part = slice(start, start + 10)
        stacked = np.stack([originals[part], means[part], difference[part]])
        labels = [f"{value:.1f}" for value in elbo[part]]
        rows.append([Panel(stacked, "", ("original", "mean", "difference"), labels)])
    title = (
        f"{model.title}\n{split_name} images, reconstructions from posterior means; "
        f"below: ELBO in nats, 1 sample, {meaning(model.settings)}"
    )
    figure = pictures.sheet(rows, title=title)
    arrays = {"index": chosen, "images": originals, "means": means, "elbo": elbo}
    return View("reconstruct", figure, arrays)


def inspect(model: Trained, *, split_name: SplitName, seed: int) -> View:
    """Show the latent space: KL by dimension, posterior means, aggregate posterior."""
    split = model.split(split_name)
    found = likelihoods(
        model.vae, model.variables, split.images, samples=1, importance_samples=0, seed=seed
    )
    z = _codes(model, split.images, from_mean=False, seed=seed)
    size = model.code_size
    dims = (0, min(1, size - 1)) if size <= 2 else latent.most_active(found.kl_by_dimension)
    title = f"{model.title}: {split_name} split, {len(z):,} images, {meaning(model.settings)}"
    figure = figures.inspection(found.mu, z, found.kl_by_dimension, split.labels, dims, title=title)
    arrays = {"mu": found.mu, "z": z, "kl_by_dimension": found.kl_by_dimension}
    return View("inspect", figure, arrays)


def _most_active(model: Trained) -> tuple[int, int]:
    """Return the two dimensions of the highest KL on validation images."""
    mu, log_var = model.encode(model.split("validation").images)
    kl = 0.5 * (mu**2 + np.expm1(log_var) - log_var).mean(axis=0)
    return latent.most_active(kl)


def _codes(
    model: Trained, images: np.ndarray, from_mean: bool, seed: int
) -> Float[np.ndarray, "images code"]:
    """Return posterior means, or one sample of each posterior."""
    mu, log_var = model.encode(images)
    if from_mean:
        return mu
    noise = np.asarray(jax.random.normal(streams.key(seed, "sample"), mu.shape))
    codes: np.ndarray = mu + np.exp(0.5 * log_var) * noise
    return codes


def _in_unit(model: Trained, images: np.ndarray) -> Float[np.ndarray, "images *picture"]:
    return images.reshape(-1, *model.picture_shape).astype(np.float32) / 255


def _check_index(option: str, index: int, size: int, what: str) -> None:
    if not 0 <= index < size:
        raise ConfigError(
            f"{option} {index}: out of range", hint=f"there are {size} {what}: 0 to {size - 1}"
        )
