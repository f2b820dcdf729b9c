"""One original: from the server into a verified partial file.

Nothing here gives a file its name. Safe to kill anywhere: what had come is resumed under the same
ETag, or verified and used when it was whole already.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from mirror.core import checksum
from mirror.core.model import Asset
from mirror.destinations.folder import (
    DAMAGED,
    PARTIAL,
    STATE,
    Folder,
    Written,
    finish_partial,
    partial,
    unwritable,
)
from mirror.errors import (
    ChecksumMismatchError,
    MirrorError,
    NoSpaceError,
    RequestError,
    TransferError,
    TransientError,
)
from mirror.immich.client import Client, Original
from mirror.immich.retry import tell_retry
from mirror.index import Failure, Index
from mirror.nearby import Nearby
from mirror.threads import in_thread

# Below this a body is read, hashed and written in one go; above, in pieces on a second thread.
SMALL_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Progress(Protocol):
    """Who wants to know how far a run is."""

    def plan(self, files: int, size_bytes: int) -> None:
        """So many files are to come; their bytes as far as they are known."""

    def begin(self, asset_id: str, name: str, size_bytes: int | None) -> None:
        """A file starts."""

    def advance(self, asset_id: str, size_bytes: int) -> None:
        """So many of its bytes came."""

    def end(self, asset_id: str) -> None:
        """A file is done, or has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A whole, verified partial file."""

    name: str
    sha1: bytes
    written: Written
    etag: str = ""
    source: str = ""  # the file of another destination that it was copied from
    received_bytes: int = 0  # over the network, in this run
    duration_ms: float = 0.0


class _Partial:
    """One partial file while it grows; opened when the first byte comes."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._descriptor: int | None = None
        self._digest = _sha1()
        self.offset = 0
        self.etag = ""
        self.size_bytes: int | None = None  # of the whole original, once the server said it
        self.received_bytes = 0  # over the network
        self.source = ""

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def sha1(self) -> bytes:
        return self._digest.digest()

    def write(self, piece: bytes) -> None:
        """Hash and keep the next bytes."""
        if self._descriptor is None:
            self._descriptor = self._folder.open_partial(self._name)
        self._digest.update(piece)
        self.received_bytes += len(piece)
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.offset)
            self.offset += written
            view = view[written:]

    def read_back(self) -> None:
        """Take up what an earlier run left."""
        self._descriptor = self._folder.open_partial(self._name)
        while piece := os.pread(self._descriptor, _PIECE_BYTES, self.offset):
            self._digest.update(piece)
            self.offset += len(piece)

    def restart(self) -> None:
        """From the first byte again; nothing stays that a later resume could take for its own."""
        self._digest = _sha1()
        self.offset = 0
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)

    def finish(self, mtime_ns: int) -> Written:
        """Cut to what was written, and dated."""
        if self._descriptor is None:
            self._descriptor = self._folder.open_partial(self._name)
        return finish_partial(self._descriptor, self.offset, mtime_ns)


