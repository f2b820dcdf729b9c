"""The mirrors of a profile run at once, and what one of them meets is no other's."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.core.model import Destination, Mirror
from mirror.core.report import Report
from mirror.core.secret import LiteralSecret
from mirror.destinations.identity import Known
from mirror.errors import ExitCode
from mirror.events import Event
from mirror.options import Options
from mirror.profile import Account, Profile
from mirror.progress import Silent
from mirror.sandbox import Library, Sandbox
from mirror.sandbox.faults import Corrupted, Rule, Stalled
from mirror.session import Session
from tests.integration.command import mirror
from tests.integration.mirroring import (
    NOON,
    content,
    empty,
    files,
    photos,
    until,
    with_member,
)

Log = list[dict[str, object]]


def account(name: str, sandbox: Sandbox, key: str = "minimum") -> Account:
    return Account(name=name, server=sandbox.url, api_key=LiteralSecret(sandbox.api_keys[key]))


def profile(folder: Path, *accounts: Account, transfers: int = 8) -> Profile:
    """A mirror for each account, into a folder of its name."""
    mirrors = tuple(
        Mirror(
            name=each.name,
            account=each.name,
            transfers=transfers,
            destinations=(Destination(path=str(folder / each.name), min_free_bytes=0),),
        )
        for each in accounts
    )
    by_name = {each.name: each for each in accounts}
    return Profile(name="family", path=folder / "family.toml", accounts=by_name, mirrors=mirrors)


def session(folder: Path) -> Session:
    return Session(options=Options(), known=Known(folder / "state"), progress=Silent())


async def synced(folder: Path, *accounts: Account) -> dict[str, Report]:
    """The report of each mirror."""
    what, with_ = profile(folder, *accounts), session(folder)
    await with_.run(what, what.mirrors)
    return {report.mirror: report for report in with_.reports}


def originals(sandbox: Sandbox) -> int:
    return sum(request.original_of is not None for request in sandbox.requests)


def ended(log: Log) -> list[object]:
    return [line["mirror"] for line in log if line["event"] == Event.MIRROR_END.value]


def stalled(sandbox: Sandbox, path: str) -> tuple[Rule, Callable[[], None]]:
    """From now on nothing comes from there; the second lets it come."""
    effect = Stalled()
    return sandbox.faults.add(effect, path=path), effect.released.set


# -- nobody waits for another ----------------------------------------------------------------------


async def test_a_server_that_does_not_answer_holds_up_nobody(tmp_path: Path, log: Log) -> None:
    async with Sandbox(photos(3)) as dead, Sandbox(photos(20)) as alive:
        _, release = stalled(dead, "/api/*")
        what, with_ = (
            profile(tmp_path, account("dead", dead), account("alive", alive)),
            session(tmp_path),
        )
        running = asyncio.create_task(with_.run(what, what.mirrors))
        await until(lambda: ended(log) == ["alive"])
        release()
        await running
    assert ended(log) == ["alive", "dead"]
    assert [report.mirror for report in with_.reports] == ["dead", "alive"]
    assert all(report.exit_code is ExitCode.OK for report in with_.reports)


async def test_downloads_that_do_not_come_leave_connections_for_another_server(
    tmp_path: Path, log: Log
) -> None:
    async with Sandbox(library_of("dead", 30)) as dead, Sandbox(library_of("alive", 40)) as alive:
        rule, release = stalled(dead, "/api/assets/*/original")
        _, let_list = stalled(alive, "/api/search/*")
        what, with_ = (
            profile(tmp_path, account("dead", dead), account("alive", alive)),
            session(tmp_path),
        )
        running = asyncio.create_task(with_.run(what, what.mirrors))
        await until(lambda: rule.met == 3)  # one is kept
        let_list()
        await until(lambda: ended(log) == ["alive"])
        release()
        await running
    assert len(files(tmp_path / "dead")) == 30


async def test_log_lines_name_their_own_mirror(tmp_path: Path, log: Log) -> None:
    async with Sandbox(library_of("a", 30)) as one, Sandbox(library_of("b", 30)) as two:
        await synced(tmp_path, account("a", one), account("b", two))
    lines = [line for line in log if line["event"] == "asset.downloaded"]
    assert len(lines) == 60
    for line in lines:
        assert str(line["path"]).rpartition("/")[2].startswith(str(line["mirror"]))
        assert line["account"] == line["mirror"]
        assert str(line["destination"]).endswith(f"/{line['mirror']}")


async def test_an_interruption_is_told_of_every_mirror(tmp_path: Path, log: Log) -> None:
    async with Sandbox(photos(3)) as dead, Sandbox(library_of("b", 30)) as slow:
        stalled(dead, "/api/*")
        rule, _ = stalled(slow, "/api/assets/*/original")
        what, with_ = (
            profile(tmp_path, account("dead", dead), account("slow", slow)),
            session(tmp_path),
        )
        running = asyncio.create_task(with_.run(what, what.mirrors))
        await until(lambda: rule.met)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert [report.exit_code for report in with_.reports] == [ExitCode.INTERRUPTED] * 2
    assert sorted(map(str, ended(log))) == ["dead", "slow"]


async def test_accounts_of_one_name_in_two_profiles_are_two(tmp_path: Path) -> None:
    async with Sandbox(library_of("a", 3)) as one, Sandbox(library_of("b", 4)) as two:
        first = profile(tmp_path / "1", account("me", one))
        second = profile(tmp_path / "2", account("me", two))
        with_ = session(tmp_path)
        await with_.run_all([(first, first.mirrors), (second, second.mirrors)])
    assert [len(report.outcomes) for report in with_.reports] == [3, 4]


# -- the same bytes --------------------------------------------------------------------------------


def library_of(name: str, count: int) -> Library:
    """Photos that no other name has."""
    library = empty()
    for number in range(count):
        library.upload(f"{name}_{number:04}.jpg", content(f"{name} {number}"), taken_at=NOON)
    return library


async def test_the_same_photo_of_two_accounts_is_asked_for_once(tmp_path: Path) -> None:
    async with Sandbox(photos(50, 2000)) as one, Sandbox(photos(50, 2000)) as two:
        reports = await synced(tmp_path, account("a", one), account("b", two))
        assert originals(one) + originals(two) == 50
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert len(files(tmp_path / "a")) == 50
    assert {report.exit_code for report in reports.values()} == {ExitCode.OK}
    assert sum(report.received_bytes for report in reports.values()) == 50 * 2000


async def test_who_waits_for_a_download_that_fails_asks_itself(tmp_path: Path) -> None:
    async with Sandbox(photos(1)) as bad, Sandbox(photos(1)) as good:
        photo = bad.library.named("IMG_0000.jpg")
        bad.faults.add(Corrupted(), asset_id=photo.id)
        effect = Stalled()
        bad.faults.add(effect, asset_id=photo.id, times=1)
        what = profile(tmp_path, account("bad", bad), account("good", good))
        with_ = session(tmp_path)
        _, let_list = stalled(good, "/api/search/*")
        running = asyncio.create_task(with_.run(what, what.mirrors))
        await until(lambda: originals(bad))
        let_list()
        await asyncio.sleep(0.3)  # time enough to ask for it
        assert originals(good) == 0
        effect.released.set()
        await running
    broken, whole = with_.reports
    assert broken.exit_code is ExitCode.PARTIAL
    assert whole.exit_code is ExitCode.OK
    assert len(files(tmp_path / "good")) == 1


async def test_photos_of_an_external_library_are_never_taken_for_one_another(
    tmp_path: Path,
) -> None:
    """Their checksum is that of a path, which two servers may both have."""
    one, two = photos(1), photos(1)
    for library, data in ((one, b"one"), (two, b"two")):
        asset = library.named("IMG_0000.jpg")
        asset.library_id = "5f0c32d7-8df1-4b0c-a1c8-3a0f6c5ef3c1"
        asset.original_path, asset.path_checksum = "/external/IMG_0000.jpg", True
        library.replace(asset.id, data)
    async with Sandbox(one) as first, Sandbox(two) as second:
        await synced(tmp_path, account("a", first), account("b", second))
    assert next((tmp_path / "a").rglob("*.jpg")).read_bytes() == b"one"
    assert next((tmp_path / "b").rglob("*.jpg")).read_bytes() == b"two"


# -- through the command line ----------------------------------------------------------------------


# A thousand of them take twenty seconds.
SHARED = 1000 if os.environ.get("MIRROR_SLOW") else 200


def family() -> Library:
    """Two who have the same photos and some of their own, and one whose key is revoked."""
    library = empty()
    for name in ("Alice", "Bob", "Carol"):
        with_member(library, name)
    users = {user.name: user.id for user in library.users.values()}
    for name in ("Alice", "Bob"):
        for number in range(SHARED):
            library.upload(
                f"IMG_{number:04}.jpg",
                content(number),
                taken_at=NOON,
                owner_id=users[name],
                is_favorite=number < 10,
            )
        library.upload(f"{name}.jpg", content(name), taken_at=NOON, owner_id=users[name])
    library.upload("carol.jpg", content("Carol"), taken_at=NOON, owner_id=users["Carol"])
    return library


async def test_a_family_with_one_revoked_key(tmp_path: Path) -> None:
    async with Sandbox(family()) as sandbox:
        sandbox.key("carol").revoked = True
        write_family(tmp_path, sandbox)
        first = await mirror(tmp_path, "sync", "family")
        asked = [request.original_of for request in sandbox.requests if request.original_of]
        sandbox.requests.clear()
        again = await mirror(tmp_path, "sync", "family")
        assert originals(sandbox) == 0

    names = {asset.id: asset.original_file_name for asset in sandbox.library.assets.values()}
    assert sorted(names[one] for one in asked) == sorted(
        [*(f"IMG_{number:04}.jpg" for number in range(SHARED)), "Alice.jpg", "Bob.jpg"]
    )
    for code, told in ((first.code, first.out), (again.code, again.out)):
        assert code == 3
        assert [line.split(" -> ")[0] for line in told.splitlines() if " -> " in line] == [
            "alice", "carol", "bob", "favourites",
        ]  # fmt: skip
    assert f"carol -> {tmp_path}/carol: nothing done" in first.out
    ends = [line for line in first.lines if line["event"].endswith(".end")]
    *of_mirrors, end = ends
    assert [line["mirror"] for line in of_mirrors if line["exit_code"]] == ["carol"]
    assert end["exit_code"] == 3
    assert end["counts"] == {"downloaded": SHARED + 2, "copied": SHARED + 10}
    assert f"alice -> {tmp_path}/alice: {SHARED + 1} unchanged" in again.out
    assert f"favourites -> {tmp_path}/favourites: 10 unchanged" in again.out
    assert len(files(tmp_path / "alice")) == len(files(tmp_path / "bob")) == SHARED + 1


def write_family(home: Path, sandbox: Sandbox) -> None:
    """Four mirrors of three accounts."""
    folder = home / ".config" / "mirror" / "profiles"
    folder.mkdir(parents=True)
    text = [f'server = "{sandbox.url}"', "[defaults]", "min_free = 0"]
    for name in ("alice", "bob", "carol"):
        key = home / f"{name}.key"
        key.write_text(sandbox.api_keys[name])
        text += [f"[accounts.{name}]", f'api_key = {{ file = "{key}" }}']
    for name in ("alice", "carol", "bob", "favourites"):
        text += [f"[mirrors.{name}]", f'account = "{name if name != "favourites" else "bob"}"']
        text += ["filter = { favorite = true }"] if name == "favourites" else []
        text += [f"[[mirrors.{name}.destinations]]", f'path = "{home / name}"']
    (folder / "family.toml").write_text("\n".join(text) + "\n")
