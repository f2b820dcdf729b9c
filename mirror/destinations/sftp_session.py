"""A connection to a server that speaks SFTP: its requests, with refusals as OSError.

Needs the extra `[sftp]`, asyncssh. Everything here blocks, and may be used by several threads at
once: the connection lives on a thread of its own. One that is lost is made again, a few times;
whatever is asked here can be asked twice.

SFTP's third version, which servers speak, knows few reasons: a full disk, a folder in the way and a
name that is taken are all a "failure" (draft-ietf-secsh-filexfer-02; sftp-server.c of OpenSSH 9.2).
What it was is looked up afterwards.
"""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from mirror.core.model import EntryKind
from mirror.destinations.store import Told
from mirror.errors import UnwritableError
from mirror.stopping import check_stopping

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPClient, SFTPClientFile, SSHClientConnection, SSHKey

_T = TypeVar("_T")

PORT: Final = 22
_PIECE_BYTES: Final = 1 << 20
_AT_ONCE: Final = 32  # handles open on the server, which allows so many
_AGAIN_S: Final = (0.5, 1.5, 3.0)  # between attempts to reach a server that was there
_MOST_RECONNECTS: Final = 20  # of one run
_CONNECT_S: Final = 10.0
_LOGIN_S: Final = 30.0
_ANSWER_S: Final = 300.0  # a disk that has to wake up, a server under load
_ALIVE_S: Final = 15.0
_ALIVE_TRIES: Final = 4
# Much the fastest where both ends have AES in hardware; the others follow.
_CIPHERS: Final = "^aes128-gcm@openssh.com"
_FULL_BYTES: Final = 1 << 20  # with less than that, a refusal is for want of room
_READ_ONLY: Final = 1  # SSH_FXE_STATVFS_ST_RDONLY
_SYSTEM_KNOWN_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")
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


