"""Where a server's folder is, and the folder of this machine beside it."""

import errno
import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mirror.core.model import Destination, EntryKind
from mirror.core.secret import Secret
from mirror.destinations import INDEX, MARKER, STATE, of_shard, unwritable
from mirror.destinations.sftp import SftpFolder
from mirror.destinations.sftp_login import PORT, Door, Login
from mirror.destinations.sftp_session import Session
from mirror.errors import MirrorError, NotMountedError, NotOursError, UnwritableError
from mirror.secrets import read_password
from mirror.settings import state_directory

_SCHEME: Final = "sftp://"


class SftpSite:
    """A folder of a server."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.name = destination.path
        self._user, self._server, self._folder = _split(destination.path)
        self.root = _beside(destination)
        self.index_path = self.root / STATE / INDEX
        self._session: Session | None = None

    def check(self, *, require_mount: bool | str) -> None:
        """Refuse a folder inside another destination, and Immich's own.

        Raises:
            NotMountedError: the profile requires a mount, which nobody can see from here.
            NotOursError: it is Immich's own, or inside another destination.
            UnwritableError: the server does not answer, or refuses the login.
        """
        if require_mount:
            raise NotMountedError(
                f"{self.name}: the profile requires a mount, and nobody can see one from here",
                hint="set require_mount = false for this destination",
            )
        parts = self._parts()
        self._refuse([*parts, ".immich"], "this folder belongs to Immich itself")
        for count in range(len(parts)):
            self._refuse([*parts[:count], STATE, MARKER], "lies inside another destination")

    def _refuse(self, parts: list[str], what: str) -> None:
        try:
            found = _lies(self._connected(), parts)
        except PermissionError:
            return  # a login often sees its own folder alone
        except OSError as error:
            raise unwritable(self.name, error) from error
        if found:
            raise NotOursError(
                f"{self.name}: {what}",
                why=f"/{'/'.join(parts)} exists there",
                hint="choose a folder beside it",
            )

    def open(self) -> SftpFolder | None:
        """The folder; None when it is not there."""
        try:
            found = _is_folder(self._connected(), self._parts())
        except OSError as error:
            raise unwritable(self.name, error) from error
        return self._entered() if found else None

    def make(self) -> SftpFolder:
        """The folder, made if need be."""
        session, parts = self._connected(), self._parts()
        try:
            for count in range(1, len(parts) + 1):
                _make(session, parts[:count])
        except OSError as error:
            raise unwritable(self.name, error) from error
        return self._entered()

    def check_key(self) -> None:
        """Refuse what cannot prove who we are, without asking the server.

        Raises:
            UnwritableError: asyncssh is not installed, or the key file is no key.
        """
        Door(self._login_with(password=None)).check_key()

    def _parts(self) -> list[str]:
        return [part for part in self._folder.split("/") if part]

    def _entered(self) -> SftpFolder:
        session, self._session = self._connected(), None  # whoever has the folder ends it
        session.enter(f"/{'/'.join(self._parts())}")
        return SftpFolder(session, self.name, self.root, shard=self._destination.shard)

    def _connected(self) -> Session:
        if self._session is None:
            session = Session(self._login())
            try:
                session.connect()
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def _login(self) -> Login:
        return self._login_with(self._password(self._destination.password))

    def _login_with(self, password: str | None) -> Login:
        wanted = self._destination
        return Login(
            host=self._server.hostname or "",
            port=self._server.port or PORT,
            user=self._user,
            key_file=wanted.key_file,
            password=password,
            known_hosts=wanted.known_hosts,
        )

    def _password(self, secret: Secret | None) -> str | None:
        if secret is None:
            return None
        try:
            return read_password(secret)
        except MirrorError as error:
            what = error.what.replace("API key", "password")
            raise UnwritableError(f"{self.name}: {what}", why=error.why, hint=error.hint) from error


def _make(session: Session, parts: list[str]) -> None:
    if _is_folder(session, parts):
        return
    try:
        session.make_folder("/".join(parts))
    except OSError:
        if not _is_folder(session, parts):  # else another shard was faster
            raise


def _is_folder(session: Session, parts: list[str]) -> bool:
    """False: nothing lies there."""
    try:
        seen = session.look("/".join(parts), follows=True)
    except FileNotFoundError:
        return False
    if seen.kind is EntryKind.FILE:
        raise NotADirectoryError(errno.ENOTDIR, f"/{'/'.join(parts)} is a file, and no folder")
    return True


def _lies(session: Session, parts: list[str]) -> bool:
    try:
        session.look("/".join(parts), follows=True)
    except FileNotFoundError:
        return False
    return True


def _split(url: str) -> tuple[str, SplitResult, str]:
    """User, host and port, and the folder; but for the second every character means itself."""
    server, _, folder = url.removeprefix(_SCHEME).partition("/")
    user, _, host = server.rpartition("@")
    return user, urlsplit(f"{_SCHEME}{host}"), folder


def _beside(destination: Destination) -> Path:
    """One folder for each server, user and folder."""
    digest = hashlib.sha1(destination.path.encode(), usedforsecurity=False).hexdigest()[:12]
    host = (_split(destination.path)[1].hostname or "").replace(":", "_")
    return state_directory() / "sftp" / f"{host}-{digest}{of_shard(destination.shard)}"
