"""Pictures of a trained model, and the arrays that they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from vaectl.base import streams
from vaectl.base.errors import ConfigError, DataError, RunError
from vaectl.base.files import replacing
from vaectl.base.nearest import did_you_mean
from vaectl.base.plural import plural
from vaectl.base.terminal import say
from vaectl.config.meaning import meaning
from vaectl.data.binarization import SplitName
from vaectl.evaluation.likelihoods import likelihoods
from vaectl.pictures import animation, latent, text
from vaectl.pictures import inspection as inspecting
from vaectl.pictures import sheets as pictures
from vaectl.pictures.animation import Animation
from vaectl.pictures.canvas import HIGH, Figure
from vaectl.pictures.inspection import Posteriors
from vaectl.pictures.options import NamedRange, Range, check_dims
from vaectl.pictures.sheets import Panel
from vaectl.pictures.style import DEFAULT, MM, Style
from vaectl.runs.directory import save_figure
from vaectl.runs.saved import kept
from vaectl.runs.trained import Origin, Trained, load

Space = Literal["both", "latent", "image"]
Draw = Literal["mean", "binary"]
Classes = Literal["change", "keep"]
Arrays = dict[str, np.ndarray]


SAMPLES, GRID, ROWS, STEPS, RECONSTRUCTIONS = 100, 20, 12, 13, 20
"""The default numbers of images if there is room: samples; coordinates per axis; rows and steps of
a morph; reconstructions."""
_ORIGINS: dict[Origin, str] = {
    "prior": "the prior",
    "aggregate": "the posteriors of training images, not from the prior",
    "mixture": "a mixture of Gaussians fitted to codes of training images, not from the prior",
}
_INK = "; 1 is black"
PRIOR_CODES = 5000
"""The number of sampled codes that determine the range of a prior other than N(0, I)."""


class View(NamedTuple):
    """A picture, and the arrays that it shows."""

    name: str
    figure: Figure | Animation
    arrays: Arrays


def save(model: Trained, view: View, out: Path | None, arrays: Path | None) -> Path:
    """Write a picture to `out`, or into the run's figures/, and its arrays if a file is given.

    Raises:
        ConfigError: an animation cannot be written in that format.
        RunError: a file cannot be written.
    """
    if out is None:
        kind = "gif" if isinstance(view.figure, Animation) else "png"
        (path,) = model.rundir.write_figure(view.name, view.figure, [kind])
    else:
        save_figure(path := out, view.figure)
    if arrays is not None:
        try:
            with replacing(arrays) as file:
                np.savez_compressed(file, allow_pickle=False, **view.arrays)
        except OSError as error:
            raise RunError.of(error, arrays, "cannot be written") from None
    return path


def over_epochs(model: Trained, draw: Callable[..., View], style: Style) -> View:
    """Return a view as an animation over the epochs of all checkpoints that the run keeps.

    Args:
        model: one of its models, whose arrays the view has.
        draw: returns what a model shows, in a style.
        style: the look.

    Raises:
        RunError: there are fewer than two checkpoints.
    """
    epochs = [info.epoch for info in kept(model.rundir.checkpoints) if not info.beyond]
    kept_all = model.settings.checkpoint.keep == "all" and model.settings.checkpoint.every == 1
    more = "to have more, train it further by vaectl train --resume NAME --epochs N"
    if not kept_all:
        more = "to keep more, train with --set checkpoint.keep=all --set checkpoint.every=1"
    if len(epochs) < 2:
        raise RunError(f"{model.rundir.path}: one checkpoint makes no animation", hint=more)
    if len(epochs) < 5:
        say(f"note: {len(epochs)} checkpoints, of epochs {', '.join(map(str, epochs))}; {more}")
    style = for_animation(with_polarity(model, style))

    def figures() -> Iterator[Figure]:
        for epoch in epochs:
            figure = draw(load(model.rundir, epoch), style=style).figure
            assert isinstance(figure, Figure)  # noqa: S101  # an animation holds no other
            yield figure

    view = draw(model, style=style)
    return view._replace(figure=Animation(figures(), len(epochs)))


def for_animation(style: Style) -> Style:
    """Return a style with fewer pixels."""
    return style._replace(theme=style.theme._replace(dpi=animation.DPI))


def with_polarity(model: Trained, style: Style) -> Style:
    """Choose how a model's images are drawn, if the style leaves it open."""
    return style.with_polarity(drawings=style.polarity == "auto" and model.drawings)


