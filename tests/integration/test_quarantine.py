"""`mirror quarantine`: what was set aside is shown, comes back, or goes; all else stays."""

import fcntl
import json
import os
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.main import main
from mirror.core.model import Destination, Mirror, OnGone
from mirror.errors import MirrorError, UsageError
from mirror.index import Index, Quarantined
from mirror.profile import Chosen, Profile
from mirror.quarantine import Restored
from mirror.sandbox import Sandbox
from mirror.shelf import Keeper, Wanted
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    files,
    mirrored,
    moved_aside,
    of_profile,
    photos,
    whole,
)
from tests.integration.starts import environment, started

PROJECT = Path(__file__).parents[2]
DAY = "2020/06/15"
QUARANTINE = {"min_free_bytes": 0, "on_removed": OnGone.QUARANTINE}


@pytest.fixture
async def me(tmp_path: Path) -> AsyncIterator[Mirrored]:
    """IMG_0001 left the server, IMG_0002 was edited: both are in quarantine."""
    async with mirrored(tmp_path, photos(4), destination=QUARANTINE) as mirror:
        await set_aside(mirror)
        yield mirror


async def set_aside(me: Mirrored) -> None:
    await me.synced()
    me.library.trash(me.library.named("IMG_0001.jpg").id)
    (me.root / DAY / "IMG_0002.jpg").write_bytes(b"edited")
    await me.synced()
    assert len(moved_aside(me.root)) == 2


def keeper(me: Mirrored, now: datetime | None = None) -> Keeper:
    destination = Destination(path=str(me.root), **me.destination)
    it = Mirror(name="me", account="me", destinations=(destination,))
    profile = Profile(name="family", path=Path("family.toml"), accounts={}, mirrors=(it,))
    assert me.known is not None
    return Keeper(choice=Chosen(profile, (it,)), known=me.known, now=now or datetime.now(UTC))


async def restored(me: Mirrored, *paths: str, to: Path | None = None, **wanted: Any) -> list[str]:
    results: list[Restored] = []
    await keeper(me).restore(Wanted(paths=paths, **wanted), to, results)
    return [each.place or str(each.error) for each in results]


def recorded(me: Mirrored) -> dict[str, Quarantined]:
    with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
        return {item.original_path: item for item in index.quarantined()}


# -- through the command line ----------------------------------------------------------------------


