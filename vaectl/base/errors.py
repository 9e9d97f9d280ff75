"""Errors that a user can fix: each class has an exit code, each instance a hint."""

import errno
from os import PathLike
from typing import ClassVar, Self

_MOST_SHOWN = 200
"""The most characters of a message of another library that is repeated."""


class VaectlError(Exception):
    """An error that a user can fix: the message says what is wrong and where, the hint what to try.

    The library raises these errors and never exits; the command line prints them to stderr and
    exits with `exit_code`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @classmethod
    def of(
        cls,
        error: OSError,
        path: str | PathLike[str] | None = None,
        what: str = "cannot be read",
        *,
        near: str = "",
        hint: str = "",
    ) -> Self:
        """Return the error for a file or directory that the operating system refuses.

        Args:
            error: what the system says.
            path: of the file; by default the one that the error names.
            what: the operation that failed, for the message.
            near: the end of the message: see `vaectl.base.nearest.did_you_mean_path`.
            hint: what to try; by default what helps against the error. A link is always to be
                replaced.
        """
        place = error.filename if path is None else path
        reason = error.strerror or first_line(error)
        hint = "" if error.errno == errno.ELOOP else hint
        hint = hint or remedy(error, writing=what.endswith("written"))
        return cls(f"{place}: {what}: {reason}{near}", hint=hint)


class ConfigError(VaectlError):
    """The configuration or the command is wrong."""

    exit_code = 2


class DataError(VaectlError):
    """A data set is missing, broken or unusable."""

    exit_code = 3


class RunError(VaectlError):
    """A run directory or a checkpoint is missing, broken or in use."""

    exit_code = 4


class DivergedError(VaectlError):
    """Training produced a NaN, an infinity, or a bound too low to recover from."""

    exit_code = 5


class InterruptedRunError(VaectlError):
    """A signal asked the run to stop, and its state is saved."""

    exit_code = 130


class TooLargeError(OSError):
    """A file is larger than any valid file of its kind."""


def remedy(error: OSError, *, writing: bool = False) -> str:
    """Return a hint for a file or directory that cannot be read, written or deleted."""
    if isinstance(error, TooLargeError):
        return "is this another file? Check the path"
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if writing:
            return "check the path, or make its directory first"
        case errno.ENOENT | errno.ENOTDIR:
            return "check the path, or restore the file from a copy"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "check its owner and permissions"
        case errno.ELOOP:
            return "replace the link with the file or directory itself"
        case errno.EMFILE | errno.ENFILE:
            return "raise the limit of open files: ulimit -n 4096"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "free some space and try again"
        case errno.EISDIR | errno.EEXIST:
            return "move away what is there"
        case _:
            return "check the path and the disk, and try again"


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, shortened, or the error's name."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
