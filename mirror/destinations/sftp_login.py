"""Who a server is, as whom it is used, and what proves either; what to do when it does not.

Nobody is trusted blindly: a server whose key is not among the known ones gets no login.
"""

import errno
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mirror.destinations.sftp_refusal import reason_of
from mirror.errors import MirrorError, UnwritableError

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHKey

PORT: Final = 22
_CONNECT_S: Final = 10.0
_LOGIN_S: Final = 30.0
_ALIVE_S: Final = 15.0
_ALIVE_TRIES: Final = 4
# Much the fastest where both ends have AES in hardware; the others follow.
_CIPHERS: Final = "^aes128-gcm@openssh.com"
_SYSTEM_KNOWN_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")


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
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old ciphers, which nobody asks for
                import asyncssh  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise UnwritableError(
                f"sftp://{login.server}: SFTP needs a part that is not installed",
                why=str(error),
                hint="install the extra: immich-mirror[sftp], or asyncssh beside it",
            ) from error
        self.ssh: Any = asyncssh  # loaded here alone
        self._unknown_key: SSHKey | None = None

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
        connection: SSHClientConnection = await ssh.connect(
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

    def _remember_key(self, _host: str, _addr: str, _port: int, key: "SSHKey") -> bool:
        """One that nobody vouches for; that is never enough."""
        self._unknown_key = key
        return False

    def _unknown_host(self, error: Exception) -> UnwritableError:
        login, key = self.login, self._unknown_key
        file = login.known_hosts or "~/.ssh/known_hosts"
        port = "" if login.port == PORT else f"-p {login.port} "
        if key is None:
            why = reason_of(error)
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
            return self.ssh.import_known_hosts("\n".join(texts))
        except ValueError as error:
            raise _no_login(login, f"{own}: {error}", "mend the file of known hosts") from None


def _no_login(login: Login, why: str, hint: str) -> UnwritableError:
    return UnwritableError(f"sftp://{login.server}: no login", why=why, hint=hint)