class _NotOfferedError(OSError):
    """The server does not know what is asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Which server, as whom, and what proves either."""

    host: str
    port: int
    user: str
    key_file: str | None = None  # None, without a password: the user's own keys, and the agent's
    password: str | None = field(default=None, repr=False)
    known_hosts: str | None = None  # None: the user's own, and the machine's

    @property
    def server(self) -> str:
        """As messages call it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORT else f"{host}:{self.port}"


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
        self.login = login
        try:
            import asyncssh  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise UnwritableError(
                f"sftp://{login.server}: SFTP needs a part that is not installed",
                why=str(error),
                hint="install the extra: immich-mirror[sftp], or asyncssh beside it",
            ) from error
        # Lines of theirs would be none of ours: whoever asked is told.
        logging.getLogger("asyncssh").setLevel(logging.CRITICAL + 1)
        self._ssh: Any = asyncssh  # loaded here alone
        self._root = b"/"
        self._lost = (
            asyncssh.DisconnectError,
            asyncssh.SFTPConnectionLost,
            asyncssh.SFTPNoConnection,
            asyncssh.ChannelOpenError,
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
        self._connections = 0
        self._dead: OSError | UnwritableError | None = None
        self._syncs = True  # until the server says that it does not
        self._unknown_key: SSHKey | None = None
        self.is_closed = False

    def close(self) -> None:
        """Say goodbye."""
        if self.is_closed:
            return
        self.is_closed = True
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(_CONNECT_S)
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
        return self._begun(work, path).result()

    def _begun(self, work: "Callable[[SFTPClient], Awaitable[_T]]", path: str) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(self._persistent(work, path), self._loop)

    async def _persistent(self, work: "Callable[[SFTPClient], Awaitable[_T]]", path: str) -> _T:
        async with self._slots:
            while True:
                client = await self._connected()
                try:
                    return await work(client)
                except self._lost:
                    self._drop(client)
                except TimeoutError:
                    raise OSError(errno.ETIMEDOUT, "the server gives no answer", path) from None
                except (self._ssh.Error, ValueError) as error:
                    raise await self._refusal(client, error, path) from None

    async def _connected(self) -> "SFTPClient":
        async with self._turn:
            if self._client is None:
                self._client = await self._reached()
            return self._client

    async def _reached(self) -> "SFTPClient":
        """A connection: for the first time at once or not at all."""
        if self._dead is not None:
            raise self._dead
        self._connections += 1
        waits_s = _AGAIN_S if 1 < self._connections <= _MOST_RECONNECTS else ()
        for wait_s in (*waits_s, None):
            try:
                return await self._logged_in()
            except (*self._lost, OSError, self._ssh.Error, ValueError) as error:
                if wait_s is None:
                    self._dead = self._unreachable(error)
                    raise self._dead from None
                await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _logged_in(self) -> "SFTPClient":
        login, ssh = self.login, self._ssh
        watching = ssh.SSHClient()
        setattr(watching, "validate_host_public_key", self._remember_key)  # noqa: B010 (a method)

        given: dict[str, Any] = {}
        if login.key_file is not None or login.password is not None:
            given |= {"client_keys": self._key(), "agent_path": None}
        connection = await ssh.connect(
            login.host,
            login.port,
            username=login.user,
            password=login.password,
            known_hosts=self._known_hosts(),
            client_factory=lambda: watching,
            config=None,
            encryption_algs=_CIPHERS,
            compression_algs=["none"],
            connect_timeout=_CONNECT_S,
            login_timeout=_LOGIN_S,
            keepalive_interval=_ALIVE_S,
            keepalive_count_max=_ALIVE_TRIES,
            **given,
        )
        try:
            client: SFTPClient = await connection.start_sftp_client()
        except BaseException:
            connection.abort()
            raise
        self._connection = connection
        return client

    def _remember_key(self, _host: str, _addr: str, _port: int, key: "SSHKey") -> bool:
        """One that nobody vouches for; that is never enough."""
        self._unknown_key = key
        return False

    def _drop(self, client: "SFTPClient") -> None:
        if self._client is client:
            self._client = None
            if self._connection is not None:
                self._connection.abort()

    def _key(self) -> list[Any] | None:
        login, ssh = self.login, self._ssh
        if login.key_file is None:
            return None
        try:
            return [ssh.read_private_key(login.key_file)]
        except OSError as error:
            raise _no_login(
                login, f"{login.key_file}: {error.strerror}", "check key_file"
            ) from None
        except ssh.KeyEncryptionError:
            protected = True
        except ssh.KeyImportError as error:
            protected = "assphrase" in str(error)
        if protected:
            raise _no_login(
                login,
                f"{login.key_file} has a passphrase, and nobody is there to type it",
                "give it a key of its own without one (ssh-keygen -t ed25519 -N ''), or leave"
                " key_file out and load the key into ssh-agent",
            )
        raise _no_login(login, f"{login.key_file} is no private key", "check key_file")

    def _known_hosts(self) -> Any:  # noqa: ANN401 (asyncssh's)
        login = self.login
        own = Path(login.known_hosts or "~/.ssh/known_hosts").expanduser()
        files = [own] if login.known_hosts else [own, _SYSTEM_KNOWN_HOSTS]
        texts = []
        for file in files:
            try:
                texts.append(file.read_text(errors="surrogateescape"))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _no_login(login, f"{file}: {error.strerror}", "check known_hosts") from None
        try:
            return self._ssh.import_known_hosts("\n".join(texts))
        except ValueError as error:
            raise _no_login(login, f"{own}: {error}", "mend the file of known hosts") from None

    def _unreachable(self, error: Exception) -> OSError | UnwritableError:
        """Why there is no connection, in words; never what was sent to get one."""
        login, ssh = self.login, self._ssh
        if isinstance(error, UnwritableError):
            return error
        if isinstance(error, ssh.HostKeyNotVerifiable):
            return self._unknown_host(error)
        if isinstance(error, ssh.PermissionDenied):
            return _no_login(
                login,
                f"the server refuses the login of {login.user}",
                "check the user, and its key or password; ssh-agent's keys count where the profile"
                " names neither key_file nor password",
            )
        if isinstance(error, TimeoutError):
            reason = "no answer in time"
        elif isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:
            reason = getattr(error, "reason", "") or str(error)
        if self._connections > 1:
            return OSError(errno.ENETDOWN, f"the server was lost, and is not back: {reason}")
        return UnwritableError(
            f"sftp://{login.server}: the server cannot be reached",
            why=reason,
            hint="check host and port, and that SFTP is allowed there",
        )

    def _unknown_host(self, error: Exception) -> UnwritableError:
        login, key = self.login, self._unknown_key
        file = login.known_hosts or "~/.ssh/known_hosts"
        port = "" if login.port == PORT else f"-p {login.port} "
        if key is None:
            why = getattr(error, "reason", "") or str(error)
        else:
            why = f"its key {key.get_fingerprint()} ({key.get_algorithm()}) is not in {file}"
        return UnwritableError(
            f"sftp://{login.server}: the server is not known, or not the one that is known",
            why=why,
            hint=(
                "compare the fingerprint with what the server's owner says; if it is the same:"
                f" ssh-keyscan {port}{login.host} >> {file}"
            ),
        )

    async def _refusal(self, client: "SFTPClient", error: Exception, path: str) -> OSError:
        if isinstance(error, self._ssh.SFTPOpUnsupported):
            return _NotOfferedError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        code = await self._code(client, error)
        if code is None:
            reason = getattr(error, "reason", "") or str(error)
            return OSError(errno.EIO, f"the server refuses: {reason[:200]}", path)
        return OSError(code, os.strerror(code), path)

    async def _code(self, client: "SFTPClient", error: Exception) -> int | None:
        ssh = self._ssh
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
        told = str(getattr(error, "reason", "")).lower()
        for words, code in _WORDS.items():
            if words in told:
                return code
        with suppress(ssh.Error, OSError, ValueError):
            there = await client.statvfs(self._root)
            if there.flags & _READ_ONLY:
                return errno.EROFS
            if there.bavail * there.frsize < _FULL_BYTES or (there.files and not there.favail):
                return errno.ENOSPC
        return None

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
            with suppress(OSError, UnwritableError):
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
        with suppress(_NotOfferedError):
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


async def _nothing(_client: "SFTPClient") -> None:
    """A connection suffices."""


async def _soon(answer: Coroutine[Any, Any, _T] | Awaitable[_T]) -> _T:
    """An answer; a server whose disk hangs still keeps its connections alive.

    Raises:
        TimeoutError: it does not come.
    """
    return await asyncio.wait_for(answer, _ANSWER_S)


def _no_login(login: Login, why: str, hint: str) -> UnwritableError:
    return UnwritableError(f"sftp://{login.server}: no login", why=why, hint=hint)


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
