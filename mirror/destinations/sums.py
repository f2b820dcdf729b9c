"""What a store will say of bytes that it got whole, found out while they pass."""

import base64
import hashlib
from collections.abc import Callable
from typing import BinaryIO, Final

from mirror.destinations import PartialFile, Written
from mirror.destinations.store import PART_BYTES

_MD5_BYTES: Final = 16


class Sums:
    """The MD5 of bytes and of each of their parts, as an ETag is made of them."""

    def __init__(self, part_bytes: int = PART_BYTES) -> None:
        """Nothing has passed yet."""
        self.part_bytes = part_bytes
        self.size_bytes = 0
        self._whole = _md5()
        self._part = self._whole  # the first one is all there is so far
        self._parts: list[bytes] = []  # of those that are full

    def add(self, piece: bytes | memoryview) -> None:
        """The next bytes."""
        view = memoryview(piece)
        while view:
            room = self.part_bytes - self.size_bytes % self.part_bytes
            self._add(view[:room])
            view = view[room:]

    def _add(self, view: memoryview) -> None:
        self._whole.update(view)
        if self._part is not self._whole:
            self._part.update(view)
        self.size_bytes += len(view)
        if self.size_bytes % self.part_bytes == 0:
            self._parts.append(self._part.digest())
            self._part = _md5()

    @property
    def has_parts(self) -> bool:
        """Whether one part does not hold it all."""
        return self.size_bytes > self.part_bytes

    @property
    def etag(self) -> str:
        """As S3 makes it, unless the store encrypts with keys of its own."""
        if not self.has_parts:
            return self._whole.hexdigest()
        last = [self._part.digest()] if self.size_bytes % self.part_bytes else []
        parts = b"".join(self._parts + last)
        count = len(parts) // _MD5_BYTES
        return f"{hashlib.md5(parts, usedforsecurity=False).hexdigest()}-{count}"

    @property
    def md5_text(self) -> str:
        """As rclone writes it beside an object in parts."""
        return base64.b64encode(self._whole.digest()).decode()


class SummedPartial:
    """A partial file of this machine; what passes is summed, so that it is not read for that."""

    def __init__(self, file: PartialFile, whole: Callable[[Sums, bytes], None]) -> None:
        """`whole` is told, when it is finished, the sums of all of it, and its SHA-1."""
        self._file = file
        self._whole = whole
        self._sums = Sums()

    def read(self) -> bytes:
        """The next piece that an earlier run left here; empty at the end of it."""
        piece = self._file.read()
        self._sums.add(piece)
        return piece

    def write(self, piece: bytes | memoryview) -> None:
        """All of these bytes, at the place."""
        self._file.write(piece)
        self._sums.add(piece)

    def take(self, file: BinaryIO) -> bool:
        """Hold what another file holds; whoever asked for that reads it back."""
        self._sums = Sums()
        return self._file.take(file)

    def restart(self) -> None:
        """Nothing is in it any more."""
        self._sums = Sums()
        self._file.restart()

    def finish(self, mtime_ns: int, sha1: bytes | None = None) -> Written:
        """Cut to the place, and dated."""
        written = self._file.finish(mtime_ns)
        if sha1 is not None and self._sums.size_bytes == written.size_bytes:
            self._whole(self._sums, sha1)
        return written

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)
