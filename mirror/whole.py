"""A file is written as a whole: whoever reads it sees the old one or the new one."""

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Put `content` into the place of the file, durably. Blocks.

    `mode` is what others may do with it, whatever the umask; None: as the umask has it.

    Raises:
        OSError: its folder is not there, or refuses; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def create_file(path: Path, content: bytes, *, mode: int) -> None:
    """Make a file that is not there yet, durably; what is there is never overwritten. Blocks.

    Raises:
        FileExistsError: something has its name.
        OSError: its folder is not there, or refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
