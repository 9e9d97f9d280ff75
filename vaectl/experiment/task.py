"""An experiment that is ready to train: its settings, its data, and its devices."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.sharding import Sharding

from vaectl import config, data
from vaectl.base import cluster, devices, mesh, streams
from vaectl.base.errors import ConfigError
from vaectl.base.plural import plural
from vaectl.base.shapes import shaped
from vaectl.config.meaning import notes, without_effect
from vaectl.evaluation.means import Images, Shapes
from vaectl.runs import environment
from vaectl.runs.record import Device
from vaectl.training import compiled, footprint, precision
from vaectl.training.events import Note, Phase, Watch
from vaectl.training.program import Member, Program


class Task(NamedTuple):
    """An experiment, its data, the devices that it trains on, and its watcher."""

    settings: config.Config
    dataset: data.Dataset
    devices: Sequence[jax.Device]
    """The devices. They share each batch if it has micro-batches; members of a study are spread
    over them."""
    streamed: bool
    """True if the images stay in host memory."""
    watch: Watch
    traced: Sequence[str] = ()
    """Keys of the optimizer that are traced: see `Program.traced`."""
    git_commit: Callable[[], str | None] = environment.git_commit
    """Finds the Git commit of the working directory, for the records of its runs."""
    command: Sequence[str] | None = None
    """The command that started it, for the same records; None: the command of this process."""

    @property
    def program(self) -> Program:
        """The program that it compiles to."""
        images, shape = len(self.dataset.train.images), self.dataset.image_shape
        return Program.of(
            self.settings,
            images=images,
            image_shape=shape,
            classes=self.dataset.classes,
            devices=self.devices,
            traced=self.traced,
        )

    @property
    def device(self) -> jax.Device:
        """The first of its devices that is this process's."""
        own = jax.process_index()
        return next(device for device in self.devices if device.process_index == own)

    @property
    def member(self) -> Member:
        """Its seed and learning rate, on all devices from the start.

        A state that moved there later would compile again.
        """
        return mesh.put(Member.of(self.settings, self.traced), self.everywhere)

    @property
    def alone(self) -> Self:
        """The same task on what trains one member: one device, unless all share each batch."""
        return self if self.program.mesh else self._replace(devices=self.devices[:1])

    @property
    def everywhere(self) -> Sharding:
        """The placement of arrays that all devices have."""
        return mesh.everywhere(self.devices)

    def images(self) -> tuple[Images, Images]:
        """Bring training and validation images to the device, unless they stay where they are."""
        labelled = bool(self.program.vae.classes)
        splits = (
            self.dataset.train.rows(labelled=labelled),
            self.dataset.validation.rows(labelled=labelled),
        )
        return splits if self._stay else mesh.put(splits, self.everywhere)

    def shapes(self) -> tuple[Shapes, Shapes]:
        """Return the shapes of `images` on the device, or the images that stay where they are."""
        if self._stay:
            return self.images()
        row, place = self.program.row, self.everywhere
        train, validation = (
            shaped((len(split.images), row), jnp.uint8, place)
            for split in (self.dataset.train, self.dataset.validation)
        )
        return train, validation

    @property
    def _stay(self) -> bool:
        return self.streamed or self.dataset.on_disk

    @property
    def place(self) -> Device:
        """The hardware and software that the last bits of results depend on."""
        images = "streamed from host memory" if self.streamed else "on the device"
        if self.dataset.on_disk:
            images = "streamed from disk"
        several = {"devices": len(self.devices)} if len(self.devices) > 1 else {}
        return {**devices.describe(self.device), **several, "images": images}


def resolved(settings: config.Config, device_kind: str, watch: Watch) -> config.Config:
    """Choose the precision of a new run if that is left to the device, and tell of it.

    Raises:
        ConfigError: there is no such device.
    """
    if settings.model.precision == "float32":
        return settings
    settings, told = precision.resolved(settings, devices.several(device_kind)[0])
    if told:
        watch(Note(f"note: {told}"))
    return settings


def prepared(
    settings: config.Config,
    device_kind: str,
    stream: bool,
    watch: Watch,
    fingerprint: str | None = None,
) -> Task:
    """Choose the devices and read the data, before anything is written.

    Args:
        settings: the experiment.
        device_kind: `auto`, `cpu` or `gpu`; several share each batch, as in `gpu:4`.
        stream: whether images stay in host memory though the device could hold them.
        watch: called with events of the reading, and with warnings.
        fingerprint: of the data that a resumed run needs; None: any will do.

    Raises:
        ConfigError: no such device, devices that cannot share a batch, or more than the memory
            holds.
        DataError: the data set is missing, broken, or another one.
    """
    chosen = devices.several(device_kind)
    watch(Phase(f"reading {settings.data.source}"))
    dataset = data.load(
        settings.data, fingerprint=fingerprint, tell=lambda text: watch(Phase(text))
    )
    task = Task(settings, dataset, chosen, streamed=False, watch=watch)
    _check_devices(task)
    task.program.check()
    held_out = len(task.dataset.validation.images)
    own = [device for device in chosen if device.process_index == task.device.process_index]
    at_once = len(own) if task.device.platform == "cpu" else 1  # they share one memory
    with jax.default_device(task.device):  # as in training: what is traced is not traced again
        must_stream = footprint.check_training(
            task.program, held_out, task.device, at_once, on_disk=dataset.on_disk
        )
    task = task._replace(streamed=must_stream or stream)
    images = len(dataset.train.images)
    if settings.batch_size > images:
        watch(Note(f"note: a batch has all {images:,} images: batch_size is larger"))
    for note in (*task.dataset.notes, *notes(settings), *without_effect(settings)):
        watch(Note(f"note: {note}"))
    return task


def _check_devices(task: Task) -> None:
    """Refuse several devices if a batch has no parts that they can share."""
    count, settings = len(task.devices), task.settings
    if not cluster.is_alone():
        kept = compiled.shapes(task.program, task.program.somebody).params
        if any(map(streams.is_key, jax.tree.leaves(kept))):
            raise ConfigError(
                f"the model {settings.model.name} keeps random keys, for dropout or noise, which "
                "several processes cannot save",
                hint="train it in one process, on any number of its devices, or without dropout "
                "and noise",
            )
    if count & (count - 1):
        raise ConfigError(
            f"{count} devices cannot share a batch equally", hint="use 2, 4, 8, ... devices"
        )
    if settings.microbatches < count:
        parts = 2 * count
        batch = -(-settings.batch_size // parts) * parts
        raise ConfigError(
            f"{count} devices share the micro-batches of a batch, and microbatches is "
            f"{settings.microbatches}",
            hint=f"--set microbatches={parts} --batch-size {batch}",
        )


def opening(task: Task) -> str:
    """Say in one line what is trained, how, and on what."""
    settings, images = task.settings, len(task.dataset.train.images)
    model = f"{settings.model.name} {settings.model.chosen.summary(settings.model.code_size)}"
    epochs = plural(settings.epochs, "epoch")
    source, optimizer = settings.data.source, settings.optimizer.name
    products = ", products in bfloat16" if task.program.bfloat16 else ""
    return f"training {model} on {images:,} images of {source}: {epochs}, {optimizer}{products}"
