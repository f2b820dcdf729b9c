"""What a refusal of a server that speaks SFTP was about.

SFTP's third version, which servers speak, knows few reasons: a full disk, a folder in the way and a
name that is taken are all a "failure" (draft-ietf-secsh-filexfer-02; sftp-server.c of OpenSSH 9.2).
What it was is looked up afterwards.
"""

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncssh import SFTPClient

_FULL_BYTES: Final = 1 << 20  # with less than that, a refusal is for want of room
_READ_ONLY: Final = 1  # SSH_FXE_STATVFS_ST_RDONLY
# What servers that give words use for it: those of the operating system.
_WORDS: Final = {
    os.strerror(code).lower(): code
    for code in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EINVAL,
    )
}


class NotOfferedError(OSError):
    """The server does not know what is asked of it."""


async def refusal(
    ssh: Any,  # noqa: ANN401 (asyncssh, which only a session loads)
    client: "SFTPClient",
    root: bytes,
    error: Exception,
    path: str,
) -> OSError:
    """The same as the operating system would say it; `root` is a folder on the disk in question."""
    if isinstance(error, ssh.SFTPOpUnsupported):
        return NotOfferedError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
    code = _code(ssh, error)
    if code is None:
        with suppress(ssh.Error, OSError, ValueError):
            code = _disk_code(await client.statvfs(root))
    if code is None:
        return OSError(errno.EIO, f"the server refuses: {reason_of(error)[:200]}", path)
    return OSError(code, os.strerror(code), path)


def reason_of(error: Exception) -> str:
    """In the words of whoever said it."""
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)


def _code(ssh: Any, error: Exception) -> int | None:  # noqa: ANN401 (as above)
    known: dict[type[Exception], int] = {
        ssh.SFTPNoSuchFile: errno.ENOENT,
        ssh.SFTPNoSuchPath: errno.ENOENT,
        ssh.SFTPPermissionDenied: errno.EACCES,
        ssh.SFTPFileAlreadyExists: errno.EEXIST,
        ssh.SFTPWriteProtect: errno.EROFS,
        ssh.SFTPNoSpaceOnFilesystem: errno.ENOSPC,
        ssh.SFTPQuotaExceeded: errno.EDQUOT,
        ssh.SFTPDirNotEmpty: errno.ENOTEMPTY,
        ssh.SFTPNotADirectory: errno.ENOTDIR,
        ssh.SFTPFileIsADirectory: errno.EISDIR,
        ssh.SFTPInvalidFilename: errno.EINVAL,
        # OpenSSH's word for a name that is too long, or cannot be.
        ssh.SFTPBadMessage: errno.ENAMETOOLONG,
    }
    if type(error) in known:
        return known[type(error)]
    told = reason_of(error).lower()
    return next((code for words, code in _WORDS.items() if words in told), None)


def _disk_code(disk: Any) -> int | None:  # noqa: ANN401 (asyncssh's)
    if disk.flags & _READ_ONLY:
        return errno.EROFS
    has_room = disk.bavail * disk.frsize >= _FULL_BYTES and (disk.favail or not disk.files)
    return None if has_room else errno.ENOSPC
