"""A trained model, loaded from its run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vaectl import (
    config,
    data,
    devices,
    evaluation,
    footprint,
    model,
    resumption,
    streams,
    training,
)
from vaectl.checkpoints import Checkpoints, Info, best, kept
from vaectl.data.arrays import Split
from vaectl.data.binarization import SplitName, draw
from vaectl.errors import RunError
from vaectl.model import VAE, Params
from vaectl.objective import elbo
from vaectl.record import Record
from vaectl.rundir import RunDir

Shape = tuple[int, int]
"""Height and width of an image."""

Images = UInt8[np.ndarray, "*images"] | Float[np.ndarray, "*images"]


@devices.pinned()
def load(run: RunDir | Path | str, checkpoint: str | int = "best") -> Trained:
    """Load the model of a run.

    Args:
        run: a run directory.
        checkpoint: `best` by validation ELBO, `latest`, or the number of an epoch.

    Raises:
        RunError: not a run, one whose files were changed, no such checkpoint, or a damaged one.
    """
    rundir = run if isinstance(run, RunDir) else RunDir(Path(run))
    record = rundir.read_record()
    settings = rundir.read_config()
    resumption.check_unchanged(rundir.name, settings, record)
    device = devices.select("auto")
    height, width = record.data["image_shape"]
    program = training.program(settings, images=1, pixels=height * width)
    member = jax.device_put(training.member(settings), device)
    like = training.shapes(program, member)
    with Checkpoints(rundir.checkpoints) as checkpoints:
        while True:
            info = _choose(rundir, record, kept(rundir.checkpoints), checkpoint)
            if info.image_shape not in (None, (height, width)):
                raise _other_shape(rundir, (height, width), info.image_shape)
            try:
                state = checkpoints.restore(info, like)
            except RunError:
                if info in kept(rundir.checkpoints):
                    raise
                # a training that goes on has removed it, and kept a newer one
            else:
                return Trained(rundir, settings, info, state.params, (height, width))


def _other_shape(rundir: RunDir, said: Shape, found: Shape) -> RunError:
    return RunError(
        f"{rundir.path / 'run.json'}: it says that images have the shape {said}; they have {found}",
        hint="was it changed after training? Put the old one back",
    )


def _choose(rundir: RunDir, record: Record, infos: list[Info], wanted: str | int) -> Info:
    if not infos:
        raise RunError(
            f"{rundir.path}: no checkpoint in it that is whole",
            hint="the run ended before its first one, or it was deleted; train it again",
        )
    ends = [info for info in infos if not info.beyond]
    epochs = [f"{info.epoch}" for info in ends]
    # while a run trains, its record may be a save ahead of its checkpoints
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
            f"{rundir.checkpoints.path}: the {wanted} checkpoint, of epoch {epoch}, is gone",
            hint=f"put it back from a copy, or choose --checkpoint {others}",
        )
    choices = ["best", "latest"] if ends else ["latest"]
    raise RunError(
        f"{rundir.path}: no checkpoint {wanted}",
        hint=f"there is {', '.join([*choices, *epochs])}",
    )


@final
class Trained:
    """A trained VAE. Arrays come and go as NumPy; images are in [0, 1], or bytes from 0 to 255.

    An image may have the shape of the data (height, width) or be flat; what comes back has the
    shape of the data.
    """

    def __init__(
        self,
        rundir: RunDir,
        settings: config.Config,
        info: Info,
        params: Params,
        image_shape: Shape,
    ) -> None:
        self.rundir = rundir
        self.settings = settings
        self.checkpoint = info
        self.params = params
        self.image_shape = image_shape
        self.graph = model.graph(settings.model, image_shape[0] * image_shape[1])

    @property
    def code_size(self) -> int:
        """Dimensions of the latent code."""
        return self.settings.model.code_size

    @property
    def title(self) -> str:
        """Name run and epoch, for all that shows or quotes something."""
        return f"{self.rundir.name}, {self.checkpoint.where}"

    @devices.pinned()
    def encode(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log-variance of q(z|x), each of shape [images, code]."""
        mu, log_var = _encode(self.graph, self.params, self._flat(images))
        return np.asarray(mu), np.asarray(log_var)

    @devices.pinned()
    def decode(self, z: Float[np.ndarray, "*batch code"]) -> Float[np.ndarray, "*batch h w"]:
        """Return the probability of each pixel to be 1, given codes."""
        z = np.asarray(z, np.float32)
        if z.shape[-1:] != (self.code_size,):
            raise ValueError(f"codes of shape {z.shape}; the last axis must be {self.code_size}")
        self._check_room(z.size // self.code_size)
        return np.asarray(_decode(self.graph, self.params, z)).reshape(
            *z.shape[:-1], *self.image_shape
        )

    def sample(
        self, count: int, *, seed: int = 0, temperature: float = 1.0
    ) -> Float[np.ndarray, "count h w"]:
        """Decode codes from the prior, their standard deviation scaled by a temperature."""
        return self.decode(self.prior(count, seed=seed, temperature=temperature))

    @devices.pinned()
    def prior(
        self, count: int, *, seed: int = 0, temperature: float = 1.0
    ) -> Float[np.ndarray, "count code"]:
        """Draw codes from N(0, temperature^2)."""
        if count < 0:
            raise ValueError(f"{count} codes cannot be drawn")
        self._check_room(count)
        noise = jax.random.normal(streams.key(seed, "sample"), (count, self.code_size))
        return temperature * np.asarray(noise)

    @devices.pinned()
    def elbo(
        self, images: Images, *, samples: int = 1, seed: int = 0
    ) -> Float[np.ndarray, " images"]:
        """Return the ELBO of each image in nats, with L samples of z."""
        if samples < 1:
            raise ValueError(f"{samples} samples; at least one is needed")
        x = self._flat(images)
        self._check_room(len(x), samples)
        noise = jax.random.normal(streams.key(seed, "evaluate"), (samples, len(x), self.code_size))
        return np.asarray(_elbo(self.graph, self.params, x, noise))

    def split(self, name: SplitName) -> Split:
        """Load a split of the data that the run was trained on, binarized as for evaluation.

        Raises:
            DataError: the data set is gone, or is another one now.
            RunError: its images are of another shape than the run says.
        """
        dataset = data.load(self.settings.data)
        record = self.rundir.read_record()
        record.check_data(self.settings.data.source, dataset.fingerprint, dataset.image_shape)
        split: Split = getattr(dataset, name)
        if name == "train" and self.settings.data.binarization == "stochastic":
            # training draws them anew in each epoch; whoever looks at them wants one draw
            return split._replace(images=draw(split.images, name))
        return split

    def _check_room(self, count: int, samples: int = 1) -> None:
        height, width = self.image_shape
        footprint.check_images(self.settings.model, height * width, count, samples)

    def _flat(self, images: Images) -> Float[Array, "images pixels"]:
        array = np.asarray(images)
        pixels = self.image_shape[0] * self.image_shape[1]
        if array.size % pixels or (
            array.shape[-2:] != self.image_shape and array.shape[-1:] != (pixels,)
        ):
            raise ValueError(f"images of shape {array.shape}; {self.image_shape} was trained on")
        flat = array.reshape(-1, pixels)
        self._check_room(len(flat))
        if flat.dtype == np.uint8:
            return evaluation.unit(jnp.asarray(flat))
        if flat.size and not (flat.min() >= 0 and flat.max() <= 1):
            raise ValueError("images outside [0, 1]; give bytes as uint8, or divide by 255")
        return jnp.asarray(flat, jnp.float32)


@partial(jax.jit, static_argnames="graph")
def _encode(
    graph: nnx.GraphDef[VAE], params: Params, x: Float[Array, "images pixels"]
) -> tuple[Float[Array, "images code"], Float[Array, "images code"]]:
    return nnx.merge(graph, params).encoder(x)


@partial(jax.jit, static_argnames="graph")
def _decode(
    graph: nnx.GraphDef[VAE], params: Params, z: Float[Array, "*batch code"]
) -> Float[Array, "*batch pixels"]:
    return jax.nn.sigmoid(nnx.merge(graph, params).decoder(z))


@partial(jax.jit, static_argnames="graph")
def _elbo(
    graph: nnx.GraphDef[VAE],
    params: Params,
    x: Float[Array, "images pixels"],
    noise: Float[Array, "samples images code"],
) -> Float[Array, " images"]:
    return elbo(nnx.merge(graph, params), x, noise).elbo