async def test_what_waits_is_listed_given_back_and_deleted(tmp_path: Path):
    async with Sandbox(photos(4)) as sandbox:
        profile = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        profile.write_text(profile.read_text() + 'on_removed = "quarantine"\n')
        me = of_profile(tmp_path, sandbox)
        me.destination = QUARANTINE
        await set_aside(me)
        sandbox.requests.clear()

        before = whole(me.root)
        ended = await mirror(tmp_path, "quarantine", "list", "family")
        assert ended.code == 0, ended.said
        header, names, *lines = ended.out.splitlines()
        assert header == f"all -> {me.root}: 2 files in quarantine (206 bytes)"
        assert names.split() == ["days", "left", "since", "size", "reason", "path", "run"]
        told = {tuple(line.split("bytes")[1].split()[:-1]) for line in lines}
        assert told == {
            ("in", "the", "trash", f"{DAY}/IMG_0001.jpg"), ("drifted", f"{DAY}/IMG_0002.jpg"),
        }  # fmt: skip
        assert whole(me.root) == before

        ended = await mirror(tmp_path, "quarantine", "list", "family", "--json")
        (shelf,) = json.loads(ended.out)
        by_path = {file["original_path"]: file for file in shelf["files"]}
        assert by_path[f"{DAY}/IMG_0001.jpg"]["days_left"] == 30
        assert (me.root / by_path[f"{DAY}/IMG_0001.jpg"]["path"]).read_bytes() == content(1)

        ended = await mirror(tmp_path, "quarantine", "restore", "family", f"{DAY}/IMG_0001.jpg")
        assert (ended.code, ended.out) == (0, f"{DAY}/IMG_0001.jpg -> {DAY}/IMG_0001.jpg\n")
        assert (me.root / DAY / "IMG_0001.jpg").read_bytes() == content(1)
        assert ended.events("quarantine.restored")[0]["mirror"] == "all"

        ended = await mirror(tmp_path, "quarantine", "purge", "family", "--all")
        assert ended.code == 0
        assert ended.out == f"all -> {me.root}: 1 left quarantine for good, 0 stay\n"
        assert moved_aside(me.root) == []
        assert not sandbox.requests


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["purge", "family"], "--older-than"),
        (["purge", "family", "--older-than", "soon"], "not a number of days"),
        (["restore", "family"], "--run ID or --all"),
        (["restore", "family", "a.jpg", "--all"], "one of them"),
        (["restore", "family", "--mirror", "nobody", "--all"], "no mirror"),
    ],
)
def test_what_was_not_said_is_not_guessed(
    tmp_path: Path,
    args: list[str],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    write_profile(tmp_path, "http://localhost:9", "key")
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        code = main(["quarantine", *args, "--log-format", "text"])
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 2
    assert word in capsys.readouterr().err


CHILD = """
import sys
from mirror.cli.main import main
from tests.integration.child import watch

watch({"of": [sys.argv[1]], "at": int(sys.argv[2])})
sys.exit(main(["quarantine", *sys.argv[3:]]))
"""


async def killed(home: Path, kind: str, number: int, *args: str) -> None:
    words = ("-c", CHILD, kind, str(number), *args)
    process = await started(*words, folder=home, environ=environment(home), out=DEVNULL)
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kind", "number", "to"),
    [("rename", 1, ""), ("rename", 2, ""), ("sync", 1, ""), ("unlink", 1, ""),
     ("rename", 1, "out"), ("sync", 1, "out"), ("unlink", 1, "out")],
)  # fmt: skip
async def test_a_restore_that_is_killed_loses_nothing(
    tmp_path: Path, kind: str, number: int, to: str
):
    async with Sandbox(photos(4)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        me = of_profile(tmp_path, sandbox)
        me.destination = QUARANTINE
        await set_aside(me)
        options = ("--to", str(tmp_path / to)) if to else ()
        await killed(tmp_path, kind, number, "restore", "family", "--all", *options)
        ended = await mirror(tmp_path, "quarantine", "restore", "family", "--all", *options)
        assert ended.code == 0, ended.said
        there = files(tmp_path / to) if to else files(me.root)
        assert {content(1), b"edited"} <= {
            ((tmp_path / to if to else me.root) / path).read_bytes() for path in there
        }
        assert moved_aside(me.root) == []
        assert recorded(me) == {}
        if to:
            assert len([path for path in there if "mirror-restores" in path]) == 0
        await me.synced()
        await me.assert_settled()


async def test_a_purge_that_is_killed_goes_on(tmp_path: Path):
    async with Sandbox(photos(4)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        me = of_profile(tmp_path, sandbox)
        me.destination = QUARANTINE
        await set_aside(me)
        await killed(tmp_path, "unlink", 2, "purge", "family", "--all")
        assert len(recorded(me)) == 2
        (shelf,) = await keeper_of(me).listed()
        assert len(shelf.items) == len(moved_aside(me.root)) == 1
        (shelf,) = await keeper_of(me).purged(None)
        assert shelf.purged == 1
        assert recorded(me) == {}


def keeper_of(me: Mirrored) -> Keeper:
    """As the command line names it."""
    plain = keeper(me)
    (only,) = plain.choice.mirrors
    it = Mirror(name="all", account="me", destinations=only.destinations)
    return Keeper(choice=Chosen(plain.choice.profile, (it,)), known=plain.known, now=plain.now)


# -- restore ---------------------------------------------------------------------------------------


async def test_what_comes_back_is_the_users_until_the_server_lists_it_again(me: Mirrored):
    assert await restored(me, f"{DAY}/IMG_0001.jpg") == [f"{DAY}/IMG_0001.jpg"]
    assert f"{DAY}/IMG_0001.jpg" not in recorded(me)
    before = files(me.root)
    await me.synced()
    assert files(me.root) == before  # foreign: no policy moves it again
    me.library.restore(me.library.named("IMG_0001.jpg").id)
    me.sandbox.requests.clear()
    run = await me.synced()
    assert run.report.counted == {"unchanged": 3, "adopted": 1}
    assert me.originals() == {}
    assert files(me.root) == before


async def test_a_photo_of_the_mirror_keeps_its_path(me: Mirrored):
    assert await restored(me, path := f"{DAY}/IMG_0002.jpg") == [f"{DAY}/IMG_0002-restored.jpg"]
    assert (me.root / path).read_bytes() == content(2)
    assert (me.root / DAY / "IMG_0002-restored.jpg").read_bytes() == b"edited"
    await me.assert_settled()


async def test_where_a_photo_is_only_missing_its_path_is_kept_too(me: Mirrored):
    (me.root / DAY / "IMG_0002.jpg").unlink()
    assert await restored(me, f"{DAY}/IMG_0002.jpg") == [f"{DAY}/IMG_0002-restored.jpg"]
    await me.synced()
    assert (me.root / DAY / "IMG_0002.jpg").read_bytes() == content(2)


async def test_nothing_is_overwritten(me: Mirrored):
    for name in ("IMG_0001.jpg", "IMG_0001-restored.jpg"):
        (me.root / DAY / name).write_text(name)
    assert await restored(me, f"{DAY}/IMG_0001.jpg") == [f"{DAY}/IMG_0001-restored-2.jpg"]
    for name in ("IMG_0001.jpg", "IMG_0001-restored.jpg"):
        assert (me.root / DAY / name).read_text() == name


async def test_a_path_that_cannot_be_had_any_more_is_said(me: Mirrored):
    for path in (me.root / DAY).iterdir():
        path.unlink()
    (me.root / DAY).rmdir()
    (me.root / DAY).write_text("a file now")
    (told,) = await restored(me, f"{DAY}/IMG_0001.jpg")
    assert "cannot be put back" in told
    assert len(moved_aside(me.root)) == 2


async def test_all_of_a_run_come_back(me: Mirrored):
    (run_id,) = {
        path.relative_to(me.root / ".mirror/quarantine").parts[0] for path in moved_aside(me.root)
    }
    assert len(await restored(me, run_id=run_id)) == 2
    assert not (me.root / ".mirror/quarantine").exists()
    with pytest.raises(UsageError, match="of such a run"):
        await restored(me, run_id=run_id)


async def test_one_of_two_that_had_the_same_path_is_named_in_full(me: Mirrored):
    (me.root / DAY / "IMG_0002.jpg").write_bytes(b"edited again")
    await me.synced()
    with pytest.raises(UsageError, match="2 files in quarantine came from there") as refused:
        await restored(me, f"{DAY}/IMG_0002.jpg")
    first, second = str(refused.value.why).split(", ")
    assert await restored(me, second) == [f"{DAY}/IMG_0002-restored.jpg"]
    assert await restored(me, first.removeprefix(f"{me.root}/")) == [
        f"{DAY}/IMG_0002-restored-2.jpg"
    ]


async def test_what_is_not_there_is_said_before_anything_moves(me: Mirrored):
    with pytest.raises(UsageError, match="no such file is in quarantine"):
        await restored(me, f"{DAY}/IMG_0001.jpg", "nothing.jpg")
    assert len(moved_aside(me.root)) == 2


async def test_to_another_folder_files_keep_their_place_and_time(me: Mirrored, tmp_path: Path):
    to = tmp_path / "out"
    (to / DAY).mkdir(parents=True)
    (to / DAY / "IMG_0002.jpg").write_text("mine")
    assert await restored(me, everything=True, to=to) == [
        f"{to}/{DAY}/IMG_0001.jpg", f"{to}/{DAY}/IMG_0002-restored.jpg",
    ]  # fmt: skip
    assert (to / DAY / "IMG_0001.jpg").read_bytes() == content(1)
    assert (to / DAY / "IMG_0001.jpg").stat().st_mtime == NOON.timestamp()
    assert (to / DAY / "IMG_0002.jpg").read_text() == "mine"
    assert moved_aside(me.root) == []
    assert recorded(me) == {}


async def test_the_destination_is_no_other_folder(me: Mirrored):
    with pytest.raises(UsageError, match="in the destination itself"):
        await restored(me, everything=True, to=me.root / "below")
    assert len(moved_aside(me.root)) == 2


# -- purge and list --------------------------------------------------------------------------------


async def test_days_count_from_our_own_record(me: Mirrored):
    for path in moved_aside(me.root):
        os.utime(path, (1, 1))
    now = datetime.now(UTC)
    assert [shelf.purged for shelf in await keeper(me, now + timedelta(days=6)).purged(7)] == [0]
    assert [shelf.purged for shelf in await keeper(me, now - timedelta(days=900)).purged(7)] == [0]
    assert [shelf.purged for shelf in await keeper(me, now + timedelta(days=7)).purged(7)] == [2]
    assert moved_aside(me.root) == []


async def test_a_file_without_a_record_is_shown_and_can_be_had_back_and_is_never_purged(
    me: Mirrored,
):
    path = me.root / ".mirror/quarantine/lost/2019/a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nobody knows")
    (shelf,) = await keeper(me).listed()
    assert [(each.item.original_path, each.is_recorded) for each in shelf.items][-1] == (
        "2019/a.jpg", False,
    )  # fmt: skip
    assert shelf.items[-1].days_left(30, shelf.now) is None
    (shelf,) = await keeper(me).purged(None)
    assert (shelf.purged, path.read_bytes()) == (2, b"nobody knows")
    assert await restored(me, "2019/a.jpg") == ["2019/a.jpg"]
    assert (me.root / "2019/a.jpg").read_bytes() == b"nobody knows"


async def test_while_a_run_holds_it_nothing_is_touched(me: Mirrored):
    with (me.root / ".mirror/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for shelves in (await keeper(me).listed(), await keeper(me).purged(None)):
            assert [shelf.error.exit_code for shelf in shelves if shelf.error] == [7]
        with pytest.raises(MirrorError, match="in use"):
            await restored(me, everything=True)
    assert len(moved_aside(me.root)) == 2
