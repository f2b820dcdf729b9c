"""One run per destination: a lock that dies with its holder.

`flock` where the file system has it; elsewhere a file made exclusively, which names its host, boot
and process, so that a lock left behind by a killed run can be told from a living one. A clean run
leaves no lock file.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirror.destinations.folder import STATE, unwritable
from mirror.errors import LockedError

NAME: Final = "lock"
_NO_FLOCK: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
_BUSY: Final = frozenset({errno.EAGAIN, errno.EACCES})


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a destination while the block runs.

    Raises:
        LockedError: another run holds it; the message names holder, host and since when.
    """
    path = root / STATE / NAME
    try:
        descriptor = _acquire(path)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _holder(), 0)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def check_free(root: Path) -> None:
    """Refuse a destination that a run holds; leaves no trace.

    Raises:
        LockedError: a run holds it.
    """
    path = root / STATE / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY or _is_alive(path):
            raise _refused(path) from error
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise _refused(path) from error
            if error.errno in _NO_FLOCK:
                return _acquire_exclusively(path)
            raise
        if _is_still_there(path, descriptor):
            return descriptor
        os.close(descriptor)  # its holder removed it between our open and our flock


def _is_still_there(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _acquire_exclusively(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError as error:
        if _is_alive(path):
            raise _refused(path) from error
    path.unlink(missing_ok=True)
    return os.open(path, flags, 0o600)


def _is_alive(path: Path) -> bool:
    """Whether the process that a lock names still runs; in doubt, it does."""
    try:
        told = json.loads(path.read_text())
        if told["host"] != socket.gethostname() or told["boot"] != _boot_id():
            return bool(told["host"] != socket.gethostname())
        os.kill(int(told["pid"]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        # Empty: ours of a moment ago, from the attempt with flock.
        return path.exists() and path.stat().st_size > 0
    return True


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _holder() -> bytes:
    told = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(told).encode()


def _refused(path: Path) -> LockedError:
    holder = "another run"
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(path.read_text())
        holder = f"process {told['pid']} on {told['host']}, since {told['since']}"
    return LockedError(
        f"{path.parent.parent}: is in use",
        why=f"{holder} holds {path}",
        hint="wait for it to end and run again",
    )
