"""One original: from the server into a verified partial file.

Nothing here gives a file its name. Safe to kill anywhere: what had come is resumed under the same
ETag, or verified and used when it was whole already.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from mirror.budget import Lane
from mirror.core import checksum
from mirror.core.model import Asset, Dedupe
from mirror.destinations import (
    DAMAGED,
    PARTIAL,
    STATE,
    Linking,
    OpenDestination,
    PartialFile,
    Spooling,
    Written,
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
from mirror.immich.retry import RetryPolicy, tell_retry
from mirror.index import Failure, Index
from mirror.limits import Allowance
from mirror.nearby import Flight, Neighbour, Offer, Source
from mirror.room import ELSEWHERE, WAITING
from mirror.stopping import check_stopping
from mirror.threads import in_thread

# Below this a body is read in one go; above, in pieces.
SMALL_BYTES: Final = 1 << 20
_INLINE_BYTES: Final = 1 << 17  # more is hashed and written on a second thread
_PIECE_BYTES: Final = 1 << 20
_FOR_INDEX_BYTES: Final = 1 << 19  # beside what waits: without it nothing gets its name
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


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

    def fail(self, path: str, why: str) -> None:
        """What became of one that failed, in few words."""

    def part(self, name: str) -> "Progress":
        """One of several that go on side by side: what it is told counts for the whole, too."""


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

    def __init__(self, folder: OpenDestination, name: str, mtime_ns: int) -> None:
        self._folder = folder
        self._name = name
        self._mtime_ns = mtime_ns
        self._file: PartialFile | None = None
        self._written: Written | None = None
        self._digest = _sha1()
        self._sha1: bytes | None = None  # of all that was hashed, once it was asked for
        self.offset = 0
        self.etag = ""
        self.size_bytes: int | None = None  # of the whole original, once the server said it
        self.received_bytes = 0  # over the network
        self.source = ""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def sha1(self) -> bytes:
        if self._sha1 is None:
            self._sha1 = self._digest.digest()
        return self._sha1

    @property
    def _opened(self) -> PartialFile:
        if self._file is None:
            self._file = self._folder.open_partial(self._name)
        return self._file

    def write(self, piece: bytes | memoryview) -> None:
        """Hash and keep the next bytes."""
        file = self._opened
        self._hash(piece)
        self.received_bytes += len(piece)
        file.write(piece)
        self.offset += len(piece)

    def read_back(self) -> None:
        """Take up what is in it already."""
        file = self._opened
        while piece := file.read():
            check_stopping()
            self._hash(piece)
            self.offset += len(piece)

    def _hash(self, piece: bytes | memoryview) -> None:
        self._digest.update(piece)
        self._sha1 = None

    def link(self, file: BinaryIO, path: Path, wanted: bytes) -> bool:
        """Be another name of the file at `path`, if it holds what is wanted; False: it cannot."""
        digest = _sha1()
        for piece in _readable(file):
            digest.update(piece)
        file.seek(0)
        if digest.digest() != wanted or not isinstance(self._folder, Linking):
            return False
        self.close()
        self._file = None  # a partial file of that name is gone
        self.restart()
        self._written = self._folder.link(file, path, self._name)
        if self._written is None:
            return False
        self._digest, self._sha1 = digest, wanted
        self.offset = self._written.size_bytes
        return True

    def copy(self, file: BinaryIO, *, by_reference: bool) -> None:
        """From the first byte on what another file holds, by reference if that can be."""
        own, received_bytes = self._opened, self.received_bytes
        self.restart()
        if by_reference and own.take(file):
            self.read_back()
        else:
            for piece in _readable(file):
                self.write(piece)
        self.received_bytes = received_bytes  # nothing of it came over the network

    def restart(self) -> None:
        """From the first byte again; nothing stays that a later resume could take for its own."""
        self._digest, self._sha1 = _sha1(), None
        self._written = None
        self.offset = 0
        if self._file is not None:
            self._file.restart()

    def finish(self) -> Written:
        """Cut to what was written, and dated; nothing is written after that."""
        if self._written is None:
            self._written = self._opened.finish(self._mtime_ns, self.sha1)
        return self._written


@dataclass(frozen=True, slots=True)
class _Broken:
    """How an attempt ended; `opened`: the server had begun to answer."""

    error: TransientError
    opened: bool


class _Tries:
    """How often one file was tried, counted anew whenever it gets on."""

    def __init__(self, retry: RetryPolicy, offset: int) -> None:
        self._retry = retry
        self._furthest = offset
        self._waited_s = 0.0
        self.attempt = 0

    def wait_s(self, error: TransientError, offset: int) -> float | None:
        """How long to wait after a failed attempt that reached `offset`; None: give up."""
        self.attempt += 1
        if offset > self._furthest:
            self._furthest, self.attempt, self._waited_s = offset, 1, 0.0
        wait_s = self._retry.wait_s(error, attempt=self.attempt, waited_s=self._waited_s)
        self._waited_s += wait_s or 0.0
        return wait_s


class Fetcher:
    """Brings originals of one account into one destination's partial files."""

    def __init__(
        self,
        client: Client,
        folder: OpenDestination,
        index: Index,
        progress: Progress,
        *,
        min_free_bytes: int,
        now: datetime,
        lane: Lane,
        here: Neighbour,
        allowance: Allowance,
        dedupe: Dedupe = Dedupe.OFF,
    ) -> None:
        """`now` is the server's clock, kept with what is damaged there."""
        self._client = client
        self._folder = folder
        self._index = index
        self._progress = progress
        self._min_free_bytes = min_free_bytes
        self._now = now
        self._lane = lane
        self._here = here
        self._allowance = allowance
        self._dedupe = dedupe
        self._nearby = here.neighbourhood
        self._beside: dict[bytes, list[Source]] = {}
        self._leftovers = frozenset(folder.work_files(PARTIAL))
        self._promised: dict[str, int] = {}  # by asset id: bytes that are still to be written

    def is_under_way(self, asset: Asset) -> bool:
        """Whether another destination is getting these bytes at this moment."""
        wanted = checksum.content_sha1(asset)
        return wanted is not None and self._nearby.flight(wanted) is not None

    async def fetch(self, asset: Asset, path: str) -> Received:
        """A verified partial file of the asset's original; `path` is where it will come to lie.

        Raises:
            AssetError: this asset cannot be had; remembered when it is damaged at the source.
            AccountError: none can.
            NoSpaceError, UnwritableError: the destination takes no more.
        """
        name = partial_name(asset)
        part = _Partial(self._folder, name, mtime_ns(asset))
        begun_s = time.monotonic()
        try:
            await self._fetch(asset, Offer(self._here, name, path), part)
            written = part.finish()
        except OSError as error:
            raise unwritable(self._folder.where(partial(name)), error) from error
        finally:
            part.close()
            self._promised.pop(asset.id, None)
            self._allowance.end(part)
            self._progress.end(asset.id)
        self._lane.budget.finished()
        return Received(
            name=name,
            sha1=part.sha1,
            written=written,
            etag=part.etag,
            source=part.source,
            received_bytes=part.received_bytes,
            duration_ms=round((time.monotonic() - begun_s) * 1000, 1),
        )

    async def _fetch(self, asset: Asset, offer: Offer, part: _Partial) -> None:
        """Fill the partial file with verified bytes."""
        wanted = checksum.content_sha1(asset)
        if offer.name in self._leftovers and wanted is not None:
            # Without a checksum nothing would show what a power cut did to the bytes of a leftover.
            await in_thread(part.read_back)
            part.etag = self._index.partial_etag(offer.name)
            if part.sha1 == wanted:
                self._offer(wanted, offer, part)
                return
            await self._check_leftover(asset, part)
        if await self._is_copied(self._beside.get(wanted or b"", ()), asset, part):
            return
        await self._receive(asset, offer, part)
        if wanted not in {None, part.sha1}:
            # Once more from the start: a proxy or a resume may have mixed two files.
            part.restart()
            await self._receive(asset, offer, part)
        if wanted not in {None, part.sha1}:
            raise self._damaged(asset, offer.name, part)

    # -- from another destination ------------------------------------------------------------------

    async def look_around(self, assets: Iterable[Asset]) -> None:
        """Find out, once and for all of them, what other destinations held before this run."""
        wanted = [sha1 for asset in assets if (sha1 := checksum.content_sha1(asset)) is not None]
        self._beside = await in_thread(self._here.beside, wanted)

    def _offer(self, wanted: bytes, offer: Offer, part: _Partial) -> None:
        part.finish()  # before anybody looks at it
        self._nearby.offer(wanted, offer)

    def _is_about(self, wanted: bytes | None) -> bool:
        """Whether another has fetched it in this run, or does so now."""
        return wanted is not None and not (
            self._nearby.offered(wanted) is None and self._nearby.flight(wanted) is None
        )

    async def _is_given(self, wanted: bytes | None, asset: Asset, part: _Partial) -> bool:
        """Take what is fetched in this run, and wait for it while it is; False: nobody has it."""
        while wanted is not None and self._is_about(wanted):
            if offer := self._nearby.offered(wanted):
                if await self._is_copied(offer.sources, asset, part):
                    return True
                self._nearby.withdraw(wanted, offer)
            elif flight := self._nearby.flight(wanted):
                await flight.over()
        return False

    async def _is_copied(self, sources: Iterable[Source], asset: Asset, part: _Partial) -> bool:
        """Take the bytes of the first file that is there and has the right ones."""
        for source in sources:
            if await in_thread(self._take, source, asset, part):
                part.source = str(source.path)
                return True
        return False

    def _take(self, source: Source, asset: Asset, part: _Partial) -> bool:
        """Have the bytes of a file, if it is there and they are right. Blocks."""
        file, wanted = source.opened(), checksum.content_sha1(asset)
        if file is None or wanted is None:
            return False
        with file:
            found = os.fstat(file.fileno())
            # A file has one time, and accounts may date the same bytes differently.
            may_link = source.neighbour.links and found.st_mtime_ns == mtime_ns(asset)
            if self._here.links and may_link and part.link(file, source.path, wanted):
                return True
            self.check_space(asset, found.st_size)
            part.copy(file, by_reference=self._dedupe is not Dedupe.OFF)
        if part.sha1 == wanted:
            return True
        part.restart()
        return False

    # -- from the server ---------------------------------------------------------------------------

    async def _check_leftover(self, asset: Asset, part: _Partial) -> None:
        """Restart what cannot be resumed; asking from the end of the file on is an error."""
        head = await self._client.original_head(asset.id) if part.etag else None
        if head is None or head.etag != part.etag or (head.size_bytes or 0) <= part.offset:
            part.restart()

    async def _receive(self, asset: Asset, offer: Offer, part: _Partial) -> None:
        """Bring the partial file to its end, over as many connections as it takes.

        The connection and the flight are given up before it waits to try again: others go on, and
        whoever wants the same bytes may have more luck with them.
        """
        wanted = checksum.content_sha1(asset)
        tries = _Tries(self._client.retry, part.offset)
        while not await self._is_given(wanted, asset, part):
            async with self._lane.connection():
                if self._is_about(wanted):
                    continue
                self._allowance.check()
                with self._nearby.flying(wanted) as flight:
                    broken = await self._attempt(asset, part, flight)
                    if broken is None:
                        if wanted is not None and part.sha1 == wanted:
                            self._offer(wanted, offer, part)
                        return
            wait_s = tries.wait_s(broken.error, part.offset)
            if wait_s is None:
                raise _given_up(asset, broken.error, opened=broken.opened) from broken.error
            url = f"/assets/{asset.id}/original"
            tell_retry(broken.error, tries.attempt, wait_s, url=url)
            await self._client.retry.sleep(wait_s)

    async def _attempt(self, asset: Asset, part: _Partial, flight: Flight) -> "_Broken | None":
        """What one connection gives; None when that is the rest of the file."""
        opened = False
        try:
            async with self._open(asset, part) as original:
                opened = True
                mixed = original.offset > 0 and original.etag != part.etag
                if not mixed:
                    await self._read(asset, original, part, flight)
            if mixed:
                # Another file's rest, from a server or proxy that does not know If-Range.
                part.restart()
                part.etag = ""
                async with self._open(asset, part) as original:
                    await self._read(asset, original, part, flight)
        except TransientError as error:
            return None if opened and part.offset == part.size_bytes else _Broken(error, opened)
        return None

    def _open(self, asset: Asset, part: _Partial) -> AbstractAsyncContextManager[Original]:
        if not part.etag:
            part.restart()  # without an ETag nothing says that the rest belongs to this beginning
        return self._client.original(asset.id, offset=part.offset, etag=part.etag)

    async def _read(self, asset: Asset, original: Original, part: _Partial, flight: Flight) -> None:
        """One answer's body, hashed and written while it comes."""
        if original.offset < part.offset:
            part.restart()
        part.etag = original.etag
        part.size_bytes = size_bytes = original.size_bytes
        self._allowance.promise(part, (size_bytes or 0) - part.offset)
        original.on_bytes = flight.moved
        self._promise(asset, (size_bytes or 0) - part.offset)
        self._progress.begin(asset.id, asset.original_file_name, size_bytes)
        if size_bytes is not None and size_bytes - part.offset <= SMALL_BYTES:
            piece = await original.read()
            if len(piece) > _INLINE_BYTES:
                await in_thread(part.write, piece)
            else:
                part.write(piece)
            self._came(asset, part, len(piece))
        else:
            await in_thread(self._index.note_partial, partial_name(asset), original.etag)
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
                self._came(asset, part, len(piece))
        finally:
            if writing is not None:
                await writing

    def _came(self, asset: Asset, part: _Partial, size_bytes: int) -> None:
        self._allowance.came(part, size_bytes)
        self._progress.advance(asset.id, size_bytes)

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
        promised_bytes = sum(self._promised.values())
        wanted_bytes = promised_bytes + size_bytes + self._min_free_bytes
        free_bytes = self._folder.free_bytes()
        if wanted_bytes > free_bytes or self._is_full_here(promised_bytes + size_bytes):
            why = f"it needs {size_bytes} bytes, {free_bytes} are free"
            if promised_bytes:
                why += f", {promised_bytes} of them are for what is under way"
            raise self._no_room(
                asset, wanted_bytes, f"{why}, min_free keeps {self._min_free_bytes}"
            )

    def _is_full_here(self, wanted_bytes: int) -> bool:
        """Whether so much more cannot wait on this machine, where originals do that."""
        folder = self._folder
        if not isinstance(folder, Spooling):
            return False
        return wanted_bytes + _FOR_INDEX_BYTES > folder.free_here_bytes()

    def _no_room(self, asset: Asset, wanted_bytes: int, why: str) -> NoSpaceError:
        where, hint = self._folder.name, "make room"
        lower = ", or lower min_free" if self._min_free_bytes else ""
        if isinstance(self._folder, Spooling) and self._is_full_here(wanted_bytes):
            why += f", the index {_FOR_INDEX_BYTES}; {WAITING}"
            where, hint = str(self._folder.spool), ELSEWHERE
        return NoSpaceError(
            f"{where}: no room for {asset.original_file_name!r}",
            why=why,
            hint=f"{hint}{lower}, and run again: what is there stays",
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
    return (taken_at - _EPOCH) // _MICROSECOND * 1000


def _readable(file: BinaryIO) -> Iterator[bytes]:
    """A neighbour's file as far as it can be read: a bad sector there is no fault of this disk."""
    with suppress(OSError):
        while piece := file.read(_PIECE_BYTES):
            check_stopping()
            yield piece


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
        hint="run again; what came of a large file is kept and resumed",
    )


def _sha1() -> "hashlib._Hash":
    return hashlib.sha1(usedforsecurity=False)
