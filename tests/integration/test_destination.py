"""Whose folder it is, whether it is there, and who holds it."""

import asyncio
import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mirror.destinations import folder as folder_module
from mirror.destinations import lock as lock_module
from mirror.destinations.identity import Known
from mirror.destinations.lock import locked
from mirror.destinations.memory import MemorySite
from mirror.destinations.volume import Fault, Volume, refusal
from mirror.errors import ExitCode, LockedError, MirrorError
from mirror.index import Index
from mirror.run import MirrorRun
from mirror.sandbox import sample_library
from mirror.sandbox.faults import Stalled
from tests.integration.mirroring import (
    LABEL,
    NOON,
    Mirrored,
    assert_in_sync,
    content,
    describe,
    empty,
    files,
    mirrored,
    names_in,
    photos,
    until,
    whole,
)

IS_ROOT = os.geteuid() == 0


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """A file system of its own in the memory."""
    if not IS_ROOT:
        pytest.skip("only root may mount")
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of somebody without rights, who we are meanwhile."""
    if not IS_ROOT:
        with tempfile.TemporaryDirectory() as own:
            yield Path(own)
        return
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, 65534, 65534)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(0)
        os.setegid(0)
        shutil.rmtree(folder)


def refused(run: MirrorRun, code: str, exit_code: ExitCode = ExitCode.DESTINATION) -> str:
    """What a run was refused with, in full."""
    assert run.report.error is not None, describe(run)
    assert (run.report.error.code, run.report.exit_code) == (code, exit_code), describe(run)
    return str(run.report.error)


def marker(me: Mirrored) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((me.root / ".mirror/mirror.json").read_text())
    return told


# -- the marker ------------------------------------------------------------------------------------


async def test_a_first_run_leaves_a_marker_inside_and_a_memory_outside(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        told = marker(me)
        assert told["user_id"] == me.library.owner_id
        assert told["mirror"] == LABEL
        assert me.known is not None
        assert me.known.id_of(str(me.root)) == told["id"]
        assert (me.root / ".mirror").stat().st_mode & 0o777 == 0o700
        assert not (me.root / ".mirror/lock").exists()


async def test_what_a_destination_can_do_is_found_out_once(
    tmp_path: Path, log: list[dict[str, Any]]
):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.planned()
        assert not me.root.exists()
        await me.synced()
        told = marker(me)["abilities"]
        assert told["hard_links"] is True
        assert told["mtime_step_ns"] >= 1
        assert [line["abilities"] for line in log if line["event"] == "destination.new"] == [told]

        file = me.root / ".mirror/mirror.json"
        for odd in (None, {"hard_links": "perhaps"}, 7):
            file.write_text(json.dumps(marker(me) | {"abilities": odd}))
            await me.planned()
            assert marker(me)["abilities"] == odd
            await me.synced()
            assert marker(me)["abilities"] == told
        file.write_text(json.dumps(marker(me) | {"abilities": {**told, "hard_links": False}}))
        await me.synced()
        assert marker(me)["abilities"] == {**told, "hard_links": False}, "it is not asked again"
        me.root = me.root.rename(tmp_path / "another disk")
        await me.synced()
        assert marker(me)["abilities"] == told


async def test_what_cannot_be_tried_is_tried_another_time(tmp_path: Path):
    volume = Volume()
    volume.faults = [Fault(error=refusal(errno.ENOSPC, "disk"), of=frozenset({"probe"}))]
    async with mirrored(tmp_path, photos(1)) as me:
        me.site = MemorySite(volume, tmp_path / "index.sqlite3")
        for told in (False, True):
            await me.synced()
            text = json.loads(volume.files()[".mirror/mirror.json"])
            assert (text["abilities"] is not None) is told


async def test_an_account_that_holds_nothing_yet_is_named_later(tmp_path: Path):
    async with mirrored(tmp_path, empty()) as me:
        await me.synced()
        assert marker(me)["user_id"] == ""
        me.library.upload("a.jpg", content(1), taken_at=NOON)
        await me.synced()
        assert marker(me)["user_id"] == me.library.owner_id


async def test_another_user_is_refused_until_rebind(tmp_path: Path):
    async with mirrored(tmp_path / "1", photos(1)) as me:
        await me.synced()
        before = whole(me.root)
        async with mirrored(tmp_path / "2", sample_library(20, seed=7)) as other:
            other.root, other.known = me.root, me.known
            text = refused(await other.run(), "other-account")
            assert me.library.owner_id in text
            assert other.library.owner_id in text
            assert whole(me.root) == before
            run = await other.run(rebind=True)
            assert run.report.exit_code is ExitCode.OK, describe(run)
            assert marker(other)["user_id"] == other.library.owner_id
            assert files(me.root).items() >= {"2020/06/15/IMG_0000.jpg": _sha1_of(me)}.items()
            await other.assert_settled()


def _sha1_of(me: Mirrored) -> bytes:
    (asset,) = me.library.own()
    return asset.content.sha1


async def test_another_mirror_of_the_same_user_is_refused_until_rebind(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        before = whole(me.root)
        me.label = "family/other"
        text = refused(await me.run(), "not-ours")
        assert "family/other" in text
        assert LABEL in text
        assert whole(me.root) == before
        await me.synced(rebind=True)
        assert marker(me)["mirror"] == "family/other"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"id": 3'])
async def test_a_marker_that_says_nothing_is_refused(tmp_path: Path, text: str):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        (me.root / ".mirror/mirror.json").write_text(text)
        refused(await me.run(), "not-ours")


# -- a disk that is not there ----------------------------------------------------------------------


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a folder with files"])
async def test_a_known_destination_without_its_marker_is_not_mounted(tmp_path: Path, left: str):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        me.root.rename(tmp_path / "unplugged")
        if left != "nothing":
            me.root.mkdir()
        if left == "a folder with files":
            (me.root / "file").touch()
        before = whole(tmp_path)
        text = refused(await me.run(), "not-mounted")
        assert "--new-destination" in text
        assert whole(tmp_path) == before
        await me.synced(new_destination=True)
        assert "2020/06/15/IMG_0000.jpg" in files(me.root)
        await me.assert_settled()


async def test_another_disk_at_a_known_path_is_not_mounted(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        (me.root / ".mirror/mirror.json").write_text(json.dumps(marker(me) | {"id": "another"}))
        refused(await me.run(), "not-mounted")
        await me.synced(new_destination=True)
        await me.assert_settled()


async def test_a_disk_that_moved_is_taken_over(tmp_path: Path, log: list[dict[str, Any]]):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        me.root = me.root.rename(tmp_path / "elsewhere")
        me.sandbox.requests.clear()
        await me.synced()
        assert me.originals() == {}
        assert taken_over(log) == ["its marker was last seen at another path"]
        await me.assert_settled()


async def test_a_destination_that_another_user_filled_is_said_to_have_been_nowhere_else(
    tmp_path: Path, log: list[dict[str, Any]]
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        (tmp_path / "state/destinations.json").unlink()
        await me.synced()
        (reason,) = taken_over(log)
        assert reason.endswith("this user's state directory did not know it")
        log.clear()
        await me.synced()
        assert taken_over(log) == []


def taken_over(log: list[dict[str, Any]]) -> list[str]:
    """The reasons that were told."""
    return [line["reason"] for line in log if line["event"] == "destination.taken_over"]


async def test_a_required_mount_must_be_there(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        if any(place.is_mount() for place in [*me.root.parents][:-1]):
            pytest.skip("the temporary folder is a mount")
        me.destination |= {"require_mount": True}
        refused(await me.run(), "not-mounted")
        me.destination |= {"require_mount": str(tmp_path)}
        refused(await me.run(), "not-mounted")
        assert not me.root.exists()
        with mounted(tmp_path / "disk"):
            me.root = tmp_path / "disk/photos"
            for required in (True, str(tmp_path / "disk")):
                me.destination |= {"require_mount": required}
                await me.synced()


@pytest.mark.parametrize("text", ["{", "[1]", "7"])
async def test_a_memory_that_cannot_be_read_is_told(tmp_path: Path, text: str):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/destinations.json").write_text(text)
    async with mirrored(tmp_path, photos(1)) as me:
        refused(await me.run(), "unwritable")
        assert not me.root.exists()


def test_two_processes_may_remember_at_once(tmp_path: Path):
    for number in range(20):
        Known(tmp_path).remember(f"/{number}", str(number))
    assert Known(tmp_path).id_of("/7") == "7"


# -- places where a mirror must not be -------------------------------------------------------------


async def test_a_destination_inside_another_one_is_refused(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        me.root, me.known = me.root / "2020/inside", None
        refused(await me.run(), "not-ours")
        assert not me.root.exists()


async def test_a_destination_around_another_one_is_refused(tmp_path: Path):
    async with mirrored(tmp_path / "outer/inner", photos(1)) as me:
        await me.synced()
        inner, me.root, me.known = me.root, tmp_path / "outer", None
        refused(await me.run(), "not-ours")
        assert list(me.root.iterdir()) == [me.root / "inner"]
        me.root = inner
        await me.synced()


async def test_a_way_out_of_one_that_is_used_no_more_is_told(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        outer, me.root, me.known = me.root, me.root / "inside", None
        assert f"remove {outer}/.mirror" in refused(await me.run(), "not-ours")


async def test_immich_own_folder_is_refused(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        me.root.mkdir()
        (me.root / ".immich").touch()
        refused(await me.run(), "not-ours")
        assert list(me.root.iterdir()) == [me.root / ".immich"]


@pytest.mark.parametrize("where", [".", "below"])
async def test_a_folder_among_the_originals_is_refused(tmp_path: Path, where: str):
    library = photos(1)
    (asset,) = library.own()
    original = tmp_path / "library/x.jpg"
    original.parent.mkdir()
    original.write_bytes(content(0))
    asset.original_path = str(original)
    async with mirrored(tmp_path, library) as me:
        me.root = original.parent / where
        refused(await me.run(), "not-ours")
        assert original.read_bytes() == content(0)
        assert [path for path in files(tmp_path) if path.endswith(".jpg")] == ["library/x.jpg"]


async def test_a_link_to_a_folder_below_the_root_is_refused(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    async with mirrored(tmp_path, photos(1)) as me:
        me.root.mkdir()
        (me.root / "2020").symlink_to(tmp_path / "elsewhere")
        refused(await me.run(), "not-ours")
        assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_another_file_system_below_the_root_is_refused(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        with mounted(me.root / "2020"):
            refused(await me.run(), "not-ours")
            assert list((me.root / "2020").iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "below a file"])
async def test_a_destination_that_is_no_folder_is_refused(tmp_path: Path, kind: str):
    async with mirrored(tmp_path, photos(1)) as me:
        me.root.write_bytes(b"a file")
        if kind != "file":
            me.root = me.root / "below"
        refused(await me.run(), "unwritable")


# -- held ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry", [False, True])
async def test_of_two_runs_at_once_one_waits_for_another_day(tmp_path: Path, *, dry: bool):
    async with mirrored(tmp_path, photos(3)) as me:
        stalled = Stalled()
        rule = me.sandbox.faults.add(stalled, path="*/original", times=1)
        async with me.ready() as first:
            task = asyncio.create_task(first.run())
            await until(lambda: rule.met)
            text = refused(await me.run(dry=dry), "locked", ExitCode.LOCKED)
            assert str(os.getpid()) in text
            assert socket.gethostname() in text
            stalled.released.set()
            await task
        assert first.report.exit_code is ExitCode.OK, describe(first)
        assert not (me.root / ".mirror/lock").exists()
        await me.assert_settled()


async def test_a_run_may_wait_for_the_one_that_holds_the_destination(
    tmp_path: Path, log: list[dict[str, object]]
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        with locked(me.root):
            run = await me.run(wait_s=0.05)
            assert isinstance(run.report.error, LockedError)
            assert f"process {os.getpid()} on " in run.report.error.why
            log.clear()
            waiting = asyncio.create_task(me.run(wait_s=30))
            await until(lambda: any(line["event"] == "destination.busy" for line in log))
        assert_in_sync(await waiting)


async def test_a_lock_of_a_killed_run_holds_nobody_up(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        (me.root / ".mirror/lock").write_text('{"pid": 1, "host": "x", "since": "y", "boot": ""}')
        await me.planned()
        await me.synced()
        assert not (me.root / ".mirror/lock").exists()


def _hold_without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that knows no locks: some network mounts."""

    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    _hold_without_flock(monkeypatch)
    (tmp_path / "machine-id").write_text(f"{uuid4().hex}\n")
    monkeypatch.setattr(lock_module, "_MACHINE_ID", tmp_path / "machine-id")
    (tmp_path / ".mirror").mkdir()
    return tmp_path


