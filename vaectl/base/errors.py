"""Errors that a user can mend: each class has an exit code, each instance a hint."""

import errno
from typing import ClassVar


class VaectlError(Exception):
    """Something a user can mend: what went wrong, where, and what to try.

    The library raises these and never exits; the command line prints them to stderr and exits
    with `exit_code`. The hint says what to try.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str) -> None:
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


def remedy(error: OSError) -> str:
    """Say what to try about a file or directory that cannot be read, written or deleted."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return "check the path, or put it back from a copy"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "check whose it is, and its permissions"
        case errno.ELOOP:
            return "put the file or directory itself in the place of the link"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "make room, and try again"
        case errno.EISDIR | errno.EEXIST:
            return "move away what stands there"
        case _:
            return "check the path and the disk, and try again"
