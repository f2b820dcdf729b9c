"""What profiles/README.md says to do where `mirror` itself writes nothing: tried with rclone."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.sandbox import Sandbox, sample_library
from tests.integration.command import mirror, write_profile
from tests.integration.test_buckets import made, tree
from tests.stores import BUCKET, rclone, serving, started

USER, PASSWORD = "family", "planted-password"


@pytest.fixture(params=["rclone", "openssh"])
def sftp(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A server that speaks SFTP: its folder, and rclone's name for it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with _rclones(folder) if request.param == "rclone" else _openssh(folder) as remote:
        yield folder, remote


@contextmanager
def _rclones(folder: Path) -> Iterator[str]:
    command = [
        *(rclone(), "serve", "sftp", "--config", os.devnull, "--addr", "127.0.0.1:0", "-v"),
        *("--user", USER, "--pass", PASSWORD, "--vfs-write-back", "0s", str(folder)),
    ]
    obscured = subprocess.run(
        [rclone(), "obscure", PASSWORD], capture_output=True, text=True, check=True
    ).stdout.strip()
    with started(command, folder.with_suffix(".log"), "127.0.0.1:") as (port, _):
        yield f":sftp,host=127.0.0.1,port={port},user={USER},pass={obscured}:"


@contextmanager
def _openssh(folder: Path) -> Iterator[str]:
    """sshd of its own, with keys of its own and a /run that only it sees."""
    if os.geteuid() or not Path("/usr/sbin/sshd").exists():
        pytest.skip("needs root and the Debian package openssh-server")
    for name in ("host", "user"):
        path = folder.with_name(f"{name}.key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    port = free_port()
    told = folder.with_suffix(".conf")
    told.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder.with_name('host.key')}\n"
        f"AuthorizedKeysFile {folder.with_name('user.key.pub')}\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\nPidFile none\n"
    )
    alone = f"mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f {told}"
    command = ["unshare", "-m", "sh", "-c", alone]
    with started(command, folder.with_suffix(".log"), "127.0.0.1 port ") as (answered, _):
        assert answered == port
        key = folder.with_name("user.key")
        yield f":sftp,host=127.0.0.1,port={port},user=root,key_file={key}:{folder}/"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [rclone(), "--config", os.devnull, *command], capture_output=True, text=True, check=False
    )


async def test_a_finished_folder_is_taken_elsewhere_and_proved_there(
    sftp: tuple[Path, str], tmp_path: Path
):
    elsewhere, remote = sftp
    async with Sandbox(sample_library(30)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        assert (await mirror(tmp_path, "sync", "family")).code == 0
    photos = tmp_path / "photos"

    filters = ("--filter", "+ /.mirror/SHA1SUMS", "--filter", "- /.mirror/**")
    done = run("sync", *filters, "--max-delete", "100", str(photos), f"{remote}photos")
    assert done.returncode == 0, done.stderr
    assert tree(elsewhere / "photos") == tree(photos)
    assert len(tree(photos)) > 20

    sums = str(photos / ".mirror/SHA1SUMS")
    proof = ("checksum", "sha1", sums, f"{remote}photos", "--download", "--filter", "- /.mirror/**")
    proved = run(*proof)
    assert proved.returncode == 0, proved.stderr
    path = next(iter(tree(photos)))
    (elsewhere / "photos" / path).write_bytes(b"rotten")
    assert run(*proof).returncode != 0


async def test_any_remote_of_rclones_is_a_bucket(sftp: tuple[Path, str], tmp_path: Path):
    elsewhere, remote = sftp
    (elsewhere / BUCKET).mkdir()
    async with Sandbox(sample_library(30)) as sandbox:
        with serving(remote, elsewhere) as store:
            family = made(sandbox, store, tmp_path)
            await family.synced()
            first = tree(elsewhere / BUCKET / "photos")
            assert len(first) > 20
        # What rclone only remembered of it is forgotten.
        with serving(remote, elsewhere, port=store.port) as store:
            sandbox.requests.clear()
            await family.synced()
            assert family.originals() == 0
            assert tree(elsewhere / BUCKET / "photos") == first


def test_the_recipes_are_those_of_the_reference():
    reference = (Path(__file__).parents[2] / "profiles/README.md").read_text()
    for part in (
        "--filter '+ /.mirror/SHA1SUMS' --filter '- /.mirror/**'",
        "rclone checksum sha1",
        "rclone serve s3",
    ):
        assert part in reference