def _scale(model: Trained, style: Style) -> str:
    """Say what black or white means in a picture of grey images."""
    if model.image_shape[-1] == 3:
        return ""
    return "; 1 is white" if style.polarity == "light" else _INK


def sample(
    model: Trained,
    *,
    count: int | None,
    temperature: float,
    draw: Draw,
    label: int | str | None = None,
    seed: int,
    origin: Origin = "prior",
    style: Style = DEFAULT,
) -> View:
    """Decode codes from the prior (Fig. 4 of the paper), or from elsewhere.

    Without a count there are about 100 images, as many as fill all rows, or as many as are large
    enough to be seen. A conditional model shows one class, or all of them in turn.

    Raises:
        ConfigError: binary draws of a likelihood whose pixels are grey levels, a class that the
            model does not know, or a mixture without scikit-learn.
    """
    of_class = _class(model, label)
    likelihood = model.settings.likelihood
    if draw == "binary" and not likelihood.chosen.binary:
        raise ConfigError(
            f"--draw binary: the pixels of the likelihood {likelihood.name} are not binary",
            hint="--draw mean shows the mean of each pixel",
        )
    count = count or pictures.filling(SAMPLES, style)
    z = model.codes(count, seed=seed, temperature=temperature, origin=origin, label=of_class)
    labels = model.in_turn(count) if of_class is None else np.full(count, of_class)
    images = model.decode(z, labels)
    if draw == "binary":
        images = (np.random.default_rng(seed).random(images.shape) < images).astype(np.float32)
    means = "probabilities" if likelihood.chosen.binary else "means"
    what = means if draw == "mean" else "binary draws"
    heat = "" if temperature == 1 else f", temperature {temperature:g}"
    style = with_polarity(model, style)
    classes = "" if labels is None else f" of classes 0 to {model.vae.classes - 1} in turn"
    classes = classes if of_class is None else f" of class {_named(model, of_class)}"
    drawn = f"{plural(count, 'sample')}{classes} from {_ORIGINS[origin]}{heat}"
    facts = f"{drawn}: {what}{_scale(model, style)}"
    panel = Panel(pictures.near_square(images, style))
    figure = pictures.sheet([[panel]], title=model.title, facts=facts, style=style)
    return View("sample", figure, {"z": z, "images": images})


class Plane(NamedTuple):
    """Coordinates in two dimensions of the latent space."""

    dims: tuple[int, int]
    x: Float[np.ndarray, " columns"]
    y: Float[np.ndarray, " rows"]
    what: str
    """How the coordinates were chosen, for a heading."""


def plane(
    model: Trained,
    *,
    grid: int | None = None,
    ranges: Range | NamedRange = "prior",
    spacing: latent.Spacing = "linear",
    dims: tuple[int, int] | None = None,
    seed: int = 0,
    style: Style = DEFAULT,
) -> Plane:
    """Choose coordinates in two dimensions, by default the most active ones.

    Args:
        model: the model, whose prior or whose aggregate posterior on the validation split may set
            the range.
        grid: coordinates in each dimension; by default 20, or as many as the style has room for.
        ranges: the first and the last ones.
        spacing: equal distances, or equal probabilities under the aggregate posterior if it sets
            the range, else under the prior.
        dims: the two dimensions.
        seed: the seed of the codes that determine a range, or a prior other than N(0, I).
        style: the look of the picture.

    Raises:
        ConfigError: a dimension is out of range, the dimensions are equal, or a prior that is not
            N(0, I) has hardly any codes in the range.
        RunError: the code has only one dimension.
    """
    dims = _dims(model, dims)
    grid = grid or min(GRID, *pictures.room(style, labelled=True))
    if ranges == "prior" and model.vae.prior.standard:
        ranges = Range()
    if isinstance(ranges, Range):
        limits = [*zip(ranges.low, ranges.high, strict=True)]
        if spacing == "linear" or model.vae.prior.standard:
            x, y = (latent.axis(grid, low, high, spacing) for low, high in limits)
        else:
            codes = model.prior(PRIOR_CODES, seed=seed)
            x, y = (
                latent.within(codes[:, dim], grid, *ends)
                for dim, ends in zip(dims, limits, strict=True)
            )
        return Plane(dims, x, y, f"{spacing} spacing")
    if ranges == "prior":
        what, codes = "prior", model.prior(PRIOR_CODES, seed=seed)
    else:
        what, split = "aggregate posterior", model.split("validation")
        told = model.labels_of(split)
        codes = _codes(model, np.asarray(split.images), from_mean=False, seed=seed, labels=told)
    x, y = (latent.spread(codes[:, dim], grid, spacing) for dim in dims)
    return Plane(dims, x, y, f"over the {what}, {spacing} spacing")