def test_without_flock_a_living_holder_is_respected(without_flock: Path):
    with locked(without_flock):
        lock = locked(without_flock)
        with pytest.raises(LockedError, match=str(os.getpid())):
            lock.__enter__()
    assert not (without_flock / ".mirror/lock").exists()


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"pid": 4_000_000}, False),
        ({"boot": "another"}, False),
        ({"pid": 4_000_000, "machine": None, "pids": None}, False),
        ({"host": "another"}, True),
        ({"boot": "another", "machine": "another"}, True),
        ({"boot": "another", "machine": None, "pids": None}, True),
        ({"boot": "another", "pids": "another"}, True),
        ({"boot": ""}, True),
        ({"pid": 4_000_000, "pids": "another"}, True),
        ({}, True),
    ],
    ids=[
        "died",
        "rebooted",
        "died, of an older version",
        "on another host",
        "on another machine of the same name",
        "on a machine that nobody knows, of an older version",
        "in another container after a reboot, or elsewhere",
        "on a machine that cannot tell its boot",
        "in another container",
        "alive",
    ],
)
def test_without_flock_only_a_dead_holder_is_put_away(
    without_flock: Path, change: dict[str, object], *, held: bool
):
    lock = without_flock / ".mirror/lock"
    with locked(without_flock):
        told = json.loads(lock.read_text()) | change
    lock.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    if held:
        with pytest.raises(LockedError) as refused, locked(without_flock):
            pass
        assert f"remove {lock}" in refused.value.hint
        assert lock.exists()
    else:
        with locked(without_flock):
            assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_without_flock_a_lock_without_a_holder_holds_nobody_up(without_flock: Path):
    lock = without_flock / ".mirror/lock"
    lock.touch()
    with locked(without_flock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert names_in(without_flock / ".mirror") == set()


@pytest.mark.parametrize("left", ["nothing", "a dead lock"])
def test_without_flock_one_of_two_runs_at_once_gets_the_lock(without_flock: Path, left: str):
    lock = without_flock / ".mirror/lock"
    with locked(without_flock):
        dead = json.dumps(json.loads(lock.read_text()) | {"pid": 4_000_000})
    for _ in range(50):
        if left == "a dead lock":
            lock.write_text(dead)
        start, tried = threading.Barrier(2), threading.Barrier(2)

        def run(start: threading.Barrier = start, tried: threading.Barrier = tried) -> str:
            start.wait(20)
            try:
                with locked(without_flock):
                    tried.wait(20)
            except MirrorError as error:
                tried.wait(20)
                return error.code
            return "held"

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(run) for _ in range(2)]
            assert sorted(each.result() for each in both) == ["held", "locked"]
        assert names_in(without_flock / ".mirror") == set()


