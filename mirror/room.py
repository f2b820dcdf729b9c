"""A disk that is full, in words: which one it is, and where room can be made.

What goes to a bucket or a server waits on this machine first, with what is remembered of it.
"""

import os
from pathlib import Path
from typing import Final

from mirror.errors import MirrorError, NoSpaceError
from mirror.settings import state_directory

_FULL_BYTES: Final = 1 << 20  # with less than that, a failure is for want of room
WAITING: Final = "originals wait there before they go to a bucket or a server"
ELSEWHERE: Final = (
    "make room there, or set STATE_DIRECTORY or XDG_STATE_HOME to a folder on a larger disk"
)


def full(where: str | os.PathLike[str], why: str) -> NoSpaceError:
    """No room at a path or a URL."""
    what = f"{where}: the disk is full"
    if _is_beside(where):
        return NoSpaceError(what, why=f"{why}; {WAITING}", hint=f"{ELSEWHERE}, and run again")
    return NoSpaceError(what, why=why, hint="make room and run again")


def is_full(path: Path) -> bool:
    """Whether the disk of a path is as good as full; in doubt, it is not."""
    try:
        found = os.statvfs(path if path.exists() else path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _FULL_BYTES


def _is_beside(where: str | os.PathLike[str]) -> bool:
    """Whether it is of what this machine keeps beside a destination elsewhere."""
    try:
        return Path(where).is_relative_to(state_directory())
    except MirrorError:
        return False