def _dims(model: Trained, dims: tuple[int, int] | None) -> tuple[int, int]:
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
    check_dims(dims)
    return dims


def manifold(
    model: Trained,
    where: Plane,
    *,
    anchor: int | None = None,
    label: int | str | None = None,
    style: Style = DEFAULT,
) -> View:
    """Decode a plane of the latent space (Fig. 5 of the paper).

    A conditional model shows one class, by default that of the anchor, or else 0.

    Raises:
        ConfigError: the image is out of range, or the model does not know the class.
    """
    of_class = _class(model, label)
    dims, x, y, what = where
    centre = np.zeros(model.code_size, np.float32)
    if anchor is not None:
        split, one = model.split("test"), slice(anchor, anchor + 1)
        _check_index("--anchor", anchor, len(split.images), "test images")
        of_anchor = model.labels_of(split, one)
        centre = model.encode(np.asarray(split.images[one]), of_anchor)[0][0]
        if of_class is None and of_anchor is not None:
            of_class = int(of_anchor[0])
    z = latent.plane(x, y, dims, centre)
    labels = np.full(len(y) * len(x), of_class or 0) if model.vae.classes else None
    images = model.decode(z, labels)
    panel = Panel(
        images,
        row_labels=_told_apart(y[::-1]),
        column_labels=_told_apart(x),
        x_label=latent.name(dims[0]),
        y_label=latent.name(dims[1]),
    )
    others = "" if model.code_size == 2 else ", the others at zero"
    if anchor is not None:
        others = f", through test image {anchor}"
    if labels is not None:
        others += f"; class {_named(model, of_class or 0)}"
    style = with_polarity(model, style)
    facts = f"decoded plane of the latent space, {what}{others}{_scale(model, style)}"
    figure = pictures.sheet([[panel]], title=model.title, facts=facts, style=style)
    return View("manifold", figure, {"z": z, "images": images, "coordinates": x, "y": y})


def _told_apart(values: Float[np.ndarray, " values"]) -> list[str]:
    """Write coordinates with as many decimals as tell them apart, three at most."""
    written = [[f"{value:.{digits}f}" for value in values] for digits in (1, 2, 3)]
    return next((each for each in written if len({*each}) == len(values)), written[-1])


