"""A process that takes part in a training that another one leads: see `vaectl.base.cluster`."""

from contextlib import suppress
from typing import Any

import jax
from pydantic import ValidationError

from vaectl import data
from vaectl.base import cluster, devices
from vaectl.base.errors import ConfigError, DataError, DivergedError
from vaectl.base.interrupts import asked_to_stop
from vaectl.config.schema import Config
from vaectl.experiment import Task, first_state, same_everywhere
from vaectl.training import fit as fitting
from vaectl.training.events import ignore


def take_part(device_kind: str) -> None:
    """Train what the first process sends, until it ends the training; write nothing.

    Signals are left to the first process, which tells when to stop.

    Raises:
        ConfigError: no such device, or the versions of vaectl or the plugs differ from the first
            process.
        DataError: the data set is missing here, or differs from that of the first process.
    """
    chosen = devices.several(device_kind)
    with asked_to_stop(), suppress(cluster.Ended):
        message = cluster.told()
        with cluster.prepared():
            settings = _settings(message)
            dataset = data.load(settings.data, fingerprint=message["fingerprint"])
            if dataset.fingerprint != message["fingerprint"]:
                raise DataError(
                    f"{settings.data.source}: other images than those of the first process",
                    hint="copy the data set from the machine of the first process",
                )
        task = Task(settings, dataset, chosen, streamed=message["streamed"], watch=ignore)
        with suppress(DivergedError):  # the first process says so
            _train(task, resumed=message["resumed"], began=message["began"])
        cluster.told()


def _settings(message: dict[str, Any]) -> Config:
    hint = "all processes need the same versions, and the same --plugin"
    try:
        settings = Config.model_validate(message["settings"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"the first process has {key} {first['input']!r}: {first['msg']}", hint=hint
        ) from None
    theirs, ours = message["same"], same_everywhere(settings)
    for name in theirs | ours:
        if theirs.get(name) != ours.get(name):
            raise ConfigError(
                f"{name} is {ours.get(name)} here, and {theirs.get(name)} in the first process",
                hint=hint,
            )
    return settings


def _train(task: Task, *, resumed: bool, began: float | None) -> None:
    with jax.default_device(task.device):
        splits = task.images()
        fitting.compile_ahead(task.program, task.member, *splits)
        state = first_state(task.program, task.member, resumed=resumed)
        saved = fitting.Saved(state, began=began)
        for _ in fitting.fit(task.program, task.member, saved, *splits):
            pass
