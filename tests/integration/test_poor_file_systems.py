"""Whole runs at destinations that know little, hold little, or die: in memory, at any step."""

import errno
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mirror.core.layout import fold
from mirror.core.model import NameRules, OnGone
from mirror.destinations.memory import MemoryDestination, MemorySite
from mirror.destinations.volume import Fault, Killed, Traits, Volume, refusal
from mirror.errors import ExitCode
from mirror.sandbox import Library
from mirror.transfer import SMALL_BYTES
from tests.contract.destinations.places import POOR, REAL, mount_again, mounted
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    describe,
    mirrored,
    photos,
    sha1_of,
    wanted,
)

PLAIN = {"nothing": Traits()}
EVERY = [pytest.param(traits, id=name) for name, traits in (PLAIN | POOR).items()]
WORST = POOR["all of it"]


@asynccontextmanager
async def at(
    traits: Traits, folder: Path, library: Library | None = None
) -> AsyncIterator[tuple[Mirrored, Volume]]:
    """A mirror whose destination is a file system of these traits."""
    volume = Volume(traits)
    async with mirrored(folder, library) as me:
        me.site = MemorySite(volume, folder / "index.sqlite3")
        yield me, volume


def files(volume: Volume) -> dict[str, bytes]:
    """The files outside our own folder."""
    return {path: data for path, data in volume.files().items() if not path.startswith(".mirror/")}


def assert_mirrors(me: Mirrored, volume: Volume) -> None:
    """Each asset's bytes lie there once, and the list of checksums is true."""
    found = files(volume)
    expected = sorted(asset.content.sha1 for asset in wanted(me.library))
    assert sorted(map(sha1_of, found.values())) == expected
    told = volume.files()[".mirror/SHA1SUMS"].decode("utf-8", "surrogateescape").splitlines()
    sums = {fold(path): digest for digest, _, path in (line.partition("  ") for line in told)}
    assert sums == {fold(path): sha1_of(data).hex() for path, data in found.items()}


async def assert_settled(me: Mirrored, volume: Volume) -> None:
    """Another run changes nothing, asks for nothing, and reads no photo."""
    if volume.traits.folds_case or volume.traits.decomposes:
        await me.synced()  # here it learns, once, how names are kept
    before = volume.files()
    volume.steps.clear()
    me.sandbox.requests.clear()
    run = await me.synced()
    assert run.plan.actions == ()
    assert me.originals() == {}
    assert {path for path, data in volume.files().items() if data != before.get(path)} == {
        ".mirror/last-run.json"
    }
    assert volume.steps["hash"] == 0


