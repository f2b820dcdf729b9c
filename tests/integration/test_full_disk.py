"""A disk that fills up: on a small tmpfs of the test's own, through the command line."""

import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.core.model import OnGone
from mirror.errors import ExitCode, NoSpaceError
from mirror.sandbox import Library, Sandbox
from tests import servers
from tests.integration import test_servers
from tests.integration.command import Ended, mirror, write_profile
from tests.integration.mirroring import (
    NOON,
    content,
    describe,
    files,
    mirrored,
    names_in,
    photos,
    sha1_of,
    wanted,
)
from tests.integration.test_buckets import Family, made
from tests.integration.test_destination import mounted, remount
from tests.stores import served

_COUNT, _BYTES = 40, 100_000


def assert_whole(root: Path) -> int:
    """No file has a final name and not all of its bytes; how many there are."""
    whole = {sha1_of(content(number, _BYTES)) for number in range(_COUNT)}
    lying = files(root)
    assert set(lying.values()) <= whole
    return len(lying)


async def synced(home: Path, *options: str) -> Ended:
    return await mirror(home, "sync", "family", *options)


def assert_finished(home: Path, ended: Ended) -> None:
    root = home / "photos"
    assert ended.code == 0, ended.err
    assert assert_whole(root) == _COUNT
    assert names_in(root / ".mirror/partial") == set()
    assert_true_manifest(root)
    assert len((root / ".mirror/SHA1SUMS").read_text().splitlines()) == _COUNT


def assert_true_manifest(root: Path) -> None:
    command = ["sha1sum", "-c", "--quiet", "--strict", ".mirror/SHA1SUMS"]
    told = subprocess.run(command, cwd=root, check=False, capture_output=True)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("size", ["200k", "1m", "2500k"])