def morph(
    model: Trained,
    *,
    rows: int | None = None,
    steps: int | None = None,
    pairs: Sequence[tuple[int, int]],
    space: Space,
    path: latent.Path,
    from_mean: bool,
    classes: Classes = "change",
    seed: int,
    style: Style = DEFAULT,
) -> View:
    """Morph from image to image, in image space and in latent space (Fig. 6 of the paper).

    Without pairs, each row starts with the last image of the row above. An image in several rows
    has the same posterior sample in all of them. If the two spaces have no room beside each other,
    one stands below the other. Without numbers of rows and steps there are 12 and 13, or as many as
    are large enough to be seen. The classes that a conditional model is told change along a row
    from that of the first image to that of the last, or stay that of the first.

    Raises:
        ConfigError: an index is out of range.
        DataError: there is only one image, and no pairs.
    """
    beside = space != "both" or (steps or STEPS) <= pictures.room(style, 2).columns
    room = pictures.room(style, 2 if space == "both" and beside else 1)
    steps = steps or min(STEPS, room.columns)
    rows = rows or min(ROWS if beside else ROWS // 2, room.rows)
    split = model.split("test")
    for index in chain.from_iterable(pairs):
        _check_index("--pairs", index, len(split.images), "test images")
    if not pairs and len(split.images) < 2:
        raise DataError(
            f"{model.title}: one test image is too few to morph",
            hint="have more of them at the next training, by data.test_size",
        )
    chosen = list(pairs) or latent.chain(rows, len(split.images), split.labels, seed)
    used = sorted({*chain.from_iterable(chosen)})
    originals = np.asarray(split.images[used])
    images = dict(zip(used, _in_unit(model, originals), strict=True))
    told = model.labels_of(split, used)
    codes = dict(zip(used, _codes(model, originals, from_mean, seed, told), strict=True))
    z = np.stack([latent.way(codes[a], codes[b], steps, path) for a, b in chosen])
    arrays: Arrays = {"pairs": np.asarray(chosen), "z": z}
    if space != "latent":
        ways = [latent.way(images[a], images[b], steps, "linear") for a, b in chosen]
        arrays["image_space"] = np.stack(ways)
    if space != "image":
        weights = None
        if told is not None:
            one = dict(zip(used, np.eye(model.vae.classes)[told], strict=True))
            ends_of = [(one[a], one[b if classes == "change" else a]) for a, b in chosen]
            weights = np.concatenate([latent.way(*each, steps, "linear") for each in ends_of])
        arrays["latent_space"] = model.decode(z, weights)
    style = with_polarity(model, style)
    headings = {"image_space": "image space", "latent_space": f"latent space, {path}"}
    panels = [Panel(arrays[name], words) for name, words in headings.items() if name in arrays]
    ends = "posterior means" if from_mean else "posterior samples"
    chained = len(chosen) > 1 and all(last[1] == first[0] for last, first in pairwise(chosen))
    how = "; each row starts where the last one ended" * chained
    kept = "" if told is None else f", the class {'changes' if classes == 'change' else 'stays'}"
    facts = f"morphing test images, {ends}{kept}{how}{_scale(model, style)}"
    layout = [panels] if beside else [[panel] for panel in panels]
    figure = pictures.sheet(layout, title=model.title, facts=facts, style=style)
    return View("morph", figure, arrays)


def along_rows(model: Trained, view: View, style: Style) -> View:
    """Return a morph as an animation that goes along its rows, one image at a time."""
    names = [name for name in ("image_space", "latent_space") if name in view.arrays]
    pairs = view.arrays["pairs"]
    steps = view.arrays["z"].shape[1]
    style = for_animation(with_polarity(model, style))

    def figures() -> Iterator[Figure]:
        for row, (first, last) in enumerate(pairs.tolist()):
            facts = f"test image {first} becomes {last}{_scale(model, style)}"
            for step in range(steps):
                panels = [
                    Panel(view.arrays[name][row, step][None, None], name.replace("_", " "))
                    for name in names
                ]
                yield pictures.sheet([panels], title=model.title, facts=facts, style=style)

    return view._replace(figure=Animation(figures(), len(pairs) * steps))


def reconstruct(
    model: Trained, *, count: int | None, split_name: SplitName, seed: int, style: Style = DEFAULT
) -> View:
    """Show images beside their reconstructions from posterior means.

    Without a count there are 20, or 10 on a slide, where their numbers need more room, or as many
    as a page has room for.

    Raises:
        ConfigError: `count` exceeds the size of the split.
    """
    split, style = model.split(split_name), with_polarity(model, style)
    scale = _scale(model, style)
    inverted = not style.theme.dark and scale != _INK  # as ink, where it is fainter than images
    scale += f"; difference{_INK.replace(';', ':')}" * inverted
    facts = (
        f"{split_name} images, reconstructions from posterior means; "
        f"below: ELBO in nats, 1 sample, {meaning(model.settings)}{scale}"
    )
    if count is None:
        there = 10 if style.theme.slide else _on_page(style, style.heading(model.title, facts))
        count = min(RECONSTRUCTIONS, there, len(split.images))
    if count > len(split.images):
        raise ConfigError(
            f"--count {count}: the {split_name} split has {plural(len(split.images), 'image')}",
            hint="use a smaller --count, or another --split",
        )
    chosen = np.random.default_rng(seed).permutation(len(split.images))[:count]
    images = np.asarray(split.images[chosen])
    originals = _in_unit(model, images)
    told = model.labels_of(split, chosen)
    means = model.reconstruct(images, told)
    difference = np.abs(originals - means)
    if model.image_shape[-1] == 3:
        mean = difference.mean(axis=-1, keepdims=True)
        difference = np.broadcast_to(mean, means.shape)
    if inverted:
        difference = 1 - difference
    elbo = model.elbo(images, told, samples=1, seed=seed)
    labels = [f"{value:.1f}" for value in elbo]
    beside = _beside(count, text.widest(labels, style.small) + style.theme.font, style)
    rows = []
    for start in range(0, count, beside):
        part = slice(start, start + beside)
        stacked = np.stack([originals[part], means[part], difference[part]])
        rows.append([Panel(stacked, "", ("original", "mean", "difference"), labels[part])])
    figure = pictures.sheet(rows, title=model.title, facts=facts, style=style)
    arrays = {"index": chosen, "images": originals, "means": means, "elbo": elbo}
    return View("reconstruct", figure, arrays)


def _on_page(style: Style, heading: str) -> int:
    """Return how many images and reconstructions a page has room for below its heading."""
    width, font = style.width(pictures.WIDTH), style.theme.font
    beside = _beside(RECONSTRUCTIONS, text.width("-999.9", style.small) + font, style)
    image = (width - 3 * font - text.width("difference", style.small)) / beside
    above = 1.5 * font * (text.wrapped(heading, width - 2 * font, font).count("\n") + 2)
    return beside * max(int((HIGH * MM - above) / (3 * image + 4 * font)), 1)


def _beside(count: int, label: float, style: Style) -> int:
    """Return how many images stand in a row, given the width of their labels in points."""
    width = style.width(pictures.WIDTH)
    if style.theme.slide:  # three rows of images and one of labels each, as large as they can be
        high = 0.7 * style.height(width) / 4
        return max(
            range(1, count + 1), key=lambda n: min(0.85 * width / n, high / math.ceil(count / n))
        )
    rows = math.ceil(count / min(max(int(width / label) - 2, 1), 10))
    return math.ceil(count / rows)


def inspect(model: Trained, *, split_name: SplitName, seed: int, style: Style = DEFAULT) -> View:
    """Show the latent space: KL by dimension, posterior means, aggregate posterior.

    The dimensions of the means are those of the highest KL on validation images, as in a manifold;
    of a code with one dimension it is the only one.
    """
    split = model.split(split_name)
    found = likelihoods(
        *(model.vae, model.variables, split.rows(labelled=bool(model.vae.classes))),
        samples=1,
        importance_samples=0,
        seed=seed,
    )
    images, told = np.asarray(split.images), model.labels_of(split)
    mu, log_var = model.encode(images, told)
    z = _codes(model, images, from_mean=False, seed=seed, labels=told)
    # of validation images, so that the plane of a manifold is the same
    dims = tuple(range(model.code_size)) if model.code_size <= 2 else _most_active(model)
    prior = None if model.vae.prior.standard else model.prior(len(mu), seed=seed)[:, dims]
    facts = f"{split_name} split, {plural(len(z), 'image')}, {meaning(model.settings)}"
    figure = inspecting.inspection(
        Posteriors(dims, mu[:, dims], log_var[:, dims], split.labels, model.class_names, prior),
        found.kl_by_dimension,
        title=model.title,
        facts=facts,
        style=style,
    )
    arrays = {"mu": mu, "log_var": log_var, "z": z, "kl_by_dimension": found.kl_by_dimension}
    return View("inspect", figure, arrays)


def _most_active(model: Trained) -> tuple[int, int]:
    """Return the two dimensions of the highest KL on validation images."""
    split = model.split("validation")
    images = np.asarray(split.images)
    return latent.most_active(model.kl_by_dimension(images, model.labels_of(split)))


def _codes(
    model: Trained,
    images: np.ndarray,
    from_mean: bool,
    seed: int,
    labels: np.ndarray | None = None,
) -> Float[np.ndarray, "images code"]:
    """Return posterior means, or one sample of each posterior."""
    mu, log_var = model.encode(images, labels)
    if from_mean:
        return mu
    noise = np.asarray(jax.random.normal(streams.key(seed, "sample"), mu.shape))
    codes: np.ndarray = mu + np.exp(0.5 * log_var) * noise
    return codes


def _in_unit(model: Trained, images: np.ndarray) -> Float[np.ndarray, "images *picture"]:
    return images.reshape(-1, *model.picture_shape).astype(np.float32) / 255


def _class(model: Trained, label: int | str | None) -> int | None:
    """Return the number of a class that is asked for by its number or its name.

    Raises:
        ConfigError: the model is not conditional, or does not know the class.
    """
    if label is None:
        return None
    classes = model.vae.classes
    if not classes:
        raise ConfigError(
            f"--label {label}: {model.rundir.name} was not told classes",
            hint="vaectl train --set model.condition=label makes a model that is",
        )
    names = model.class_names
    if label in names:
        return names.index(str(label))
    try:
        number = int(label)
    except ValueError:
        known = names or [f"0 to {classes - 1}"]
        raise ConfigError(
            f"--label {label}: no such class{did_you_mean(str(label), names)}",
            hint=f"the classes are {', '.join(known)}",
        ) from None
    _check_index("--label", number, classes, "classes")
    return number


def _named(model: Trained, number: int) -> str:
    """Return the name of a class, or its number if it has none."""
    return model.class_names[number] if number < len(model.class_names) else str(number)


def _check_index(option: str, index: int, size: int, what: str) -> None:
    if not 0 <= index < size:
        raise ConfigError(
            f"{option} {index}: out of range", hint=f"there are {size} {what}: 0 to {size - 1}"
        )
