"""A process that takes part in a training that another one leads: see `vaectl.base.cluster`."""

from contextlib import suppress

import jax

from vaectl import data
from vaectl.base import cluster, devices
from vaectl.base.errors import DataError, DivergedError
from vaectl.base.interrupts import asked_to_stop
from vaectl.config.schema import Config
from vaectl.experiment import Task, first_state
from vaectl.training import fit as fitting
from vaectl.training.events import ignore


def follow(device_kind: str) -> None:
    """Train what the first process says, until it ends; write nothing.

    Signals are left to the first process, which tells when to stop.

    Args:
        device_kind: as for `vaectl.experiment.run`.

    Raises:
        ConfigError: no such device, or a plug that is not here.
        DataError: the data set is missing, or another one here.
    """
    chosen = devices.several(device_kind)
    with asked_to_stop():
        while message := cluster.told():
            settings = Config.model_validate(message["settings"])
            dataset = data.load(settings.data)
            if dataset.fingerprint != message["fingerprint"]:
                raise DataError(
                    f"{settings.data.source}: other images than those of the first process",
                    hint="copy the data set from the machine of the first process",
                )
            task = Task(settings, dataset, chosen, streamed=message["streamed"], watch=ignore)
            _train(task, resumed=message["resumed"])


def _train(task: Task, *, resumed: bool) -> None:
    with jax.default_device(task.device), suppress(DivergedError):  # the first process says so
        splits = task.images()
        member = task.member
        fitting.compile_ahead(task.program, member, *splits)
        state = first_state(task.program, member, resumed=resumed)
        for _ in fitting.fit(task.program, member, state, *splits):
            pass
