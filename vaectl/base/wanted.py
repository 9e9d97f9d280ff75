"""The devices and processes that a command asks for, as text."""

from typing import NamedTuple

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean

KINDS = ("auto", "cpu", "gpu")


class Devices(NamedTuple):
    """A kind of devices, and how many."""

    kind: str
    """`auto`: the best kind that this machine has."""
    number: int | None
    """The number of devices; None: all devices of the kind."""


def devices(text: str) -> Devices:
    """Read KIND, KIND:NUMBER or KIND:all.

    Raises:
        ConfigError: no such kind, or no such number.
    """
    kind, colon, number = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(
            f"--device {text}: no such device"
            + ("; did you mean gpu?" if kind == "cuda" else did_you_mean(kind, KINDS)),
            hint="--device auto, cpu or gpu; several: gpu:2",
        )
    if not colon:
        return Devices(kind, 1)
    if number == "all":
        return Devices(kind, None)
    if not _is_number(number) or int(number) == 0:
        raise ConfigError(
            f"--device {text}: {number!r} is no number of devices",
            hint=f"--device {kind}:2, or {kind}:all",
        )
    return Devices(kind, int(number))


class Cluster(NamedTuple):
    """Processes that train together, and which of them this one is."""

    address: str | None
    """HOST:PORT where the first one listens; None: JAX asks Slurm, MPI or Kubernetes."""
    processes: int | None
    number: int | None
    """The number of this process, counted from 0."""


def cluster(text: str) -> Cluster:
    """Read `auto`, or HOST:PORT,PROCESSES,INDEX.

    Raises:
        ConfigError: it is neither.
    """
    if text == "auto":
        return Cluster(None, None, None)
    address, *numbers = text.split(",")
    host, _, port = address.rpartition(":")
    known = len(numbers) == 2 and all(map(_is_number, (port, *numbers)))
    if not (known and host and int(port)):
        raise ConfigError(
            f"--cluster {text}: not HOST:PORT,PROCESSES,INDEX",
            hint="--cluster 10.0.0.1:8476,2,0 in the first of two processes, ,2,1 in the second; "
            "auto under Slurm",
        )
    processes, index = map(int, numbers)
    if index >= processes:
        raise ConfigError(
            f"--cluster {text}: the index {index} is none of {processes} processes",
            hint="the first process has the index 0",
        )
    return Cluster(address, processes, index)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 2**16
