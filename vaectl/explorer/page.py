"""One HTML file to explore trained models, with their images and their training."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vaectl.base import devices
from vaectl.base.errors import RunError
from vaectl.base.files import replacing
from vaectl.base.plural import plural
from vaectl.config.meaning import meaning
from vaectl.data.arrays import Split
from vaectl.data.binarization import SplitName
from vaectl.explorer.graph import Graph, Weights, Width, pack, rounded, trace
from vaectl.objectives.base import label
from vaectl.runs.directory import RunDir
from vaectl.runs.film import frames
from vaectl.runs.metrics import SPLITS, Row, columns
from vaectl.runs.record import Record
from vaectl.runs.trained import Trained, load
from vaectl.vae.vae import VAE, Variables
from vaectl.version import VERSION

SCRIPTS = ("engine", "model", "picture", "gif", "plane", "draw", "morph", "film", "gallery")
MOST_BYTES = 64_000_000
"""The largest page; a phone has to hold it."""
MOST_IMAGES, IMAGE_BYTES = 300, 1_000_000
"""The images of a split that a page has by default, and the bytes that they may take."""
CLOSE = 4e-5
"""The most that rounded weights may change a pixel; otherwise all their bytes are kept."""
MOST_POINTS = 400
"""The most epochs of a curve."""
CODES_BYTES = 20_000
"""The bytes for codes from the prior; the page picks one of them at random."""
FILM_BYTES = 1_300_000
"""The bytes of the page that a film may take; a longer one is shown by fewer of its frames."""


class Explored(NamedTuple):
    """A page that was made."""

    path: Path
    runs: list[str]
    size: int
    """The size of the page in bytes."""
    images: int
    """The number of images of each run and split."""
    difference: float
    """The largest change of a pixel by the rounding of weights."""


@devices.pinned()
def explore(
    runs: Sequence[RunDir | Path | str],
    *,
    checkpoint: str | int = "best",
    split: SplitName = "test",
    count: int | None = None,
    output: Path | None = None,
) -> Explored:
    """Write a page that explores runs in a browser, without network.

    Args:
        runs: their directories; the page is explore.html in the run's figures/, or gallery.html of
            several runs in the first one's.
        checkpoint: as for `vaectl.load`.
        split: the images that it shows.
        count: how many of them; None for as many as are quick to load.
        output: another place for the page.

    Raises:
        RunError: a run or its checkpoint does not load, the page cannot compute its model or would
            be too large, or cannot be written.
        DataError: the data of a run are missing or changed.
    """
    models = [load(run, checkpoint) for run in runs]
    payloads = [_payload(model, split, count) for model in models]
    difference = max(payload.difference for payload in payloads)
    page = render([payload.data for payload in payloads], difference).encode()
    if len(page) > MOST_BYTES:
        raise _too_large(models[0], len(page))
    name = "explore" if len(models) == 1 else "gallery"
    path = _write(models[0].rundir, name, page, output)
    names = [model.rundir.name for model in models]
    images = max(len(found["index"]) for payload in payloads for found in payload.data["sets"])
    return Explored(path, names, len(page), images, difference)


def render(runs: Sequence[dict[str, Any]], difference: float = 0.0) -> str:
    """Return the page of runs, each as `_payload` describes it."""
    environment = Environment(
        loader=PackageLoader("vaectl.explorer", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=", ".join(run["name"] for run in runs),
        runs=runs,
        data={
            "runs": [{k: v for k, v in r.items() if k not in ("facts", "summary")} for r in runs]
        },
        difference=bound(difference) if difference else "",
        style=source("explorer.css"),
        script=Markup("\n").join(source(f"{name}.js") for name in (*SCRIPTS, "explorer")),
        version=VERSION,
    )


def source(name: str) -> Markup:
    """Return a script or style sheet of the page."""
    return Markup(files("vaectl.explorer").joinpath(name).read_text("utf-8"))  # noqa: S704


class _Payload(NamedTuple):
    data: dict[str, Any]
    difference: float


def graphs(vae: VAE, variables: Variables, weights: Weights) -> dict[str, Graph]:
    """Return what the page computes: encoder, decoder, mean of the pixels, and their nats.

        encode: x -> mu, log_var    raw: z -> raw    mean: raw -> E[x|z]
        nats: raw, x -> -log p(x_i|z) of each pixel i    prior: z -> log p(z)

    If the model is conditional, `encode` and `raw` take weights of the classes too.

    Pixels are independent given z, so each is an image of its own for the likelihood. If those of a
    plug are not, `nats` is one number for the image.

    Raises:
        RunError: the page cannot compute one of them.
    """
    network, likelihood = vae.network(variables), vae.likelihood
    shape, code = vae.image_shape, vae.code_size
    numbers = likelihood.outputs + likelihood.shared

    def each(raw: Any, x: Any) -> Any:
        return -likelihood.log_prob(raw.reshape(-1, 1, 1, 1, numbers), x.reshape(-1, 1, 1, 1))

    def whole(raw: Any, x: Any) -> Any:
        return -likelihood.log_prob(raw, x)

    told = [(1, vae.classes)] if vae.classes else []

    def encode(x: Any, *y: Any) -> Any:
        return network.given(*y or (None,)).encode(x)

    def decode(z: Any, *y: Any) -> Any:
        return network.given(*y or (None,)).decode(z)

    raw = jax.eval_shape(decode, jnp.zeros((1, code)), *map(jnp.zeros, told))
    x = jnp.full((1, *shape), 0.25)
    some = jax.random.normal(jax.random.key(0), raw.shape)
    parts, sums = jax.jit(lambda raw: (each(raw, x).sum(), whole(raw, x).sum()))(some)
    independent = bool(np.allclose(parts, sums, rtol=1e-3))
    functions: dict[str, tuple[Any, ...]] = {
        "encode": (encode, (1, *shape), *told),
        "raw": (decode, (1, code), *told),
        "mean": (likelihood.mean, raw.shape),
        "prior": (network.prior.log_prob, (code,)),
        "nats": (each if independent else whole, raw.shape, x.shape),
    }
    return {
        name: trace(function, *shapes, weights=weights)
        for name, (function, *shapes) in functions.items()
    }


def _payload(model: Trained, split: SplitName, count: int | None) -> _Payload:
    """Collect all that the page has of a run."""
    leaves = jax.tree.leaves(model.variables)
    expected = sum(4 * leaf.size for leaf in leaves)  # three bytes of each, as text
    if expected > MOST_BYTES:
        raise _too_large(model, expected)
    weights = Weights()
    computed = _graphs(model, weights)
    splits = _splits(model, split, count)
    sets = [_set(model, name, *found) for name, found in splits.items()]
    shown, _ = splits[split]
    difference = max(_difference(model, some) for some, _ in splits.values())
    width: Width = 3 if difference <= CLOSE else 4
    record, rows = model.rundir.read_record(), model.rundir.read_metrics()
    rows = [row for row in rows if row.epoch <= record.epoch]
    data = {
        "name": model.rundir.name,
        "summary": _summary(model, record),
        "score": _score(model.checkpoint.quantity, model.checkpoint.score),
        "facts": _facts(model, record),
        "imported": record.imported is not None,
        "meaning": _sentence(meaning(model.settings)),
        "shape": list(model.image_shape),
        "code": model.code_size,
        "codes": _text(
            pack(model.prior(max(8, min(256, CODES_BYTES // (4 * model.code_size)))), 4)
        ),
        "classes": model.vae.classes,
        "classNames": list(model.class_names),
        "kl": model.kl_by_dimension(np.asarray(shown.images), model.labels_of(shown)).tolist(),
        "standard": model.vae.prior.standard,
        "ink": model.drawings,
        "binary": bool(np.isin(shown.images, (0, 255)).all()),
        "graphs": computed,
        "width": width,
        "weights": _text(weights.pack(width)),
        "sets": sets,
        "curves": _curves(rows),
        "film": _film(model.rundir, rows),
    }
    return _Payload(data, difference if width == 3 else 0.0)


def _graphs(model: Trained, weights: Weights) -> dict[str, Graph]:
    """Return what the page computes; an error names the run."""
    try:
        return graphs(model.vae, model.variables, weights)
    except RunError as error:
        raise RunError(f"{model.rundir.path}: {error.message}", hint=error.hint) from None


def _splits(
    model: Trained, split: SplitName, count: int | None
) -> dict[SplitName, tuple[Split, list[int]]]:
    """Choose images of a split and, to look for neighbours, of the training split."""
    pixels = int(np.prod(model.image_shape))
    most = count or max(16, min(MOST_IMAGES, IMAGE_BYTES // pixels))
    names: tuple[SplitName, ...] = (split, "train")
    return {name: _some(model.split(name), most) for name in dict.fromkeys(names)}


def _some(split: Split, most: int) -> tuple[Split, list[int]]:
    """Choose images at even distances: a split may be sorted by class."""
    total = len(split.images)
    index = np.unique(np.linspace(0, total - 1, min(most, total)).astype(int))
    labels = None if split.labels is None else split.labels[index]
    return split._replace(images=np.asarray(split.images[index]), labels=labels), index.tolist()


def _set(model: Trained, name: str, split: Split, index: list[int]) -> dict[str, Any]:
    mu, log_var = model.encode(np.asarray(split.images), model.labels_of(split))
    return {
        "name": "training" if name == "train" else name,
        "index": index,
        "labels": None if split.labels is None else split.labels.tolist(),
        "images": _text(np.ascontiguousarray(split.images).tobytes()),
        "mu": _text(pack(mu, 4)),
        "log_var": _text(pack(log_var, 4)),
    }


def _difference(model: Trained, shown: Split) -> float:
    """Return how far rounded weights change a pixel of the reconstructions."""

    def round_floats(leaf: Any) -> Any:
        return jnp.asarray(rounded(leaf)) if leaf.dtype == jnp.float32 else leaf

    variables = jax.tree.map(round_floats, model.variables)
    other = Trained(model.rundir, model.settings, model.checkpoint, variables, model.vae)
    images, labels = np.asarray(shown.images), model.labels_of(shown)
    change = other.reconstruct(images, labels) - model.reconstruct(images, labels)
    return float(np.abs(change).max())


def bound(difference: float) -> str:
    """Write a number of one digit that is not smaller."""
    unit = 10.0 ** math.floor(math.log10(difference))
    return f"{math.ceil(difference / unit) * unit:.0e}"


def _summary(model: Trained, record: Record) -> str:
    settings = model.settings
    what = settings.model.chosen.summary(model.code_size)
    origin = (
        f"imported from {record.imported.file}"
        if record.imported
        else f"trained on {record.data['source']} for {plural(record.epoch, 'epoch')} by "
        + settings.optimizer.name
    )
    return f"Model {settings.model.name} {what}, likelihood {settings.likelihood.name}, {origin}."


def _score(quantity: str, score: float | None) -> str | None:
    if score is None:
        return None
    number = f"{score:.2f}".replace("-", "\N{MINUS SIGN}")
    return f"{label(quantity)} {number}"


def _facts(model: Trained, record: Record) -> dict[str, str]:
    height, width, channels = model.image_shape
    facts = {"checkpoint": model.checkpoint.where, "code": plural(model.code_size, "dimension")}
    if best := record.best:
        score = _score(best.quantity, best.score)
        facts["best on validation"] = f"{score} at epoch {best.epoch}"
    sides = (height, width, channels) if channels > 1 else (height, width)
    facts["images"] = " \N{MULTIPLICATION SIGN} ".join(map(str, sides))
    chosen = {kind: getattr(model.settings, kind).name for kind in ("prior", "objective")}
    seed = {} if record.imported else {"seed": str(record.seed)}
    return {**facts, **seed, **chosen}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _curves(rows: Sequence[Row]) -> dict[str, Any]:
    """Return each number of metrics.csv by epoch and split; of long runs not every epoch."""
    epochs = sorted({row.epoch for row in rows})
    if len(epochs) > MOST_POINTS:
        chosen = np.linspace(0, len(epochs) - 1, MOST_POINTS).astype(int)
        epochs = [epochs[i] for i in chosen]
    found: dict[tuple[int, str], Mapping[str, float]]
    found = {(row.epoch, row.split): row.terms for row in rows}

    def line(name: str, split: str) -> list[float | None]:
        values = [found.get((epoch, split), {}).get(name) for epoch in epochs]
        return [value if value is None else round(value, 3) for value in values]

    terms = [
        {"name": name, "label": label(name), **{split: line(name, split) for split in SPLITS}}
        for name in columns(rows)
    ]
    return {"epochs": epochs, "terms": terms}


def _film(rundir: RunDir, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the frames that a follower has kept, by kind, with their epochs."""
    epochs = {row.step: row.epoch for row in rows}
    found = frames(rundir.folder)
    steps = sorted({step for kept in found.values() for step in kept} & epochs.keys())
    size = sum(len(png) for kept in found.values() for png in kept.values())
    most = max(2, int(len(steps) * min(1.0, FILM_BYTES / max(size, 1))))
    chosen = {steps[i] for i in np.linspace(0, len(steps) - 1, most).astype(int) if steps}
    return {
        kind: [
            {"epoch": epochs[step], "png": _text(png)}
            for step, png in sorted(kept.items())
            if step in chosen
        ]
        for kind, kept in found.items()
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _too_large(model: Trained, size: int) -> RunError:
    return RunError(
        f"{model.rundir.path}: a page of {size / 1e6:.0f} MB, and a browser is given at most "
        f"{MOST_BYTES / 1e6:.0f} MB",
        hint="use a smaller --count, fewer runs, or a run with a smaller model",
    )


def _write(rundir: RunDir, name: str, page: bytes, output: Path | None) -> Path:
    if output is None:
        return rundir.write_page(name, page)
    try:
        with replacing(output) as file:
            file.write(page)
    except OSError as error:
        raise RunError.of(error, output, "cannot be written") from None
    return output
