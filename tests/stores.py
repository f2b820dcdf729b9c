"""Real stores, started for a test on loopback."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import S3Store

from mirror.destinations.store import Account

BUCKET = "bucket"
ACCESS_KEY = "accesskey1"
SECRET_KEY = "planted-secret-key-0"
_PATIENCE_S = 30.0


def rclone() -> str:
    """The program; a test that has none is skipped by name."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        pytest.skip("rclone is not installed")
    return found


@dataclass(frozen=True, slots=True)
class Served:
    """One S3 server with one bucket; rclone's objects are files in a folder."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    provider: str = "Rclone"  # as rclone calls it

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self, prefix: str, **changed: str) -> Account:
        given = {
            "bucket": BUCKET,
            "prefix": prefix,
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        return Account(**given | changed)

    def destination(self, **changed: str) -> str:
        """Its table of a profile; the keys that it does not name come from the environment."""
        told = {"url": f"s3://{BUCKET}/photos", "endpoint": self.endpoint, "region": "us-east-1"}
        lines = [f'{key} = "{value}"' for key, value in (told | changed).items()]
        keys = [name for name in ("access_key", "secret_key") if name not in changed]
        lines += [f'{name} = {{ env = "PLANTED_{name.upper()}" }}' for name in keys]
        return "\n".join(["[[mirrors.all.destinations]]", *lines, "min_free = 0", ""])

    def store(self, prefix: str = "") -> S3Store:
        """What another program would have."""
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )

    def rclone(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """rclone itself, for which `store:bucket` is the bucket."""
        told = {
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": self.provider,
            "RCLONE_CONFIG_STORE_ENDPOINT": self.endpoint,
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": ACCESS_KEY,
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        command = [rclone(), *arguments]
        return subprocess.run(
            command, env={**os.environ, **told}, capture_output=True, text=True, check=False
        )


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(root: Path) -> Iterator[Served]:
    """`rclone serve s3` over a folder below `root`."""
    folder = root / "served"
    (folder / BUCKET).mkdir(parents=True)
    with serving(str(folder), folder) as store:
        yield store


@contextmanager
def again(dead: Served) -> Iterator[Served]:
    """The same store on the same port."""
    dead.process.wait()
    with serving(str(dead.folder), dead.folder, port=dead.port) as store:
        yield store


@contextmanager
def serving(remote: str, folder: Path, *, port: int = 0) -> Iterator[Served]:
    """`rclone serve s3` over any remote, whose files are in the folder."""
    log = folder.with_suffix(".log")
    command = [
        *(rclone(), "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-write-back", "0s", remote),
    ]
    with started(command, log, "http://127.0.0.1:") as (chosen, process):
        yield Served(chosen, folder, process)


@contextmanager
def started(
    command: Sequence[str], log: Path, before: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server, and the port that its log tells behind these words."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield _listening(process, log, before), process
    finally:
        process.terminate()
        process.wait()


def _listening(process: subprocess.Popen[bytes], log: Path, before: str) -> int:
    """The port that a server chose, as its log tells it behind these words, once it answers."""
    until_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s and process.poll() is None:
        told = re.search(rf"{re.escape(before)}(\d+)\b", log.read_text())
        if told and _answers(int(told[1])):
            return int(told[1])
        time.sleep(0.02)
    raise AssertionError(f"it does not serve: {log.read_text()}")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
