"""Who a server is, as whom it is used, and what proves either; what to do when it does not.

Nobody is trusted blindly: a server whose key is not among the known ones gets no login.
"""

import asyncio
import errno
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mirror.destinations.needs import check_installed
from mirror.destinations.sftp_refusal import reason_of
from mirror.errors import MirrorError, UnwritableError

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHKey

PORT: Final = 22
_CONNECT_S: Final = 10.0
_LOGIN_S: Final = 30.0
# A peer that is gone without a word is found a minute after it was last heard, which is one more
# interval than questions. A server answers them also while its disk makes a request wait.
_ALIVE_S: Final = 15.0
_ALIVE_TRIES: Final = 3
# Much the fastest where both ends have AES in hardware; the others follow.
_CIPHERS: Final = "^aes128-gcm@openssh.com"
_OWN_KNOWN_HOSTS: Final = "~/.ssh/known_hosts"
_SYSTEM_KNOWN_HOSTS: Final = "/etc/ssh/ssh_known_hosts"


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


class Door:
    """The way in to one server."""

    def __init__(self, login: Login) -> None:
        """Connects to nothing yet.

        Raises:
            UnwritableError: asyncssh is not installed.
        """
        self.login = login
        check_installed(f"sftp://{login.server}")
        import asyncssh  # noqa: PLC0415 (an extra)

        self.ssh: Any = asyncssh  # loaded here alone
        self._unknown_key: SSHKey | None = None
        self._address = ""  # from which it came

    async def connection(self) -> "SSHClientConnection":
        """Logged in.

        Raises:
            UnwritableError: what is to prove something cannot be read.
            OSError, ValueError, asyncssh.Error: there is no connection; see `explained`.
        """
        login, ssh = self.login, self.ssh
        watching = ssh.SSHClient()
        setattr(watching, "validate_host_public_key", self._remember_key)  # noqa: B010 (a method)
        given: dict[str, Any] = {}
        if login.key_file is not None or login.password is not None:
            given |= {"client_keys": self._keys(), "agent_path": None}
        try:
            return await self._connection(watching, given)
        except (ssh.ConnectionLost, ssh.KeyExchangeFailed, ConnectionResetError):
            await self._look_for_another_key()
            raise

    async def _connection(self, watching: object, given: dict[str, Any]) -> "SSHClientConnection":
        login = self.login
        connection: SSHClientConnection = await self.ssh.connect(
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
        return connection

    async def _look_for_another_key(self) -> None:
        """Whether it was hung up because it has no key of the kind that is known.

        Raises:
            asyncssh.HostKeyNotVerifiable: it was.
        """
        login, ssh = self.login, self.ssh
        key: SSHKey | None = None
        with suppress(ssh.Error, OSError, ValueError):
            looking = ssh.get_server_host_key(login.host, login.port, config=None)
            key = await asyncio.wait_for(looking, _CONNECT_S)
        kinds = {known.get_algorithm() for known in self._trusted()}
        if key is not None and kinds and key.get_algorithm() not in kinds:
            self._unknown_key = key
            raise ssh.HostKeyNotVerifiable("no key of a kind that is known")

    def explained(self, error: Exception) -> MirrorError:
        """Why there is no connection, in words; never what was sent to get one."""
        login, ssh = self.login, self.ssh
        if isinstance(error, MirrorError):
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
        why = "no answer in time" if isinstance(error, TimeoutError) else reason_of(error)
        return UnwritableError(
            f"sftp://{login.server}: the server cannot be reached",
            why=why,
            hint="check host and port, and that SFTP is allowed there",
        )

    def lost(self, error: Exception) -> OSError:
        """The same in the middle of a run, when the server was there before."""
        told = self.explained(error)
        return OSError(errno.ENETDOWN, f"the server was lost, and is not back: {told.why}")

    def _remember_key(self, _host: str, address: str, _port: int, key: "SSHKey") -> bool:
        """One that nobody vouches for; that is never enough."""
        self._unknown_key, self._address = key, address
        return False

    def _unknown_host(self, error: Exception) -> UnwritableError:
        login, key = self.login, self._unknown_key
        if key is None:
            return _revoked(login, reason_of(error))
        shown = _shown(key)
        for file, text in self._known_texts():
            known, revoked = self._named_in(text)
            if key in revoked:
                return _revoked(login, f"its key {shown} is revoked in {file}")
            if known:
                return _changed(login, file, shown, ", ".join(map(_shown, known)))
        file = login.known_hosts or _OWN_KNOWN_HOSTS
        return UnwritableError(
            f"sftp://{login.server}: the server is not known",
            why=f"its key {shown} is not in {file}",
            hint=(
                "compare the fingerprint with what the server's owner says; if it is the same:"
                f" {_learn(login, file)}"
            ),
        )

    def _named_in(self, text: str) -> "tuple[list[SSHKey], list[SSHKey]]":
        """The server's own keys in a text of known hosts, and those that are revoked.

        Not those of another port, which asyncssh takes where its own has none.
        """
        port = self.login.port
        known = self.ssh.import_known_hosts(text)
        trusted: list[SSHKey] = []
        revoked: list[SSHKey] = []
        for name in filter(None, (self.login.host, self._address)):
            entry = name if port == PORT else f"[{name}]:{port}"
            found = known.match(entry, "", None)
            trusted += [key for key in found[0] if key not in trusted]
            revoked += found[2]
        return trusted, revoked

    def _trusted(self) -> "list[SSHKey]":
        """What would do for the connection: keys of its own port, or else of its machine."""
        known = self._known_hosts()
        port = None if self.login.port == PORT else self.login.port
        keys: list[SSHKey] = known.match(self.login.host, "", port)[0]
        return keys

    def check_key(self) -> None:
        """Refuse a key file that nobody can log in with; one of another user is not looked into.

        Raises:
            UnwritableError: it is not there, no private key, or wants a passphrase.
        """
        try:
            Path(self.login.key_file or os.devnull).open("rb").close()
        except PermissionError:
            return
        except OSError:
            pass  # which is said as it is at a login
        self._keys()

    def _keys(self) -> list[Any] | None:
        login, ssh = self.login, self.ssh
        if login.key_file is None:
            return None
        hint = "check key_file"
        try:
            return [ssh.read_private_key(login.key_file)]
        except OSError as error:
            why = f"{login.key_file}: {error.strerror}"
        except (ssh.KeyImportError, ssh.KeyEncryptionError) as error:
            why = f"{login.key_file} is no private key"
            if "passphrase" in str(error).lower():
                why = f"{login.key_file} has a passphrase, and nobody is there to type it"
                hint = (
                    "give it a key of its own without one (ssh-keygen -t ed25519 -N ''), or leave"
                    " key_file out and load the key into ssh-agent"
                )
        raise _no_login(login, why, hint)

    def _known_hosts(self) -> Any:  # noqa: ANN401 (asyncssh's)
        texts = self._known_texts()
        try:
            return self.ssh.import_known_hosts("\n".join(text for _, text in texts))
        except ValueError as error:
            own = self.login.known_hosts or _OWN_KNOWN_HOSTS
            hint = "mend the file of known hosts"
            raise _no_login(self.login, f"{own}: {error}", hint) from None

    def _known_texts(self) -> list[tuple[str, str]]:
        """The files of known hosts that are there, as messages call them, and what they say."""
        login = self.login
        files = (
            [login.known_hosts] if login.known_hosts else [_OWN_KNOWN_HOSTS, _SYSTEM_KNOWN_HOSTS]
        )
        texts = []
        for file in files:
            try:
                text = Path(file).expanduser().read_text(errors="surrogateescape")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _no_login(login, f"{file}: {error.strerror}", "check known_hosts") from None
            texts.append((file, text))
        return texts


def _shown(key: "SSHKey") -> str:
    return f"{key.get_fingerprint()} ({key.get_algorithm()})"


def _revoked(login: Login, why: str) -> UnwritableError:
    return UnwritableError(
        f"sftp://{login.server}: the server's key is not to be trusted",
        why=why,
        hint="somebody may be in between: ask the server's admin for its new key",
    )


def _changed(login: Login, file: str, shown: str, known: str) -> UnwritableError:
    host = login.host if login.port == PORT else f"[{login.host}]:{login.port}"
    forget = f"ssh-keygen -R {shlex.quote(host)} -f {_in_shell(file)}"
    return UnwritableError(
        f"sftp://{login.server}: the server's key is not the one that is known",
        why=f"its key {shown} is not the one in {file}: {known}",
        hint=(
            "somebody may be in between: ask the server's admin whether it has a new key, and"
            " compare the fingerprint; only if it is the same:"
            f" {forget} && {_learn(login, file)}"
        ),
    )


def _learn(login: Login, file: str) -> str:
    port = "" if login.port == PORT else f"-p {login.port} "
    return f"ssh-keyscan {port}{login.host} >> {_in_shell(file)}"


def _in_shell(file: str) -> str:
    return file if file == _OWN_KNOWN_HOSTS else shlex.quote(file)


def _no_login(login: Login, why: str, hint: str) -> UnwritableError:
    return UnwritableError(f"sftp://{login.server}: no login", why=why, hint=hint)
