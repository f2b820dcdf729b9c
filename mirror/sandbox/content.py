"""The bytes of originals, made when they are asked for: a library of terabytes costs nothing."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Protocol

BLOCK_BYTES = 64 * 1024


class Content(Protocol):
    """The bytes of one file. The same content gives the same bytes, always."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""

    @property
    def sha1(self) -> bytes:
        """20 bytes, of all of it."""

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, a block at a time."""


def _blocks(data: bytes, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, BLOCK_BYTES):
        yield data[at : min(at + BLOCK_BYTES, end)]


@dataclass(frozen=True)
class Fixed:
    """Bytes that are at hand."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.data)

    @cached_property
    def sha1(self) -> bytes:
        """20 bytes, of all of it."""
        return hashlib.sha1(self.data, usedforsecurity=False).digest()

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""
        return _blocks(self.data, start, end)


@dataclass(frozen=True)
class Made:
    """A small file that a function writes anew each time; only its size and SHA-1 are kept."""

    make: Callable[[], bytes]

    @cached_property
    def _measured(self) -> tuple[int, bytes]:
        data = self.make()
        return len(data), hashlib.sha1(data, usedforsecurity=False).digest()

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self._measured[0]

    @property
    def sha1(self) -> bytes:
        """20 bytes, of all of it."""
        return self._measured[1]

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""
        return _blocks(self.make(), start, end)


@dataclass(frozen=True)
class Filler:
    """Any size of bytes derived from a seed, after a beginning; no two blocks are equal."""

    seed: bytes
    size_bytes: int
    beginning: bytes = field(default=b"", repr=False)

    @property
    def sha1(self) -> bytes:
        """20 bytes, of all of it."""
        return _filler_sha1(self)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""
        number, offset = divmod(start, BLOCK_BYTES)
        while start < end:
            block = self._block(number)[offset : offset + end - start]
            yield block
            start += len(block)
            number, offset = number + 1, 0

    def _block(self, number: int) -> bytes:
        block = number.to_bytes(8) + _noise(self.seed)
        if number == 0:
            block = self.beginning + block[len(self.beginning) :]
        return block[: self.size_bytes - number * BLOCK_BYTES]


@lru_cache(maxsize=8)
def _noise(seed: bytes) -> bytes:
    return hashlib.shake_128(seed).digest(BLOCK_BYTES - 8)


@lru_cache(maxsize=4096)  # half a gigabyte is hashed once, however often its library is loaded
def _filler_sha1(filler: Filler) -> bytes:
    digest = hashlib.sha1(usedforsecurity=False)
    for block in filler.read(0, filler.size_bytes):
        digest.update(block)
    return digest.digest()
