"""A trained model, loaded from a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Int64, Integer, UInt8

from vaectl import config, data
from vaectl.base import devices, memory, streams
from vaectl.base.errors import ConfigError, RunError
from vaectl.base.nearest import did_you_mean
from vaectl.base.shapes import shaped
from vaectl.data.arrays import Dataset, Split
from vaectl.data.binarization import SplitName, draw
from vaectl.data.stored import Index, Stored
from vaectl.evaluation import fitted
from vaectl.evaluation.fitted import Fitted
from vaectl.evaluation.likelihoods import weighted_bounds
from vaectl.models.base import ImageShape
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.directory import RunDir
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Record
from vaectl.runs.saved import Info, best, kept
from vaectl.training import compiled, footprint
from vaectl.training.program import Member, Program
from vaectl.vae.vae import VAE, Variables, unit

Labels = Integer[np.ndarray, " images"] | Float[np.ndarray, "images classes"]
Origin = Literal["prior", "aggregate", "mixture"]
"""The distribution of codes that are decoded into samples."""

FITTED = 10_000
"""Codes that a mixture is fitted to."""
AT_ONCE = 1000
"""Images that are encoded or decoded at a time, where there may be many."""

Images = UInt8[np.ndarray, "*images"] | Float[np.ndarray, "*images"] | UInt8[Stored, "*images"]


@devices.pinned()
def load(
    run: RunDir | Path | str, checkpoint: str | int = "best", *, dataset: Dataset | None = None
) -> Trained:
    """Load the model of a run.

    Args:
        run: a run directory.
        checkpoint: `best` by the validation split, `latest`, or the number of an epoch.
        dataset: the run's data if they are in memory; None to read them when they are needed.

    Raises:
        RunError: this is not a run, its files were changed, or the checkpoint is missing or
            damaged.
    """
    rundir = run if isinstance(run, RunDir) else RunDir(Path(run))
    record = rundir.read_record()
    settings = rundir.read_config()
    resumption.check_unchanged(rundir.name, settings, record)
    device = devices.select("auto")
    shape = record.data["image_shape"]
    classes = record.data.get("classes", 0)
    program = Program.of(settings, images=1, image_shape=shape, classes=classes)
    member = jax.device_put(Member.of(settings), device)
    like = compiled.shapes(program, member)
    with quiet_orbax(), Checkpoints(rundir.checkpoints) as checkpoints:
        while True:
            info = _choose(rundir, record, kept(rundir.checkpoints), checkpoint)
            if info.image_shape not in (None, shape):
                raise _other_shape(rundir, shape, info.image_shape)
            try:
                state = checkpoints.restore(info, like)
            except RunError:
                if info in kept(rundir.checkpoints):
                    raise
                # the run is still training, and has replaced the checkpoint by a newer one
            else:
                warnings = resumption.changed_plugs(settings, record)
                variables = compiled.evaluated(program, member, state)
                names = record.data.get("class_names", [])
                return Trained(
                    rundir, settings, info, variables, program.vae, warnings, names, dataset
                )


def _other_shape(rundir: RunDir, said: ImageShape, found: ImageShape) -> RunError:
    return RunError(
        f"{rundir.path / 'run.json'}: its image shape is {said}, but the model has {found}",
        hint="if run.json was changed after training, restore it",
    )


def _choose(rundir: RunDir, record: Record, infos: list[Info], wanted: str | int) -> Info:
    if not infos:
        again = "import" if record.imported else "train"
        raise RunError(
            f"{rundir.path}: it has no complete checkpoint",
            hint="the run ended before its first checkpoint, or they were deleted; "
            f"{again} it again",
        )
    if record.status == "imported" and wanted in ("best", "latest"):
        return infos[-1]
    ends = [info for info in infos if not info.beyond]
    epochs = [f"{info.epoch}" for info in ends]
    # while a run trains, its record may be ahead of its checkpoints
    ended = record.status in ("finished", "interrupted")
    found: Info | None
    if wanted == "latest":
        found, epoch = infos[-1], record.epoch
    elif wanted == "best":
        found, epoch = best(infos), record.best.epoch if record.best else 0
    else:
        found = next((info for info in ends if str(info.epoch) == str(wanted)), None)
        epoch = found.epoch if found else 0
    if found is not None and (not ended or found.epoch == epoch):
        return found
    if epoch and ended:
        others = " or ".join(epochs) or "latest"
        raise RunError(
            f"{rundir.checkpoints.path}: the {wanted} checkpoint, of epoch {epoch}, is missing",
            hint=f"restore it from a copy, or choose --checkpoint {others}",
        )
    choices = ["best", "latest"] if ends else ["latest"]
    raise RunError(
        f"{rundir.path}: no checkpoint {wanted}{did_you_mean(str(wanted), choices)}",
        hint=f"choose one of {', '.join([*choices, *epochs])}",
    )


@final
class Trained:
    """A trained VAE with NumPy arrays as inputs and outputs.

    Images are floats in [0, 1] or bytes from 0 to 255. An input image may have the shape of the
    data, such as (height, width), or be flat; output images have the shape of the data. Seeds are
    from 0 to 2**32 - 1.

    A conditional model needs `labels`: the class of each image or code, or weights of all classes
    that sum to 1, as rows. All others take none.
    """

    def __init__(
        self,
        rundir: RunDir,
        settings: config.Config,
        info: Info,
        variables: Variables,
        vae: VAE,
        warnings: Sequence[str] = (),
        class_names: Sequence[str] = (),
        dataset: Dataset | None = None,
    ) -> None:
        self.rundir = rundir
        self.settings = settings
        self.checkpoint = info
        self.variables = variables
        """All arrays of the network, as used for evaluation."""
        self.vae = vae
        self._dataset = dataset
        self._fitted: dict[int | None, Fitted] = {}
        self.warnings = tuple(warnings)
        """Warnings that concern the reliability of the model's numbers."""
        self.class_names = tuple(class_names)
        """The names of the classes of the data, by number; none if they have only numbers."""

    @property
    def code_size(self) -> int:
        """Dimensions of the latent code."""
        return self.vae.code_size

    @property
    def image_shape(self) -> ImageShape:
        """Height, width and channels of an image."""
        return self.vae.image_shape

    @property
    def title(self) -> str:
        """The run and the epoch, for titles and messages."""
        return f"{self.rundir.name}, {self.checkpoint.where}"

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Height and width of an image, and its channels if there are several."""
        height, width, channels = self.image_shape
        return (height, width) if channels == 1 else self.image_shape

    @devices.pinned()
    def encode(self, images: Images, labels: Labels | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log-variance of q(z|x), each of shape [images, code]."""
        x = self._images(images)
        _check_room(_encode, self.vae, x.shape)
        mu, log_var = _encode(self.vae, self.variables, x, self._told(labels, len(x)))
        return np.asarray(mu), np.asarray(log_var)

    @devices.pinned()
    def decode(
        self, z: Float[np.ndarray, "*batch code"], labels: Labels | None = None
    ) -> Float[np.ndarray, "*batch *picture"]:
        """Return the mean of each pixel for codes; of a binary pixel, the probability of 1."""
        z = np.asarray(z, np.float32)
        if z.shape[-1:] != (self.code_size,):
            raise ValueError(f"codes of shape {z.shape}; the last axis must be {self.code_size}")
        flat = z.reshape(-1, self.code_size)
        self.check_room(len(flat))
        y = self._told(labels, len(flat))
        decoded = np.empty((len(flat), *self.image_shape), np.float32)
        for start in range(0, len(flat), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            told = None if y is None else y[some]
            decoded[some] = _decode(self.vae, self.variables, flat[some], told)
        return decoded.reshape(*z.shape[:-1], *self.picture_shape)

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        labels: Labels | None = None,
        origin: Origin = "prior",
    ) -> Float[np.ndarray, "count *picture"]:
        """Decode codes from the prior, or from elsewhere: see `codes`.

        A conditional model shows its classes in turn by default.
        """
        codes = self.codes(count, seed=seed, temperature=temperature, origin=origin)
        return self.decode(codes, self.in_turn(count) if labels is None else labels)

    def in_turn(self, count: int) -> Int64[np.ndarray, " count"] | None:
        """Return the classes of a conditional model in turn, one for each code; else None."""
        return np.arange(count) % self.vae.classes if self.vae.classes else None

    def codes(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        origin: Origin = "prior",
        label: int | None = None,
    ) -> Float[np.ndarray, "count code"]:
        """Draw codes; the temperature multiplies the deviation of Gaussians.

            prior       z ~ p(z)
            aggregate   z ~ q(z|x) of random training images x
            mixture     z ~ a mixture of Gaussians fitted to such codes

        With a label, only the training images of that class count.

        Raises:
            ConfigError: a mixture is wanted without scikit-learn, or no image has the class.
            DataError: the data set is missing, or is not the run's; the prior needs none.
        """
        if origin == "prior":
            return self.prior(count, seed=seed, temperature=temperature)
        streams.check_seed(seed)
        if count < 0:
            raise ValueError(f"{count} codes cannot be drawn")
        if origin == "aggregate":
            return self._aggregate(count, seed, temperature, label)
        if label not in self._fitted:
            self._fitted[label] = fitted.fit(self._aggregate(FITTED, 0, 1.0, label))
        return self._fitted[label].sample(count, seed=seed, temperature=temperature)

    def _aggregate(
        self, count: int, seed: int, temperature: float, label: int | None
    ) -> Float[np.ndarray, "count code"]:
        """Draw codes from posteriors of training images: different ones, if there are enough."""
        split, rng = self.split("train"), np.random.default_rng(seed)
        images = np.arange(len(split.images))
        if label is not None and split.labels is not None:
            images = np.flatnonzero(split.labels == label)
        if not len(images):
            raise ConfigError(
                f"no training image has the class {label}", hint="--from prior needs none"
            )
        chosen = rng.choice(images, count, replace=count > len(images))
        parts = [
            self.encode(np.asarray(split.images[some]), self.labels_of(split, some))
            for start in range(0, count, AT_ONCE)
            if len(some := chosen[start : start + AT_ONCE])
        ]
        if not parts:
            return np.empty((0, self.code_size), np.float32)
        mu, log_var = (np.concatenate(part) for part in zip(*parts, strict=True))
        noise = rng.standard_normal(mu.shape).astype(np.float32)
        codes: np.ndarray = mu + np.float32(temperature) * np.exp(0.5 * log_var) * noise
        return codes

    @devices.pinned()
    def check_room(self, count: int) -> None:
        """Refuse to decode more images than fit into memory.

        Raises:
            ConfigError: they do not fit; the message says how much memory is needed.
        """
        if count:
            _check_room(_decode, self.vae, (count, self.code_size))

    @devices.pinned()
    def prior(
        self, count: int, *, seed: int = 0, temperature: float = 1.0
    ) -> Float[np.ndarray, "count code"]:
        """Draw codes from the prior; a temperature multiplies the deviation of its Gaussians."""
        if count < 0:
            raise ValueError(f"{count} codes cannot be drawn")
        self.check_room(count)
        key = streams.key(seed, "sample")
        prior = self.vae.network(self.variables).prior
        return np.asarray(prior.sample(key, count, temperature))

    @devices.pinned()
    def elbo(
        self,
        images: Images,
        labels: Labels | None = None,
        *,
        samples: int = 1,
        seed: int = 0,
    ) -> Float[np.ndarray, " images"]:
        """Return the ELBO of each image in nats, with L samples of z."""
        if samples < 1:
            raise ValueError(f"{samples} samples; at least one is needed")
        x = self._images(images)
        shape = samples, len(x), self.code_size
        _check_room(_elbo, self.vae, x.shape, shape)
        noise = jax.random.normal(streams.key(seed, "evaluate"), shape)
        y = self._told(labels, len(x))
        return np.asarray(_elbo(self.vae, self.variables, x, y, noise))

    @devices.pinned()
    def kl_by_dimension(
        self, images: Images, labels: Labels | None = None
    ) -> Float[np.ndarray, " code"]:
        """Return the KL of each dimension of the code, as a mean over images, in nats.

        With a prior whose KL has no closed form, it is estimated by a sample for each image.
        """
        x = self._images(images)
        _check_room(_kl_by_dimension, self.vae, x.shape, (1, len(x), self.code_size))
        noise = jax.random.normal(streams.key(0, "evaluate"), (1, len(x), self.code_size))
        y = self._told(labels, len(x))
        return np.asarray(_kl_by_dimension(self.vae, self.variables, x, y, noise))

    def reconstruct(
        self, images: Images, labels: Labels | None = None
    ) -> Float[np.ndarray, "images *picture"]:
        """Decode the posterior mean of each image."""
        return self.decode(self.encode(images, labels)[0], labels)

    @devices.pinned()
    def log_likelihood(
        self,
        images: Images,
        labels: Labels | None = None,
        *,
        samples: int = 100,
        seed: int = 0,
    ) -> Float[np.ndarray, " images"]:
        """Return the importance-weighted bound on log p(x) of each image, in nats.

        Burda et al. 2016, eq. 8, with K samples.
        """
        if samples < 1:
            raise ValueError(f"{samples} samples; at least one is needed")
        x = self._images(images)
        y = self._told(labels, len(x))
        return weighted_bounds(self.vae, self.variables, x, y, samples, seed)

    def labels(self, name: SplitName = "test") -> Int32[np.ndarray, " images"] | None:
        """Return the classes of a split of the run's data, if there are any."""
        return self.split(name).labels

    @property
    def drawings(self) -> bool:
        """True if the images are drawings on a black background, such as digits.

        A run of an older vaectl does not know: there, binary pixels and samples with a dark border
        are taken for drawings.
        """
        known = self.rundir.read_record().data.get("drawings")
        if known is not None:
            return known
        if self.settings.data.binarization == "none":
            return False
        images = self.sample(25)
        border = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
        return bool(np.median(np.concatenate([edge.ravel() for edge in border])) < 0.5)

    def dataset(self) -> Dataset:
        """Return the run's data; they are read unless they were given.

        Raises:
            DataError: the data set is missing, or is not the run's.
            RunError: the shape of the images differs from the run's.
        """
        record = self.rundir.read_record()
        dataset = self._dataset
        if dataset is None:
            dataset = data.load(self.settings.data, fingerprint=record.data["fingerprint"])
        record.check_data(self.settings.data.source, dataset.fingerprint, dataset.image_shape)
        return dataset

    def split(self, name: SplitName) -> Split:
        """Load a split of the run's data, binarized as for evaluation.

        Raises:
            DataError: the data set is missing, or is not the run's.
            RunError: the shape of the images differs from the run's.
        """
        split: Split = getattr(self.dataset(), name)
        if name == "train" and self.settings.data.binarization == "stochastic":
            # training draws these pixels again in each epoch; here one draw is enough
            return split._replace(images=draw(split.images, name))
        return split

    def __repr__(self) -> str:
        return (
            f"<Trained {self.title}: {self.settings.model.chosen.summary(self.code_size)}, "
            f"{self.settings.likelihood.name}>"
        )

    def _repr_png_(self) -> bytes:
        """Draw samples from the prior, for a notebook."""
        from vaectl.pictures import canvas, sheets
        from vaectl.pictures.style import Style

        style = Style(chosen_width=90).with_polarity(drawings=self.drawings)
        panel = sheets.Panel(sheets.near_square(self.sample(25)))
        return canvas.png(sheets.sheet([[panel]], title=self.title, style=style))

    def labels_of(
        self, split: Split, key: slice | Sequence[int] | Index = slice(None)
    ) -> Labels | None:
        """Return the classes of images of a split as the model needs them: None if it takes none.

        Args:
            split: of the run's data.
            key: which of its images.
        """
        if not self.vae.classes or split.labels is None:
            return None
        return np.asarray(split.labels[key])

    def _told(self, labels: Labels | None, count: int) -> Float[Array, "images classes"] | None:
        """Return the classes of images as a conditional model takes them."""
        classes = self.vae.classes
        if not classes:
            if labels is not None:
                raise ValueError("labels, and the model is not conditional")
            return None
        if labels is None:
            raise ValueError(f"the model is conditional: labels from 0 to {classes - 1} are needed")
        given = np.asarray(labels)
        if given.ndim == 1 and given.dtype.kind in "iu":
            if given.size and not (given.min() >= 0 and given.max() < classes):
                raise ValueError(f"labels beyond the {classes} classes of the model")
            given = np.eye(classes, dtype=np.float32)[given]
        if given.shape != (count, classes):
            raise ValueError(f"labels of shape {np.shape(labels)} for {count} images or codes")
        return jnp.asarray(given, jnp.float32)

    def _images(self, images: Images) -> Float[Array, "images h w c"]:
        array, shape = np.asarray(images), self.image_shape
        known = (shape, self.picture_shape, (math.prod(shape),))
        if not any(array.shape[-len(one) :] == one for one in known):
            raise ValueError(f"images of shape {array.shape}; {self.picture_shape} was trained on")
        array = array.reshape(-1, *shape)
        if not len(array):
            raise ValueError("no images; at least one is needed")
        if array.dtype == np.uint8:
            return unit(jnp.asarray(array))
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError("images outside [0, 1]; give bytes as uint8, or divide by 255")
        return jnp.asarray(array, jnp.float32)


