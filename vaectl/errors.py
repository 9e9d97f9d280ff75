"""What can go wrong, for whom it matters: each class has an exit code, each instance a hint."""

from typing import ClassVar


class VaectlError(Exception):
    """Something a user can mend: what went wrong, where, and what to try.

    The library raises these and never exits; the command line prints them to stderr and exits
    with `exit_code`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(VaectlError):
    """The configuration or the command is wrong."""

    exit_code = 2


class DataError(VaectlError):
    """A data set is missing, broken or not usable."""

    exit_code = 3


class RunError(VaectlError):
    """A run directory or a checkpoint is missing, broken or in use."""

    exit_code = 4


class DivergedError(VaectlError):
    """Training produced a NaN or an infinity."""

    exit_code = 5


class InterruptedRunError(VaectlError):
    """A person or a scheduler asked the run to stop, and its state is saved."""

    exit_code = 130
