"""Real servers that speak SFTP, started for a test on loopback."""

import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest

from mirror.destinations.sftp_login import Login
from mirror.destinations.sftp_session import Session
from tests.stores import rclone, started

USER = "family"
PASSWORD = "planted pass-word"
KINDS = ("openssh", "rclone")
_SSHD = Path("/usr/sbin/sshd")


@dataclass(frozen=True, slots=True)
class Server:
    """One server, whose files lie in a folder of this machine."""

    kind: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    user: str
    root: str  # what it calls the folder
    known_hosts: Path
    host_key: Path
    key_file: Path | None

    def url(self, path: str = "photos") -> str:
        return f"sftp://{self.user}@127.0.0.1:{self.port}{self.root.rstrip('/')}/{path}"

    def login(self) -> Login:
        return Login(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            key_file=str(self.key_file) if self.key_file else None,
            password=None if self.key_file else PASSWORD,
            known_hosts=str(self.known_hosts),
        )

    def session(self, path: str) -> Session:
        """Logged in, in a folder that is there."""
        session = Session(self.login())
        session.enter(f"{self.root.rstrip('/')}/{path}")
        return session

    def destination(self, path: str = "photos", **changed: str) -> str:
        """Its table of a profile, in which the password's file is beside the folder."""
        told = {"url": self.url(path), "known_hosts": str(self.known_hosts)} | changed
        if self.key_file is not None and "key_file" not in changed:
            told["key_file"] = str(self.key_file)
        lines = [f'{key} = "{value}"' for key, value in told.items() if value]
        if self.key_file is None:
            lines.append('password = { env = "PLANTED_PASSWORD" }')
        return "\n".join(["[[mirrors.all.destinations]]", *lines, "min_free = 0", ""])

    def remote(self) -> str:
        """rclone's name for what the server calls the folder."""
        host = f":sftp,host=127.0.0.1,port={self.port},user={self.user}"
        if self.key_file is not None:
            return f"{host},key_file={self.key_file}:{self.root}/"
        obscure = [rclone(), "obscure", PASSWORD]
        obscured = subprocess.run(obscure, capture_output=True, text=True, check=True)
        return f"{host},pass={obscured.stdout.strip()}:"

    def through(self, wire: "Wire") -> Login:
        """The same login, over a wire."""
        with self.known_hosts.open("a") as file:
            key = self.host_key.with_name(f"{self.host_key.name}.pub").read_text()
            file.write(f"[127.0.0.1]:{wire.port} {key}")
        return replace(self.login(), port=wire.port)

    def kill(self) -> None:
        """It and every connection of it is gone at once."""
        connections = _below(self.process.pid)
        self.process.kill()
        self.process.wait()
        _kill(connections)

    def cut(self) -> None:
        """Every connection of it goes, where each is a process of its own."""
        _kill(_below(self.process.pid))

    def freeze(self) -> None:
        """Nobody answers any more, where each connection is a process of its own."""
        for process in _below(self.process.pid):
            os.kill(process, SIGSTOP)


class Wire:
    """What lies between a server and whoever uses it; nobody learns of what it swallows."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._dead: set[socket.socket] = set()
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self.answers = threading.Semaphore(0)  # one for each time that something came back
        self._spawn(self._accept)

    def close(self) -> None:
        for end in (self._listening, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def silence(self) -> None:
        """Nothing that is sent over the present connections arrives any more."""
        self._dead.update(self._ends)

    def _spawn(self, work: Callable[..., None], *given: object) -> None:
        threading.Thread(target=work, args=given, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._ends += [near, far]
                self.connections += 1
                self._spawn(self._carry, near, far)
                self._spawn(self._carry, far, near)

    def _carry(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                if source not in self._dead:
                    to.sendall(piece)
                    if to.getpeername()[1] != self._to_port:
                        self.answers.release()
            if source not in self._dead:
                to.shutdown(socket.SHUT_WR)


def _below(pid: int) -> list[int]:
    """The processes that it started, and theirs."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in tasks.read_text().split()]
    return [*found, *(each for child in found for each in _below(child))]


def _kill(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, SIGKILL)


@contextmanager
def served(kind: str, root: Path, *, port: int = 0) -> Iterator[Server]:
    """A server over a folder below `root`, which is made if need be."""
    folder = root / "served"
    folder.mkdir(parents=True, exist_ok=True)
    with _openssh(folder, port) if kind == "openssh" else _rclones(folder, port) as server:
        yield server


@contextmanager
def again(dead: Server) -> Iterator[Server]:
    """The same server on the same port, with the same keys."""
    dead.process.wait()
    with served(dead.kind, dead.folder.parent, port=dead.port) as server:
        yield server


@contextmanager
def _rclones(folder: Path, port: int) -> Iterator[Server]:
    host_key, port = key_pair(folder.with_name("host")), port or free_port()
    command = [
        *(rclone(), "serve", "sftp", "--config", os.devnull, "--addr", f"127.0.0.1:{port}", "-v"),
        *("--user", USER, "--pass", PASSWORD, "--key", str(host_key)),
        *("--vfs-write-back", "0s", str(folder)),
    ]
    with started(command, folder.with_suffix(".log"), "127.0.0.1:") as (chosen, process):
        known = _known(folder, host_key, chosen)
        yield Server("rclone", chosen, folder, process, USER, "/", known, host_key, None)


@contextmanager
def _openssh(folder: Path, port: int) -> Iterator[Server]:
    """sshd with keys of its own, and a /run and accounts that only it sees."""
    if os.geteuid() or not _SSHD.exists():
        pytest.skip("needs root and the Debian package openssh-server")
    host_key, user_key = key_pair(folder.with_name("host")), key_pair(folder.with_name("user"))
    port = port or free_port()
    told = folder.with_suffix(".conf")
    told.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {user_key}.pub\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\nPidFile none\nMaxStartups 100\n"
    )
    passwd = folder.with_suffix(".passwd")
    shutil.copy("/etc/passwd", passwd)
    if not re.search(r"^sshd:", passwd.read_text(), re.MULTILINE):
        with passwd.open("a") as file:
            file.write("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    alone = (
        f"mount --bind {shlex.quote(str(passwd))} /etc/passwd && mount -t tmpfs none /run &&"
        f" mkdir /run/sshd && exec {_SSHD} -D -e -f {shlex.quote(str(told))}"
    )
    command = ["unshare", "-m", "sh", "-c", alone]
    with started(command, folder.with_suffix(".log"), "127.0.0.1 port ") as (chosen, process):
        known = _known(folder, host_key, chosen)
        yield Server(
            "openssh", chosen, folder, process, "root", str(folder), known, host_key, user_key
        )


def key_pair(path: Path) -> Path:
    """A private key, and its public one beside it; made once."""
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
    return path


def _known(folder: Path, host_key: Path, port: int) -> Path:
    path = folder.with_name("known_hosts")
    key = host_key.with_name(f"{host_key.name}.pub").read_text()
    path.write_text(f"[127.0.0.1]:{port} {key}")
    return path


def free_port() -> int:
    """One that nobody is given for a connection of his own, so that it is free once more later."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as chosen, suppress(OSError):
            chosen.bind(("127.0.0.1", port))
            return port
