"""What profiles/README.md says to do where `mirror` itself writes nothing: tried with rclone."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.sandbox import Sandbox, sample_library
from tests.integration.command import mirror, write_profile
from tests.integration.test_buckets import made, tree
from tests.servers import KINDS, served
from tests.stores import BUCKET, rclone, serving


@pytest.fixture(params=KINDS)
def sftp(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A server that speaks SFTP: its folder, and rclone's name for it."""
    with served(request.param, tmp_path) as server:
        yield server.folder, server.remote()


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

    (photos / "mine.txt").write_text("no photo of the mirror")

    filters = ("--filter", "+ /.mirror/SHA1SUMS", "--filter", "- /.mirror/**")
    done = run("sync", *filters, "--max-delete", "100", str(photos), f"{remote}photos")
    assert done.returncode == 0, done.stderr
    assert tree(elsewhere / "photos") == tree(photos)
    assert len(tree(photos)) > 20

    sums = str(photos / ".mirror/SHA1SUMS")
    proof = ("checksum", "sha1", sums, f"{remote}photos", "--download", "--one-way")
    proved = run(*proof)
    assert proved.returncode == 0, proved.stderr
    copied = elsewhere / "photos" / next(path for path in tree(photos) if path != "mine.txt")
    copied.write_bytes(b"rotten")
    assert run(*proof).returncode != 0
    copied.unlink()
    assert run(*proof).returncode != 0


@pytest.mark.parametrize("sftp", ["rclone"], indirect=True)
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
        "rclone checksum sha1 /srv/photos/.mirror/SHA1SUMS remote:photos --one-way",
        "rclone serve s3",
    ):
        assert part in reference
