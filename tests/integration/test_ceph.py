"""Mirrors into a real Ceph cluster: whole runs of the command, judged by rclone."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from hashlib import md5
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory

import obstore
import pytest

from mirror.destinations.store import PART_BYTES
from mirror.sandbox import Sandbox
from tests.ceph import OSDS, Ceph, packages, until
from tests.integration.mirroring import NOON, content, photos
from tests.integration.test_buckets import Family, made, tree
from tests.stores import BUCKET, Served

pytestmark = pytest.mark.ceph

_PHOTOS = 150
_LARGE = 2 * PART_BYTES + 12_345


@pytest.fixture
def cluster() -> Iterator[tuple[Ceph, Served]]:
    """One that a test may break."""
    with TemporaryDirectory(prefix="ceph-") as folder:
        ceph = Ceph(packages(), Path(folder))
        with ceph.running() as store:
            yield ceph, store


@pytest.fixture
async def family(cluster: tuple[Ceph, Served], tmp_path: Path) -> AsyncIterator[Family]:
    """Many photos and a video in parts, mirrored into a folder too."""
    library = photos(_PHOTOS, size_bytes=200_000)
    library.upload("film.mp4", content("film", _LARGE), taken_at=NOON)
    async with Sandbox(library) as sandbox:
        family = made(sandbox, cluster[1], tmp_path)
        plain = f'[[mirrors.all.destinations]]\npath = "{tmp_path}/photos"\nmin_free = 0\n'
        family.write(plain, family.destination())
        yield family


async def test_a_cluster_that_loses_a_disk_in_the_middle_takes_the_rest(
    family: Family, cluster: tuple[Ceph, Served], tmp_path: Path
):
    ceph, store = cluster
    syncing = asyncio.create_task(family.synced())
    while len(names(store)) < _PHOTOS // 10:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    ceph.lose_osd()
    before = len(names(store))
    await syncing
    until(lambda: f"{OSDS - 1} up" in ceph.told("osd", "stat"))

    assert before < _PHOTOS, "it was not in the middle"
    expected = tree(tmp_path / "photos")
    assert len(expected) == family.originals() == _PHOTOS + 1
    judge(store, tmp_path / "photos")

    family.sandbox.requests.clear()
    again = await family.synced()
    (counts,) = (line["counts"] for line in again.events("run.end"))
    assert set(counts) == {"unchanged"}
    assert family.originals() == 0
    verified = await family.run("verify", "family")
    assert verified.code == 0, verified.said


async def test_a_cluster_is_known_for_what_it_does(family: Family, cluster: tuple[Ceph, Served]):
    await family.synced()
    store = cluster[1].store("photos")
    abilities = json.loads(bytes(obstore.get(store, ".mirror/mirror.json").bytes()))["abilities"]
    assert abilities["no_overwrite_rename"], "a put with If-None-Match is refused"
    assert abilities["checksums"], "an ETag is the MD5"


async def test_killed_runs_are_finished_by_the_next(family: Family, cluster: tuple[Ceph, Served]):
    store = cluster[1]
    for count in (1, _PHOTOS // 3, 2 * _PHOTOS // 3):
        process = await family.started()
        while len(names(store)) < count:
            assert process.returncode is None, "it was not in the middle"
            await asyncio.sleep(0.1)
        process.kill()
        assert await process.wait() == -SIGKILL
    await family.synced()
    assert family.objects() == tree(family.home.parent / "photos")
    judge(store, family.home.parent / "photos")


async def test_refused_keys_are_said_in_words(family: Family):
    ended = await family.run("sync", "family", PLANTED_SECRET_KEY="wrong-secret-key")
    assert ended.code == 4, ended.said
    assert "the store refuses the keys" in ended.said
    assert "wrong-secret-key" not in ended.said


async def test_a_full_store_is_told_and_the_next_run_finishes(
    family: Family, cluster: tuple[Ceph, Served]
):
    ceph, store = cluster
    ceph.allow(_PHOTOS // 3)
    ended = await family.run("sync", "family")
    assert ended.code == 4, ended.said
    assert "the disk is full" in ended.said
    assert "Traceback" not in ended.said
    assert len(names(store)) < _PHOTOS
    ceph.allow(-1)
    await family.synced()
    judge(store, family.home.parent / "photos")


def names(store: Served) -> set[str]:
    """The originals that lie in the bucket."""
    found = (meta["path"] for batch in obstore.list(store.store("photos")) for meta in batch)
    return {path for path in found if not path.startswith(".mirror/")}


def judge(store: Served, folder: Path) -> None:
    """rclone finds the bucket equal to the folder, by bytes too, and has its hashes."""
    where, ours = f"store:{BUCKET}/photos", ("--exclude", "/.mirror/**")
    for how in ((), ("--download",)):
        checked = store.rclone("check", *how, *ours, str(folder), where)
        assert checked.returncode == 0, checked.stderr
    listed = store.rclone("hashsum", "md5", *ours, where).stdout.splitlines()
    hashes = {path: told for told, path in (line.split("  ", 1) for line in listed)}
    expected = {path: md5(data).hexdigest() for path, data in tree(folder).items()}
    assert hashes == expected
