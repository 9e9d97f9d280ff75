"""A lock of a directory: a file in it, which a process locks while it writes in the directory."""

import errno
import fcntl
from typing import Self, final

from filelock import FileLock

from vaectl.base.files import LINK, Folder


@final
class Lock:
    """A lock that makes no directory: one that is gone, or was moved away, cannot be locked."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self._lock = FileLock(folder.path / name)

    def acquire(self, patience: float = -1) -> None:
        """Wait until no other process holds the lock, and hold it.

        Args:
            patience: the most seconds to wait; -1: any time.

        Raises:
            filelock.Timeout: another process still holds it.
            OSError: the directory is missing, the lock is a link, or it cannot be written.
        """
        self._folder.names()  # raises if the directory is missing, which FileLock would make
        if self._folder.kind(self._name) == "link":
            raise OSError(errno.ELOOP, LINK, str(self._folder.path / self._name))
        self._lock.acquire(timeout=patience)

    def release(self) -> None:
        """Let others hold the lock."""
        self._lock.release()

    def is_held(self) -> bool:
        """Tell whether a process holds the lock, as far as can be known.

        Nothing is written, unless the file system has no locks: there it is held for a moment.
        """
        try:
            # also that of another user, or on a disk that is read-only
            with self._folder.open(self._name) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError as error:
            return error.errno != errno.ENOSYS or self._is_marked()
        return False

    def _is_marked(self) -> bool:
        """Tell whether a process holds the lock, on a file system that has no locks."""
        if self._lock.is_locked:
            return True
        try:
            self.acquire(0)
        except OSError:  # also Timeout
            return True
        self.release()
        return False

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
