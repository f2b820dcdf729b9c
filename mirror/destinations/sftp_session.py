"""A connection to a server that speaks SFTP: its requests, with refusals as OSError.

Needs the extra `[sftp]`, asyncssh. Everything here blocks, and may be used by several threads at
once: the connection lives on a thread of its own. One that is lost is made again, a few times;
whatever is asked here can be asked twice.
"""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from mirror.core.model import EntryKind
from mirror.destinations.sftp_login import Door, Login
from mirror.destinations.sftp_refusal import NotOfferedError, refusal
from mirror.destinations.store import Told
from mirror.errors import MirrorError
from mirror.stopping import check_stopping

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPClient, SFTPClientFile, SSHClientConnection

_T = TypeVar("_T")

_PIECE_BYTES: Final = 1 << 20
_AT_ONCE: Final = 32  # handles open on the server, which allows so many
_AGAIN_S: Final = (0.5, 1.5, 3.0)  # between attempts to reach a server that was there
_TRIES: Final = 5  # of one request, over as many connections
_GOODBYE_S: Final = 5.0
_ANSWER_S: Final = 300.0  # a disk that has to wake up, a server under load


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look says of one name; links are not followed."""

    name: bytes
    kind: EntryKind
    size_bytes: int
    mtime_s: int
    links: int | None = None  # names of the same file, where a listing tells


class Session:
    """One server, and the files below one folder of it, by their path from there; at first, all."""

    def __init__(self, login: Login) -> None:
        """Connects to nothing yet.

        Raises:
            UnwritableError: asyncssh is not installed.
        """
        self._door = Door(login)
        ssh = self._ssh = self._door.ssh
        # Lines of theirs would be none of ours: whoever asked is told.
        logging.getLogger("asyncssh").setLevel(logging.CRITICAL + 1)
        self._root = b"/"
        self._lost = (
            ssh.DisconnectError,
            ssh.SFTPConnectionLost,
            ssh.SFTPNoConnection,
            ssh.ChannelOpenError,
            ConnectionError,
        )
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        logging.getLogger("asyncio").addFilter(self._is_of_others)
        self._thread.start()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._turn = asyncio.Lock()
        self._connection: SSHClientConnection | None = None
        self._client: SFTPClient | None = None
        self._was_there = False
        self._dead: OSError | MirrorError | None = None
        self._syncs = True  # until the server says that it does not
        self.is_closed = False
        self._closing = threading.Lock()  # other destinations may read here until the end

    def close(self) -> None:
        """Say goodbye."""
        with self._closing:
            if self.is_closed:
                return
            self.is_closed = True
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(_GOODBYE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        logging.getLogger("asyncio").removeFilter(self._is_of_others)

    def _is_of_others(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread.ident

    async def _leave(self) -> None:
        if self._client is not None:
            self._client.exit()
        if self._connection is not None:
            self._connection.abort()
            with suppress(Exception):
                await self._connection.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # -- the connection ----------------------------------------------------------------------------

    def connect(self) -> None:
        """Log in, so that nobody has to wait for it later.

        Raises:
            UnwritableError: the server cannot be reached, is not the one that is known, or refuses.
        """
        self._run(_nothing, "")

    def _run(self, work: "Callable[[SFTPClient], Awaitable[_T]]", path: str) -> _T:
        try:
            return self._begun(work, path).result()
        except CancelledError:
            raise _closed(path) from None

    def _begun(self, work: "Callable[[SFTPClient], Awaitable[_T]]", path: str) -> Future[_T]:
        with self._closing:
            if self.is_closed:
                raise _closed(path)
            return asyncio.run_coroutine_threadsafe(self._persistent(work, path), self._loop)

    async def _persistent(self, work: "Callable[[SFTPClient], Awaitable[_T]]", path: str) -> _T:
        async with self._slots:
            for _ in range(_TRIES):
                client = await self._connected()
                try:
                    return await work(client)
                except self._lost:
                    self._drop(client)
                except TimeoutError:
                    raise OSError(errno.ETIMEDOUT, "the server gives no answer", path) from None
                except (self._ssh.Error, ValueError) as error:
                    raise await refusal(self._ssh, client, self._root, error, path) from None
        raise OSError(errno.ENETRESET, "the connection is lost whenever this is asked", path)

    async def _connected(self) -> "SFTPClient":
        async with self._turn:
            if self._dead is not None:
                raise self._dead
            if self._client is None:
                self._client = await self._reached()
                self._was_there = True
            return self._client

    async def _reached(self) -> "SFTPClient":
        """A connection: for the first time at once or not at all."""
        for wait_s in (*(_AGAIN_S if self._was_there else ()), None):
            try:
                return await self._logged_in()
            except (self._ssh.Error, OSError, ValueError, MirrorError) as error:
                if wait_s is None:
                    door = self._door
                    self._dead = door.lost(error) if self._was_there else door.explained(error)
                    raise self._dead from None
                await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _logged_in(self) -> "SFTPClient":
        connection = await self._door.connection()
        try:
            client = await connection.start_sftp_client()
        except BaseException:
            connection.abort()
            raise
        self._connection = connection
        return client

    def _drop(self, client: "SFTPClient") -> None:
        if self._client is client:
            self._client = None
            if self._connection is not None:
                self._connection.abort()

    def enter(self, folder: str) -> None:
        """From now on, every path is one below this folder, which is absolute."""
        self._root = os.fsencode(folder)

    # -- looking -----------------------------------------------------------------------------------

    def look(self, path: str, *, follows: bool = False) -> Seen:
        """What lies at a path.

        Raises:
            FileNotFoundError: nothing.
        """
        place = self._at(path)

        async def asked(client: "SFTPClient") -> "SFTPAttrs":
            return await _soon(client.stat(place) if follows else client.lstat(place))

        return _seen(place.rpartition(b"/")[2], self._run(asked, path))

    def listing(self, path: str) -> Future[list[Seen]]:
        """What is directly in a folder, in no order."""
        place = self._at(path)

        async def asked(client: "SFTPClient") -> list[Seen]:
            found = await _soon(client.readdir(place))
            names = [(item.filename, item) for item in found if isinstance(item.filename, bytes)]
            return [
                _seen(name, item.attrs, item.longname)
                for name, item in names
                if name not in (b".", b"..")
            ]

        return self._begun(asked, path)

    def listed(self, folder: str) -> Iterator[Told]:
        """The files directly in a folder, dated by the server's clock; none without a folder."""
        with suppress(FileNotFoundError):
            for seen in self.listing(folder).result():
                path = f"{folder}/{os.fsdecode(seen.name)}"
                yield Told(path, seen.size_bytes, "", datetime.fromtimestamp(seen.mtime_s, UTC))

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes, all of the same version, or an error."""
        reading = _Reading(self._at(path), path)
        try:
            while piece := self._run(reading.piece, path):
                check_stopping()
                yield piece
        finally:
            with suppress(OSError, MirrorError):
                self._run(reading.close, path)

    def free_bytes(self) -> int | None:
        """What may still be written; None where the server does not tell."""

        async def asked(client: "SFTPClient") -> int:
            there = await _soon(client.statvfs(self._root))
            return there.bavail * there.frsize

        try:
            return self._run(asked, "")
        except OSError:
            return None

    # -- changing ----------------------------------------------------------------------------------

    def put(self, path: str, data: bytes, _metadata: Mapping[str, str]) -> None:
        """Write a small file over whatever lies there; its time is the server's."""
        place = self._at(path)

        async def asked(client: "SFTPClient") -> None:
            async with await _soon(client.open(place, "wb")) as file:
                await _soon(file.write(data))

        self._run(asked, path)

    def upload(self, file: BinaryIO, path: str, mtime_s: int) -> None:
        """Write a file over whatever lies there, durably where the server offers that, and date it.

        Raises:
            OSError: not all of it arrived.
        """
        place = self._at(path)

        async def asked(client: "SFTPClient") -> int | None:
            file.seek(0)
            async with await _soon(client.open(place, "wb")) as there:
                while piece := file.read(_PIECE_BYTES):
                    check_stopping()
                    await _soon(there.write(piece))
                await self._sync(there)
            await _soon(client.utime(place, (mtime_s, mtime_s)))
            return (await _soon(client.lstat(place))).size

        size_bytes = self._run(asked, path)
        if size_bytes != file.tell():
            raise OSError(errno.EIO, "the server has less than it was given", path)

    async def _sync(self, file: "SFTPClientFile") -> None:
        if not self._syncs:
            return
        try:
            await _soon(file.fsync())
        except self._ssh.SFTPOpUnsupported:
            self._syncs = False

    def set_time(self, path: str, mtime_s: int) -> None:
        """Date a file."""
        place = self._at(path)
        self._run(lambda client: _soon(client.utime(place, (mtime_s, mtime_s))), path)

    def make_folder(self, path: str, mode: int | None = None) -> None:
        """One that must not be there yet; those above it are."""
        place, attrs = self._at(path), self._ssh.SFTPAttrs()
        if mode is not None:
            attrs.permissions = mode
        self._run(lambda client: _soon(client.mkdir(place, attrs)), path)

    def remove_folder(self, path: str) -> None:
        """An empty one."""
        place = self._at(path)
        self._run(lambda client: _soon(client.rmdir(place)), path)

    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""
        place = self._at(path)
        with suppress(FileNotFoundError):
            self._run(lambda client: _soon(client.remove(place)), path)

    def link(self, source: str, path: str) -> None:
        """Give a file a second name, where the server offers that."""
        old, new = self._at(source), self._at(path)
        self._run(lambda client: _soon(client.link(old, new)), path)

    def rename(self, source: str, path: str) -> None:
        """Give a file another path; what some servers then do with what lies there: see `probe`."""
        self._rename(source, path, over=False)

    def replace(self, source: str, path: str, *, by: str | None = None) -> None:
        """Give a file another path, over whatever lies there, in one step where that is offered.

        Where it is not, it has the path `by` while nothing lies at `path`.
        """
        with suppress(NotOfferedError):
            self._rename(source, path, over=True)
            return
        try:
            self._rename(source, path, over=False)  # which some servers do over a file
        except OSError:
            if by is not None:
                self.delete(by)
                self._rename(source, by, over=False)
            self.delete(path)
            self._rename(by or source, path, over=False)

    def _rename(self, source: str, path: str, *, over: bool) -> None:
        old, new = self._at(source), self._at(path)
        asked_before = False

        async def asked(client: "SFTPClient") -> None:
            nonlocal asked_before
            again, asked_before = asked_before, True
            try:
                await _soon((client.posix_rename if over else client.rename)(old, new))
            except self._ssh.SFTPNoSuchFile:
                # Before the connection was lost it was done, and nobody heard of it.
                if not again:
                    raise
                await _soon(client.lstat(new))

        self._run(asked, path)

    # -- inside ------------------------------------------------------------------------------------

    def _at(self, path: str) -> bytes:
        return b"/".join((self._root.rstrip(b"/"), os.fsencode(path))) if path else self._root


