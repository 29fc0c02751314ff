"""The lock of a folder, which one process at a time can have.

The operating system releases the lock when its process ends, also after `kill -9`. The file `.lock`
has the process and the host, and is removed together with the lock.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from focalcodec.errors import UserError

# File systems that do not lock files: NFS without its lock service, some network disks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class FolderLock:
    """Lock of a folder, which is made if it is missing.

    On a file system without locks, an existing file is the lock. There the lock of a process that
    was killed is found on its own host only.

    Parameters
    ----------
    folder : str or path
        The folder.
    wait : bool
        Wait for another process; otherwise raise a `UserError`, which names it.

    Example
    -------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with FolderLock(folder):
    ...     FolderLock(folder, wait=False).acquire()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: ...: process ... writes into this folder; wait for it, ...
    """

    def __init__(self, folder: str | os.PathLike[str], wait: bool = True) -> None:
        self.path = Path(folder) / ".lock"
        self._wait = wait
        self._lock: BaseFileLock = FileLock(self.path)

    def __enter__(self) -> FolderLock:
        """Acquire the lock."""
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        """Release the lock."""
        self.release()

    def acquire(self) -> None:
        """Acquire the lock, unless this object has it.

        Raises
        ------
        UserError
            The folder can't be written to, or another process has the lock and `wait` is False.
        """
        if self._lock.is_locked:
            return
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except Timeout:
            raise UserError(
                f"{folder}: {self._holder()} writes into this folder; wait for it, or choose"
                " another folder"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{folder}: can't be written to ({reason}); choose another folder"
            ) from error
        if not self._is_soft():  # which writes the same two lines itself
            with suppress(OSError):
                self.path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")

    def _acquire(self) -> None:
        try:
            self._lock.acquire(blocking=self._wait)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with suppress(OSError):
                if self.path.stat().st_size == 0:  # made by the attempt; it would count as a lock
                    self.path.unlink()
            self._lock = SoftFileLock(self.path)
            self._lock.acquire(blocking=self._wait)

    def release(self) -> None:
        """Release the lock, if this object has it, and remove its file."""
        if self._lock.is_locked:
            # Removed while it is locked: a process that waits for this file then takes a new one.
            with suppress(OSError):
                self.path.unlink()
            self._lock.release()

    def _holder(self) -> str:
        try:
            process, host = self.path.read_text(encoding="utf-8").split("\n")[:2]
        except (OSError, ValueError):
            return "another process"
        stale = f" (if it has ended, delete {self.path})" if self._is_soft() else ""
        host = host.partition("?")[0]  # filelock adds the namespace of processes
        return f"process {process} on host {host}{stale}"

    def _is_soft(self) -> bool:
        return isinstance(self._lock, SoftFileLock)