# -- rights and room -------------------------------------------------------------------------------


async def test_a_folder_that_cannot_be_read_is_not_taken_for_lost():
    with as_nobody() as folder:
        async with mirrored(folder, photos(3)) as me:
            await me.synced()
            (me.root / "2020/06").chmod(0)
            try:
                run = await me.run()
            finally:
                (me.root / "2020/06").chmod(0o700)
            refused(run, "unwritable")
            me.sandbox.requests.clear()
            await me.synced()
            assert me.originals() == {}


@pytest.mark.parametrize("dry", [False, True])
async def test_a_root_that_cannot_be_written_is_told_and_can_be_planned(*, dry: bool):
    with as_nobody() as folder:
        async with mirrored(folder, photos(1)) as me:
            me.root.mkdir(mode=0o500)
            run = await me.run(dry=dry)
            if dry:
                assert [action.kind for action in run.plan.actions] == ["download"]
            else:
                refused(run, "unwritable")


@pytest.mark.parametrize("dry", [False, True])
async def test_a_disk_that_became_read_only_is_told_and_can_be_planned(
    tmp_path: Path, *, dry: bool
):
    async with mirrored(tmp_path, photos(1)) as me:
        with mounted(me.root):
            await me.synced()
            me.library.upload("new.jpg", content("new"), taken_at=NOON)
            remount(me.root, "ro")
            run = await me.run(dry=dry)
            if dry:
                assert [action.path for action in run.plan.actions] == ["2020/06/15/new.jpg"]
            else:
                refused(run, "unwritable")
            remount(me.root, "rw")
            await me.synced()
            await me.assert_settled()


