"""One run per destination: a lock that dies with its holder.

`flock` where the file system has it; elsewhere a file made exclusively, which names its machine,
boot and process, so that a lock left behind by a killed run can be told from a living one. A clean
run leaves no lock file.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirror.destinations import STATE, unwritable
from mirror.errors import LockedError

NAME: Final = "lock"
_NO_FLOCK: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
_BUSY: Final = frozenset({errno.EAGAIN, errno.EACCES})
_MACHINE_ID: Final = Path("/etc/machine-id")


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
        yield
    finally:
        with suppress(OSError):
            if _is_still_there(path, descriptor):
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
        if error.errno in _BUSY:
            raise _refused(path) from error
        if _is_alive(path):
            raise _refused(path, may_be_left=True) from error
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
            return _signed(descriptor, path)
        os.close(descriptor)  # its holder removed it between our open and our flock


def _is_still_there(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _acquire_exclusively(path: Path) -> int:
    """A lock that is there with its holder's name, or not at all."""
    mine = path.with_name(f"{NAME}.{uuid.uuid4()}")
    try:
        with mine.open("xb") as file:
            file.write(this_process())
            file.flush()
            os.fsync(file.fileno())  # torn, it would name nobody, and hold everybody up for ever
        while (descriptor := _taken(mine, path)) is None:
            if _is_alive(path):
                raise _refused(path, may_be_left=True)
            _clear_away(path)
        return descriptor
    finally:
        mine.unlink(missing_ok=True)


def _signed(descriptor: int, path: Path) -> int:
    """The lock with its holder's name in it; on a full disk, no lock and no file."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, this_process(), 0)
    except OSError:
        path.unlink()
        os.close(descriptor)
        raise
    return descriptor


def _taken(mine: Path, path: Path) -> int | None:
    """The lock, under a descriptor; None when there is one already."""
    # Not by the path: another run may have it aside for a moment, to look whose it is.
    descriptor = os.open(mine, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.link(mine, path)
    except OSError as error:
        os.close(descriptor)
        return None if isinstance(error, FileExistsError) else _created(path)
    return descriptor


def _created(path: Path) -> int | None:
    """Where there are no links either: for a moment the lock has no name in it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        return None
    os.fsync(_signed(descriptor, path))
    return descriptor


def _clear_away(path: Path) -> None:
    """Remove a dead lock; what another run made of it in the meantime is put back."""
    stale = path.with_name(f"{NAME}.{uuid.uuid4()}")
    with suppress(FileNotFoundError):
        path.rename(stale)
        if _is_alive(stale):
            with suppress(FileExistsError):
                os.link(stale, path)
        stale.unlink()


def _told(path: Path) -> Mapping[str, object]:
    """What a lock says of its holder; nothing when it says nothing."""
    with suppress(OSError, ValueError):
        told = json.loads(path.read_text())
        if isinstance(told, dict):
            return told
    return {}


def _is_alive(path: Path) -> bool:
    """Whether the process that a lock names still runs; in doubt, it does."""
    if told := _told(path):
        return not is_dead_here(told)
    # Empty: left by an attempt with flock, of ours or of another run.
    with suppress(FileNotFoundError):
        return path.stat().st_size > 0
    return False


def is_dead_here(holder: Mapping[str, object]) -> bool:
    """Whether `holder` is a process of this very machine that has ended; in doubt, it is not."""
    boot, pid = holder.get("boot"), holder.get("pid")
    if holder.get("host") != socket.gethostname() or not (boot and boot_id()):
        return False
    if boot != boot_id():
        return _was_here(holder)
    # One boot is one machine; but a container's processes have numbers of their own.
    if holder.get("pids", _process_ids()) != _process_ids() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _was_here(holder: Mapping[str, object]) -> bool:
    """Whether it was this machine before it booted, and not another one that is called the same.

    An image may give its machine's id to each of its containers, on whatever machine.
    """
    told = holder.get("machine"), holder.get("pids")
    return bool(machine()) and told == (machine(), _process_ids())


def who(holder: Mapping[str, object]) -> str:
    """A holder in words."""
    if not holder.keys() >= {"pid", "host", "since"}:
        return "another run"
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"


def boot_id() -> str:
    """Which start of this machine it is; "" where nothing tells."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def machine() -> str:
    """Which machine it is, whatever it is called; "" where nothing tells.

    A hash: whoever can read a destination must not learn the id itself (machine-id(5)).
    """
    with suppress(OSError):
        told = _MACHINE_ID.read_bytes().strip()
        if re.fullmatch(rb"[0-9a-f]{32}", told):
            return hashlib.blake2b(told, key=b"immich-mirror", digest_size=16).hexdigest()
    return ""


def _process_ids() -> str:
    """Among whose processes ours has its number; "" where nothing tells."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def this_process() -> bytes:
    """What a lock says of its holder, as JSON: process, machine, and `since`."""
    told = {
        "pid": os.getpid(),
        "pids": _process_ids(),
        "host": socket.gethostname(),
        "machine": machine(),
        "boot": boot_id(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(told).encode()


def _refused(path: Path, *, may_be_left: bool = False) -> LockedError:
    """`may_be_left`: nothing but what stands in it says whether it is held."""
    hint = "wait for it to end and run again"
    return LockedError(
        f"{path.parent.parent}: is in use",
        why=f"{who(_told(path))} holds {path}",
        hint=f"{hint}; if its machine or container is no more, remove {path}"
        if may_be_left
        else hint,
    )