class Fetcher:
    """Brings originals of one account into one destination's partial files."""

    def __init__(
        self,
        client: Client,
        folder: Folder,
        index: Index,
        progress: Progress,
        *,
        min_free_bytes: int,
        now: datetime,
        nearby: Sequence[Nearby] = (),
    ) -> None:
        """`now` is the server's clock, kept with what is damaged there."""
        self._client = client
        self._folder = folder
        self._index = index
        self._progress = progress
        self._min_free_bytes = min_free_bytes
        self._now = now
        self._nearby = nearby
        self._leftovers = frozenset(folder.work_files(PARTIAL))
        self._promised: dict[str, int] = {}  # by asset id: bytes that are still to be written

    async def fetch(self, asset: Asset) -> Received:
        """A verified partial file of the asset's original.

        Raises:
            AssetError: this asset cannot be had; remembered when it is damaged at the source.
            AccountError: none can.
            NoSpaceError, UnwritableError: the destination takes no more.
        """
        name = partial_name(asset)
        part = _Partial(self._folder, name)
        begun_s = time.monotonic()
        try:
            await self._fetch(asset, name, part)
            written = part.finish(mtime_ns(asset))
        except OSError as error:
            raise unwritable(self._folder.root / partial(name), error) from error
        finally:
            part.close()
            self._promised.pop(asset.id, None)
            self._progress.end(asset.id)
        return Received(
            name=name,
            sha1=part.sha1,
            written=written,
            etag=part.etag,
            source=part.source,
            received_bytes=part.received_bytes,
            duration_ms=round((time.monotonic() - begun_s) * 1000, 1),
        )

    async def _fetch(self, asset: Asset, name: str, part: _Partial) -> None:
        """Fill the partial file with verified bytes."""
        wanted = checksum.content_sha1(asset)
        if name in self._leftovers and wanted is not None:
            # Without a checksum nothing would show what a power cut did to the bytes of a leftover.
            await in_thread(part.read_back)
            part.etag = self._index.partial_etag(name)
            if part.sha1 == wanted:
                return
            await self._check_leftover(asset, part)
        if wanted is not None and self._nearby and await self._is_nearby(wanted, asset, part):
            return
        await self._receive(asset, name, part)
        if wanted not in {None, part.sha1}:
            # Once more from the start: a proxy or a resume may have mixed two files.
            part.restart()
            await self._receive(asset, name, part)
        if wanted not in {None, part.sha1}:
            raise self._damaged(asset, name, part)

    async def _is_nearby(self, wanted: bytes, asset: Asset, part: _Partial) -> bool:
        return await in_thread(self._copy, wanted, asset, part)

    def _copy(self, wanted: bytes, asset: Asset, part: _Partial) -> bool:
        """Take the bytes from another destination of this run, if they are there and right."""
        for other in self._nearby:
            path = other.find(wanted)
            if path is None:
                continue
            part.restart()
            try:
                with path.open("rb") as file:
                    self.check_space(asset, os.fstat(file.fileno()).st_size)
                    while piece := file.read(_PIECE_BYTES):
                        part.write(piece)
            except OSError as error:
                if error.filename is None:
                    raise  # it was the writing that failed
            if part.sha1 == wanted:
                part.source, part.received_bytes = str(path), 0
                return True
            part.restart()
        return False

    async def _check_leftover(self, asset: Asset, part: _Partial) -> None:
        """Restart what cannot be resumed; asking from the end of the file on is an error."""
        head = await self._client.original_head(asset.id) if part.etag else None
        if head is None or head.etag != part.etag or (head.size_bytes or 0) <= part.offset:
            part.restart()

    async def _receive(self, asset: Asset, name: str, part: _Partial) -> None:
        """Bring the partial file to its end, over as many connections as it takes."""
        retry, attempt, waited_s, furthest = self._client.retry, 0, 0.0, part.offset
        while True:
            attempt += 1
            opened = False
            try:
                async with self._open(asset, part) as original:
                    opened = True
                    if original.offset and original.etag != part.etag:
                        # Another file's rest, from a server or proxy that does not know If-Range.
                        part.restart()
                        part.etag = ""
                        continue
                    await self._read(asset, name, original, part)
            except TransientError as error:
                if opened and part.offset == part.size_bytes:
                    return
                if part.offset > furthest:
                    furthest, attempt, waited_s = part.offset, 1, 0.0
                wait_s = retry.wait_s(error, attempt=attempt, waited_s=waited_s)
                if wait_s is None:
                    raise _given_up(asset, error, opened=opened) from error
                tell_retry(error, attempt, wait_s, url=f"/assets/{asset.id}/original")
            else:
                return
            await retry.sleep(wait_s)
            waited_s += wait_s

    def _open(self, asset: Asset, part: _Partial) -> AbstractAsyncContextManager[Original]:
        if not part.etag:
            part.restart()  # without an ETag nothing says that the rest belongs to this beginning
        return self._client.original(asset.id, offset=part.offset, etag=part.etag)

    async def _read(self, asset: Asset, name: str, original: Original, part: _Partial) -> None:
        """One answer's body, hashed and written while it comes."""
        if original.offset < part.offset:
            part.restart()
        part.etag = original.etag
        part.size_bytes = size_bytes = original.size_bytes
        self._promise(asset, (size_bytes or 0) - part.offset)
        self._progress.begin(asset.id, asset.original_file_name, size_bytes)
        if size_bytes is not None and size_bytes - part.offset <= SMALL_BYTES:
            piece = await original.read()
            part.write(piece)
            self._progress.advance(asset.id, len(piece))
        else:
            await in_thread(self._index.note_partial, name, original.etag)
            await self._read_pieces(asset, original, part)
        _check_size(asset, size_bytes, part.offset)

    async def _read_pieces(self, asset: Asset, original: Original, part: _Partial) -> None:
        """One piece is hashed and written on a second thread while the next one comes."""
        writing: asyncio.Task[None] | None = None
        try:
            async for piece in original.chunks(_PIECE_BYTES):
                if writing is not None:
                    await writing
                writing = asyncio.create_task(in_thread(part.write, piece))
                self._promised[asset.id] -= len(piece)
                self._progress.advance(asset.id, len(piece))
        finally:
            if writing is not None:
                await writing

    def _promise(self, asset: Asset, size_bytes: int) -> None:
        """Room for this file, beside those that are under way."""
        self._promised.pop(asset.id, None)
        self.check_space(asset, size_bytes)
        self._promised[asset.id] = size_bytes

    def check_space(self, asset: Asset, size_bytes: int) -> None:
        """Refuse what would not leave `min_free`.

        Raises:
            NoSpaceError: it would not.
        """
        free_bytes = self._folder.free_bytes() - sum(self._promised.values())
        if size_bytes + self._min_free_bytes > free_bytes:
            raise NoSpaceError(
                f"{self._folder.root}: no room for {asset.original_file_name!r}",
                why=(
                    f"it needs {size_bytes} bytes, {free_bytes} are free,"
                    f" and min_free keeps {self._min_free_bytes}"
                ),
                hint="make room, or lower min_free, and run again: what is here stays",
            )

    def _damaged(self, asset: Asset, name: str, part: _Partial) -> ChecksumMismatchError:
        """Keep the bytes as evidence, and do not fetch them again until the ETag changes."""
        self._folder.set_aside(partial(name), f"{STATE}/{DAMAGED}/{name}")
        failure = Failure(asset.id, asset.checksum, part.etag, self._now)
        self._index.note_failure(failure)
        return ChecksumMismatchError(
            f"{asset.original_file_name!r}: the bytes received are not those that the server lists",
            why=(
                f"expected SHA-1 {asset.checksum.hex()}, got {part.sha1.hex()}"
                f" ({part.offset} bytes), twice"
            ),
            hint=f"the original is damaged on the server; what came is in {STATE}/{DAMAGED}/{name}",
        )