def _check_room(function: Any, vae: VAE, *shapes: tuple[int, ...]) -> None:
    """Refuse to encode or decode more images at once than fit into memory."""
    if too_much := _excess(devices.memory_of(jax.devices()[0]), function, vae, shapes):
        count = math.prod(shapes[0]) // (vae.code_size if function is _decode else vae.pixels)
        samples = shapes[1][0] if len(shapes) > 1 else 1
        what = f"{count:,} images at once" + f", {samples:,} samples of each" * (samples > 1)
        raise ConfigError(f"{what}: this {too_much}", hint="use fewer")


@cache
def _excess(there: int, function: Any, vae: VAE, shapes: tuple[tuple[int, ...], ...]) -> str:
    variables = jax.eval_shape(lambda: vae.init(jax.random.key(0)))
    if function is _decode:
        (count, size), all_images = shapes[0], 4 * shapes[0][0] * vae.pixels
        if too_much := memory.excess(all_images):
            return too_much
        shapes = ((min(count, AT_ONCE), size),)
    given, *noise = [shaped(shape, jnp.float32) for shape in shapes]
    told = shaped((len(given), vae.classes), jnp.float32) if vae.classes else None
    return footprint.excess(there, function, vae, variables, given, told, *noise)


@partial(jax.jit, static_argnames="vae")
def _encode(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
) -> tuple[Float[Array, "images code"], Float[Array, "images code"]]:
    return vae.network(variables).given(y).encode(x)


@partial(jax.jit, static_argnames="vae")
def _decode(
    vae: VAE,
    variables: Variables,
    z: Float[Array, "codes code"],
    y: Float[Array, "codes classes"] | None,
) -> Float[Array, "codes h w c"]:
    return vae.network(variables).given(y).mean(z)


@partial(jax.jit, static_argnames="vae")
def _elbo(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    noise: Float[Array, "samples images code"],
) -> Float[Array, " images"]:
    network = vae.network(variables).given(y)
    codes = network.draw(x, noise)
    return -(network.nll(codes, x) + network.prior.kl(codes))


@partial(jax.jit, static_argnames="vae")
def _kl_by_dimension(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    noise: Float[Array, "1 images code"],
) -> Float[Array, " code"]:
    network = vae.network(variables).given(y)
    return network.prior.kl_by_dimension(network.draw(x, noise)).mean(axis=0)