class _Reading:
    """A file that is read piece by piece, over more than one connection if need be."""

    def __init__(self, place: bytes, path: str) -> None:
        self._place = place
        self._path = path
        self._client: SFTPClient | None = None
        self._file: Any = None  # asyncssh's are of text or of bytes
        self._version: tuple[int, int] | None = None  # size and time
        self._at = 0

    async def piece(self, client: "SFTPClient") -> bytes:
        """The next one; empty at the end."""
        if self._client is not client or self._file is None:
            self._file, self._client = await _soon(client.open(self._place, "rb")), client
            attrs = await _soon(self._file.stat())
            version = attrs.size or 0, attrs.mtime or 0
            if self._version not in (None, version):
                raise OSError(errno.ESTALE, "it was written to while it was read", self._path)
            self._version = version
        size_bytes = self._version[0] if self._version else 0
        wanted = min(_PIECE_BYTES, size_bytes - self._at)
        if wanted <= 0:
            return b""
        piece: bytes = await _soon(self._file.read(wanted, self._at))
        if not piece:
            raise OSError(errno.EIO, "the server gave less than it has", self._path)
        self._at += len(piece)
        return piece

    async def close(self, client: "SFTPClient") -> None:
        """Let go of it, if the server still knows of it."""
        if self._file is not None and self._client is client:
            await _soon(self._file.close())


def _closed(path: str) -> OSError:
    return OSError(errno.ENOTCONN, "the connection is closed", path)


async def _nothing(_client: "SFTPClient") -> None:
    """A connection suffices."""


async def _soon(answer: Coroutine[Any, Any, _T] | Awaitable[_T]) -> _T:
    """An answer; a server whose disk hangs still keeps its connections alive.

    Raises:
        TimeoutError: it does not come.
    """
    return await asyncio.wait_for(answer, _ANSWER_S)


_KINDS: Final = {1: EntryKind.FILE, 2: EntryKind.FOLDER, 3: EntryKind.LINK}  # SSH_FILEXFER_TYPE_…


def _seen(name: bytes, attrs: "SFTPAttrs", longname: object = None) -> Seen:
    return Seen(
        name,
        _KINDS.get(attrs.type, EntryKind.OTHER),
        attrs.size or 0,
        attrs.mtime or 0,
        _links(longname),
    )


def _links(longname: object) -> int | None:
    """The second word, as `ls -l` has it, which OpenSSH's server writes."""
    words = longname.split(maxsplit=2) if isinstance(longname, bytes) else []
    with suppress(IndexError, ValueError):
        return int(words[1])
    return None