async def test_a_disk_that_fills_in_the_middle_is_told_and_the_next_run_finishes(
    tmp_path: Path, size: str
):
    async with Sandbox(photos(_COUNT, _BYTES)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        with mounted(tmp_path / "photos", "-o", f"size={size}"):
            for _ in range(2):  # nor does the second one do worse
                ended = await synced(tmp_path)
                assert ended.code == 4, ended.err
                assert "no-space" in ended.said
                assert assert_whole(tmp_path / "photos") < _COUNT
            remount(tmp_path / "photos", "size=64m")
            assert_finished(tmp_path, await synced(tmp_path))


async def test_what_would_not_leave_min_free_is_not_begun(tmp_path: Path):
    async with Sandbox(photos(_COUNT, _BYTES)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        with mounted(tmp_path / "photos", "-o", "size=3m"):
            ended = await synced(tmp_path, "--min-free", "2MB")
            assert ended.code == 4, ended.err
            assert "min_free keeps 2000000" in ended.said
            lying = assert_whole(tmp_path / "photos")
            assert 0 < lying * _BYTES <= 1_200_000
            remount(tmp_path / "photos", "size=64m")
            assert_finished(tmp_path, await synced(tmp_path, "--min-free", "2MB"))


async def test_a_disk_that_is_full_before_the_run_changes_nothing(tmp_path: Path):
    library = photos(_COUNT, _BYTES)
    async with Sandbox(library) as sandbox:
        write_profile(
            tmp_path, sandbox.url, sandbox.api_keys["minimum"], text='on_removed = "quarantine"'
        )
        root = tmp_path / "photos"
        with mounted(root, "-o", "size=6m"):
            assert (await synced(tmp_path)).code == 0
            ballast = root / "ballast"
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            library.replace(library.named("IMG_0000.jpg").id, content("other", _BYTES))
            library.trash(library.named("IMG_0001.jpg").id)
            before = files(root)
            ended = await synced(tmp_path)
            assert ended.code == 4, ended.err
            assert files(root) == before
            ballast.unlink()
            ended = await synced(tmp_path)
            assert ended.code == 0, ended.err
            assert len(files(root)) == _COUNT - 1


@pytest.mark.parametrize("free_bytes", [0, 8 << 10, 56 << 10, 152 << 10, 280 << 10])
async def test_on_a_disk_that_is_nearly_full_changes_lose_nothing(tmp_path: Path, free_bytes: int):
    """Wherever it is that the last bytes go: a lock, the index, a photo, a folder, the manifest."""
    async with mirrored(tmp_path, photos(30, 20_000)) as me:
        me.destination |= {"on_removed": OnGone.QUARANTINE}
        with mounted(me.root, "-o", "size=16m"):
            await me.synced()
            old, new = _change(me.library)
            _fill(me.root / ".mirror/ballast", free_bytes)
            for _ in range(2):
                run = await me.run()
                assert isinstance(run.report.error, NoSpaceError), describe(run)
                assert run.report.exit_code is ExitCode.DESTINATION
                assert set(files(me.root).values()) <= old | new
                lying = (path for path in me.root.rglob("*") if path.is_file())
                assert old <= {sha1_of(path.read_bytes()) for path in lying}
                assert not list((me.root / ".mirror").glob("lock*"))
            (me.root / ".mirror/ballast").unlink()
            await me.synced()
            assert set(files(me.root).values()) == new
            assert_true_manifest(me.root)
            assert names_in(me.root / ".mirror/partial") == set()
            await me.assert_settled()


# -- on its way to a bucket or a server ------------------------------------------------------------


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    async with Sandbox(photos(_COUNT, _BYTES)) as sandbox:
        with served(tmp_path) as store:
            yield made(sandbox, store, tmp_path)


@pytest.mark.parametrize("size", ["2m", "3m"])
async def test_more_goes_to_a_bucket_than_has_room_here_at_once(family: Family, size: str):
    with mounted(family.home / ".local/state/mirror", "-o", f"size={size}"):
        await family.synced()
    assert len(family.objects()) == _COUNT


async def test_more_goes_to_a_server_than_has_room_here_at_once(tmp_path: Path):
    async with Sandbox(photos(_COUNT, _BYTES)) as sandbox:
        with servers.served("openssh", tmp_path) as server:
            family = test_servers.made(sandbox, server, tmp_path)
            with mounted(family.state, "-o", "size=2m"):
                assert await family.synced() == {"downloaded": _COUNT}


async def test_a_servers_full_disk_is_not_taken_for_this_machines(tmp_path: Path):
    async with Sandbox(photos(_COUNT, _BYTES)) as sandbox:
        with (
            mounted(tmp_path / "there/served", "-o", "size=2m"),
            servers.served("openssh", tmp_path / "there") as server,
        ):
            family = test_servers.made(sandbox, server, tmp_path)
            said = await family.refused("sync")
            assert "no-space" in said
            assert f'"{server.url()}' in said
            assert "XDG_STATE_HOME" not in said


async def test_what_is_remembered_of_many_files_takes_no_room_from_originals(tmp_path: Path):
    async with Sandbox(photos(600, 10_000)) as sandbox:
        with served(tmp_path) as store:
            family = made(sandbox, store, tmp_path)
            with mounted(family.home / ".local/state/mirror", "-o", "size=3m"):
                await family.synced()
            assert len(family.objects()) == 600


async def test_what_is_full_on_the_way_to_a_bucket_is_said_to_be_this_machines_disk(
    family: Family,
):
    state = family.home / ".local/state/mirror"
    with mounted(state, "-o", "size=3m"):
        await family.run("plan", "family")
        for free_kib in (0, 8, 20, 64, 128, 192, 256, 320):
            _fill(state / "ballast", free_kib << 10)
            ended = await family.run("sync", "family")
            (state / "ballast").unlink()
            assert ended.code == 4, ended.said
            (error,) = (line for line in ended.lines if "error.code" in line)
            assert error["error.code"] == "no-space"
            assert error["error.message"].startswith(f"{state}/"), error
            assert "waits there" in error["error.message"] or "wait there" in error["error.message"]
            assert "XDG_STATE_HOME" in error["error.hint"]
            assert "-" not in re.findall(r"(\S+) are free", ended.said)


def _change(library: Library) -> tuple[set[bytes], set[bytes]]:
    """A bit of everything; what there was, and what is wanted."""
    old = {asset.content.sha1 for asset in wanted(library)}
    own = list(library.own())
    for number, asset in enumerate(own[:8]):
        library.rename(asset.id, f"renamed {number}.jpg")
    for number, asset in enumerate(own[8:14]):
        library.replace(asset.id, content(f"replaced {number}", 20_000))
    library.trash(*(asset.id for asset in own[14:18]))
    for number in range(5):
        library.upload(f"new {number}.jpg", content(f"new {number}", 20_000), taken_at=NOON)
    return old, {asset.content.sha1 for asset in wanted(library)}


def _fill(ballast: Path, free_bytes: int) -> None:
    with ballast.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - free_bytes)