async def test_a_full_disk_stops_the_destination_and_the_next_run_goes_on(tmp_path: Path):
    async with mirrored(tmp_path, photos(20, 100_000)) as me:
        with mounted(me.root, "-o", "size=1m"):
            text = refused(await me.run(), "no-space")
            assert "room" in text
            assert len(files(me.root)) < 20
            remount(me.root, "size=64m")
            await me.synced()
            assert len(files(me.root)) == 20
            await me.assert_settled()


# -- an index that must not be used ----------------------------------------------------------------


async def test_an_index_of_a_newer_version_is_left_alone(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        with Index(me.root / ".mirror/index.sqlite3") as index:
            index._db.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
        refused(await me.run(), "index")


async def test_files_that_come_together_leave_the_room_that_is_to_be_kept(tmp_path: Path):
    size_bytes, kept_bytes = 6 << 20, 8 << 20
    with mounted(tmp_path / "disk", "-o", "size=24m"):
        async with mirrored(tmp_path / "disk", photos(4, size_bytes)) as me:
            me.destination = {"min_free_bytes": kept_bytes}
            stalled = Stalled(after_bytes=1000)
            me.sandbox.faults.add(stalled, path="*/original")
            async with me.ready() as run:
                task = asyncio.create_task(run.run())
                await until(lambda: task.done() or me.originals().total() == 4)
                stalled.released.set()
                await task
            refused(run, "no-space")
            disk = os.statvfs(tmp_path / "disk")
            assert disk.f_bavail * disk.f_frsize >= kept_bytes


# -- names that the file system does not take ------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL])
async def test_a_name_that_the_file_system_refuses_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    """As eCryptfs refuses more than 143 bytes, and ZFS with utf8only what is no UTF-8."""
    refuse_long_names(monkeypatch, number)
    library = photos(3)
    bad = library.upload("x" * 200 + ".jpg", content("bad"), taken_at=NOON)
    async with mirrored(tmp_path, library) as me:
        for _ in range(2):
            run = await me.run()
            assert run.report.error is None, describe(run)
            assert [failed.error.code for failed in run.report.failures] == ["conflict"]
            assert len(files(me.root)) == 3
        library.rename(bad.id, "short.jpg")
        me.sandbox.requests.clear()
        await me.synced()
        assert me.originals() == {}
        assert (me.root / "2020/06/15/short.jpg").read_bytes() == content("bad")
        library.rename(bad.id, "y" * 200 + ".jpg")
        run = await me.run()
        assert [failed.error.code for failed in run.report.failures] == ["conflict"]
        assert (me.root / "2020/06/15/short.jpg").read_bytes() == content("bad")
        library.delete(bad.id)
        await me.synced()


def refuse_long_names(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What the kernel says on such a file system, of which there is none here."""

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*args: Any, **named: Any) -> Any:
            if any(isinstance(arg, str) and len(Path(arg).name) > 143 for arg in args):
                raise OSError(number, os.strerror(number))
            return call(*args, **named)

        return checked

    monkeypatch.setattr(folder_module, "_renameat2", None)
    for name in ("stat", "open", "link", "rename", "replace", "mkdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