def partial_name(asset: Asset) -> str:
    """The name that only these bytes of this asset may have while they are incomplete."""
    return f"{asset.id}-{asset.checksum.hex()[:8]}"


def mtime_ns(asset: Asset) -> int:
    """The instant a photo was taken, as a file's time."""
    taken_at = asset.taken_at or asset.uploaded_at
    return (taken_at - _EPOCH) // timedelta(microseconds=1) * 1000


def _check_size(asset: Asset, size_bytes: int | None, got_bytes: int) -> None:
    if size_bytes is None and checksum.content_sha1(asset) is None:
        raise TransferError(
            f"{asset.original_file_name!r}: nothing says whether all of it came",
            why="neither a content checksum nor a Content-Length was given",
            hint="does a proxy strip Content-Length?",
        )
    if size_bytes not in {None, got_bytes}:
        raise TransferError(
            f"{asset.original_file_name!r}: not all of it came",
            why=f"{size_bytes} bytes were announced, {got_bytes} came",
            hint="run again",
        )


def _given_up(asset: Asset, error: TransientError, *, opened: bool) -> MirrorError:
    """Of the account when nothing answers, of this asset when only its own body fails."""
    if not opened and not isinstance(error.outcome, RequestError):
        return error.outcome
    return TransferError(
        f"{asset.original_file_name!r}: the download broke off each time",
        why=error.why or error.what,
        hint="run again; what came is kept and resumed",
    )


def _sha1() -> "hashlib._Hash":
    return hashlib.sha1(usedforsecurity=False)