def library_of_odd_names() -> Library:
    """Names and times that file systems hold differently."""
    library = photos(3)
    for number, name in enumerate(
        ("img_0001.JPG", "\u00e9te\u0301.jpg", "e\u0301t\u00e9.JPG", "STRASSE.jpg", "straße.jpg")
    ):
        taken_at = NOON + timedelta(seconds=number, milliseconds=number * 37)
        library.upload(name, content(name), taken_at=taken_at)
    for year in (1903, 1969, 1979, 1980, 2099, 2108, 2300):
        taken_at = datetime(year, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
        library.upload("new year.jpg", content(year), taken_at=taken_at)
    library.upload("film.mp4", content("film", 3 * SMALL_BYTES + 7), taken_at=NOON)
    return library


# -- what a file system does not know --------------------------------------------------------------


@pytest.mark.parametrize("traits", EVERY)
async def test_a_second_run_is_a_no_op_and_so_is_the_one_after_a_new_mount(
    tmp_path: Path, traits: Traits
):
    async with at(traits, tmp_path, library_of_odd_names()) as (me, volume):
        await me.synced()
        assert_mirrors(me, volume)
        await assert_settled(me, volume)

        volume.mount_again()
        me.sandbox.requests.clear()
        run = await me.synced()
        assert run.plan.actions == ()
        assert me.originals() == {}
        await assert_settled(me, volume)


@pytest.mark.parametrize("traits", EVERY)
async def test_names_that_change_only_in_case_arrive(tmp_path: Path, traits: Traits):
    async with at(traits, tmp_path, photos(4)) as (me, volume):
        me.layout("{taken:%Y}/{filename}")
        await me.synced()
        me.sandbox.requests.clear()
        for asset in list(me.library.own()):
            me.library.rename(asset.id, asset.original_file_name.lower())
        await me.synced()
        assert sorted(files(volume)) == [f"2020/img_000{number}.jpg" for number in range(4)]
        assert_mirrors(me, volume)
        await assert_settled(me, volume)

        me.layout("In {taken:%Y}/{filename}")
        await me.synced()
        me.layout("IN {taken:%Y}/{filename}")
        await me.synced()
        assert me.originals() == {}
        assert_mirrors(me, volume)
        await assert_settled(me, volume)


@pytest.mark.parametrize("traits", EVERY)
async def test_a_history_is_followed(tmp_path: Path, traits: Traits):
    async with at(traits, tmp_path, library_of_odd_names()) as (me, volume):
        me.destination |= {"on_removed": OnGone.QUARANTINE}
        await me.synced()
        first, second, third, fourth, *_ = me.library.own()
        me.library.rename(first.id, second.original_file_name)
        me.library.rename(second.id, first.original_file_name)
        me.library.replace(third.id, content("replaced"))
        me.library.trash(fourth.id)
        me.library.upload("IMG_0000.JPG", content("new"), taken_at=NOON)
        me.sandbox.requests.clear()
        await me.synced()
        assert me.originals().total() == 2
        assert_mirrors(me, volume)
        aside = {path: data for path, data in volume.files().items() if "/quarantine/" in path}
        assert sorted(map(sha1_of, aside.values())) == sorted(
            [sha1_of(content(2)), fourth.content.sha1]
        )
        await assert_settled(me, volume)


@pytest.mark.parametrize("traits", EVERY)
async def test_what_others_did_there_is_seen(tmp_path: Path, traits: Traits):
    async with at(traits, tmp_path, photos(4)) as (me, volume):
        volume.write("2020/06/15/img_0000.jpg", content("foreign"), NOON_NS)
        await me.synced()
        mine = sorted(path for path in files(volume) if path != "2020/06/15/img_0000.jpg")
        volume.remove(mine[1])
        volume.write(mine[2], content("other"), NOON_NS + 60 * 10**9)
        await me.synced()
        assert files(volume)["2020/06/15/img_0000.jpg"] == content("foreign")
        volume.remove("2020/06/15/img_0000.jpg")
        assert_mirrors(me, volume)
        await assert_settled(me, volume)


NOON_NS = int(NOON.timestamp()) * 10**9


async def test_a_name_that_it_refuses_fails_alone(tmp_path: Path):
    library = photos(2)
    library.upload("a:b.jpg", content("colon"), taken_at=NOON)
    async with at(Traits(refuses=":"), tmp_path, library) as (me, volume):
        me.mirror = replace(me.mirror, names=NameRules.POSIX)
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert [failed.path for failed in run.report.failures] == ["2020/06/15/a:b.jpg"]
        assert len(files(volume)) == 2
        me.mirror = replace(me.mirror, names=NameRules.PORTABLE)
        await me.synced()
        assert_mirrors(me, volume)


async def test_moves_go_side_by_side_where_that_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    together, move = threading.Barrier(4), MemoryDestination.move

    def met(self: MemoryDestination, source: str, path: str) -> None:
        together.wait(timeout=30)
        move(self, source, path)

    async with at(Traits(), tmp_path, photos(8)) as (me, volume):
        await me.synced()
        me.layout("moved/{filename}")
        monkeypatch.setattr(MemoryDestination, "at_once", 4)
        monkeypatch.setattr(MemoryDestination, "move", met)
        await me.synced()
        assert sorted(files(volume)) == [f"moved/IMG_000{number}.jpg" for number in range(8)]


async def killed(me: Mirrored, volume: Volume, step: int, *kinds: str) -> bool:
    """A run that dies in front of a step; False when it ended before."""
    volume.faults = [Fault(error=Killed(), of=frozenset(kinds), skip=step)]
    try:
        await me.run()
    except Killed:
        return True
    finally:
        volume.faults = []
    return False


def changed(library: Library) -> set[bytes]:
    """A bit of everything happens to nine photos; the bytes that must not get lost."""
    first, second, third, fourth, fifth, *_ = library.own()
    library.rename(first.id, second.original_file_name)
    library.rename(second.id, first.original_file_name)
    old = third.content.sha1
    library.replace(third.id, content("replaced"))
    library.trash(fourth.id)
    library.redate(fifth.id, NOON + timedelta(days=400))
    library.upload("new.jpg", content("new"), taken_at=NOON)
    return {old, fourth.content.sha1}


@pytest.mark.parametrize("kind", REAL)
async def test_a_real_one_is_mirrored_to_for_good(kind: str):
    with TemporaryDirectory() as name, mounted(kind, Path(name)) as disk:
        async with mirrored(Path(name), library_of_odd_names()) as me:
            me.root = disk / "photos"
            me.destination |= {"on_removed": OnGone.QUARANTINE}
            await me.synced()
            judge(me)
            me.sandbox.requests.clear()
            await me.synced()  # here it learns, once, how names are kept
            await me.assert_settled()

            mount_again(kind, disk)
            me.sandbox.requests.clear()
            run = await me.synced()
            assert run.plan.actions == ()
            await me.assert_settled()

            changed(me.library)
            me.library.rename(me.library.named("STRASSE.jpg").id, "strasse.JPG")
            await me.synced()
            judge(me)
            await me.synced()
            await me.assert_settled()


def judge(me: Mirrored) -> None:
    """As sha1sum and the library see it."""
    command = ["sha1sum", "--strict", "-c", ".mirror/SHA1SUMS"]
    told = subprocess.run(command, cwd=me.root, capture_output=True, text=True, check=True).stdout
    assert told.count(": OK\n") == len(wanted(me.library))
    lying = [path for path in me.root.rglob("*") if path.is_file() and ".mirror" not in path.parts]
    found = sorted(sha1_of(path.read_bytes()) for path in lying)
    assert found == sorted(asset.content.sha1 for asset in wanted(me.library))


# -- kills and power cuts --------------------------------------------------------------------------

KILLED = [pytest.param(PLAIN["nothing"], id="nothing")] + [
    pytest.param(POOR[name], id=name) for name in ("no renameat2", "all of it")
]


@pytest.mark.parametrize("traits", KILLED)
@pytest.mark.parametrize("fate", ["kill", "power cut", "power cut that keeps the names"])
async def test_a_run_that_dies_anywhere_is_finished_by_the_next(
    tmp_path: Path, traits: Traits, fate: str
):
    """Each run dies a few steps further on, until one does not."""
    async with at(traits, tmp_path, photos(9)) as (me, volume):
        me.destination |= {"on_removed": OnGone.QUARANTINE}
        await me.synced()
        right = {asset.content.sha1 for asset in wanted(me.library)}
        kept = changed(me.library)
        right |= {asset.content.sha1 for asset in wanted(me.library)}
        step, dies = 0, True
        while dies:
            dies = await killed(me, volume, step)
            if dies and fate != "kill":
                volume.cut_power(keeps_names=fate.endswith("names"))
            volume.mount_again()
            assert set(map(sha1_of, files(volume).values())) <= right
            assert kept <= set(map(sha1_of, volume.files().values()))
            step += 3
        await me.synced()
        assert_mirrors(me, volume)
        assert kept <= set(map(sha1_of, volume.files().values()))
        assert not [path for path in volume.files() if path.startswith(".mirror/moving/")]
        await assert_settled(me, volume)


@pytest.mark.parametrize("traits", KILLED)
@pytest.mark.parametrize("keeps_names", [False, True])
@pytest.mark.parametrize("step", [8, 30])
async def test_a_power_cut_in_a_first_run_leaves_no_name_without_its_bytes(
    tmp_path: Path, traits: Traits, *, keeps_names: bool, step: int
):
    library = photos(12)
    expected = {asset.content.sha1 for asset in library.own()}
    async with at(traits, tmp_path, library) as (me, volume):
        assert await killed(me, volume, step)
        volume.cut_power(keeps_names=keeps_names)
        assert set(map(sha1_of, files(volume).values())) <= expected
        await me.synced()
        assert_mirrors(me, volume)
        await assert_settled(me, volume)


async def test_a_lock_of_a_run_that_was_killed_holds_nobody_up(tmp_path: Path):
    for name in ("nothing", "no flock"):
        async with at((PLAIN | POOR)[name], tmp_path / name, photos(2)) as (me, volume):
            assert await killed(me, volume, 0, "write")
            assert ".mirror/lock" in volume.files()
            await me.synced()
            assert ".mirror/lock" not in volume.files()


# -- full, and failing -----------------------------------------------------------------------------


@pytest.mark.parametrize("tells_room", [True, False])
@pytest.mark.parametrize("room_bytes", [600, 1500, 3000])
async def test_a_full_disk_stops_it_and_more_room_lets_it_go_on(
    tmp_path: Path, room_bytes: int, *, tells_room: bool
):
    library = photos(10)
    expected = {asset.content.sha1 for asset in library.own()}
    async with at(WORST, tmp_path, library) as (me, volume):
        volume.room_bytes, volume.tells_room = room_bytes, tells_room
        run = await me.run()
        assert run.report.exit_code is ExitCode.DESTINATION, describe(run)
        assert run.report.error is not None
        assert run.report.error.code == "no-space"
        assert set(map(sha1_of, files(volume).values())) <= expected
        volume.room_bytes = None
        me.sandbox.requests.clear()
        await me.synced()
        assert_mirrors(me, volume)
        await assert_settled(me, volume)


KINDS = ["create", "write", "date", "rename", "mkdir"]


@pytest.mark.parametrize(
    ("kind", "skip"),
    [(kind, skip) for kind in KINDS for skip in (0, 3)] + [("sync", 1), ("sync", 2)],
)
async def test_a_disk_that_fails_stops_it_and_is_told(tmp_path: Path, kind: str, skip: int):
    library = photos(10)
    expected = {asset.content.sha1 for asset in library.own()}
    async with at(Traits(), tmp_path, library) as (me, volume):
        me.layout("{taken:%Y}/{id8}/{filename}")
        volume.faults = [
            Fault(error=refusal(errno.EIO, "disk"), of=frozenset({kind}), skip=skip, times=None)
        ]
        run = await me.run()
        assert run.report.exit_code is ExitCode.DESTINATION, describe(run)
        assert run.report.error is not None
        assert run.report.error.code == "unwritable"
        assert set(map(sha1_of, files(volume).values())) <= expected
        volume.faults = []
        await me.synced()
        assert_mirrors(me, volume)
        await assert_settled(me, volume)


async def test_a_file_that_cannot_be_read_is_not_taken_for_lost(tmp_path: Path):
    async with at(Traits(), tmp_path, photos(3)) as (me, volume):
        await me.synced()
        volume.faults = [Fault(error=refusal(errno.EIO, "disk"), of=frozenset({"scan"}))]
        run = await me.run()
        assert run.report.exit_code is ExitCode.DESTINATION, describe(run)
        volume.faults = []
        await assert_settled(me, volume)
