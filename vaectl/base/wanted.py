"""The devices that a command asks for, as text: `gpu`, `gpu:4`, `gpu:all`."""

from typing import NamedTuple

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean

KINDS = ("auto", "cpu", "gpu")


class Devices(NamedTuple):
    """A kind of devices, and how many."""

    kind: str
    """`auto` is the best kind that there is."""
    number: int | None
    """None is all that there are."""


def parse(text: str) -> Devices:
    """Read KIND, KIND:NUMBER or KIND:all.

    Raises:
        ConfigError: no such kind, or no such number.
    """
    kind, colon, number = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(
            f"--device {text}: no such device" + did_you_mean(kind, KINDS),
            hint=f"--device {', '.join(KINDS[:-1])} or {KINDS[-1]}; several: {KINDS[-1]}:2",
        )
    if not colon:
        return Devices(kind, 1)
    if number == "all":
        return Devices(kind, None)
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 2**16):
        raise ConfigError(
            f"--device {text}: {number!r} is no number of devices",
            hint=f"--device {kind}:2, or {kind}:all",
        )
    return Devices(kind, int(number))
