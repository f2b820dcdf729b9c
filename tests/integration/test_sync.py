"""First runs, second runs, and that nothing is touched which need not be."""

import asyncio
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.core.layout import fold
from mirror.core.model import Choice, Filter, Mirror, NameRules
from mirror.destinations.identity import Known
from mirror.sandbox import Library, Sandbox, load_library
from mirror.sandbox.content import Filler
from mirror.sandbox.server import Request
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    contents,
    counts,
    empty,
    files,
    mirrored,
    names_in,
    photos,
    tree,
    wanted,
    whole,
)

RECORDINGS = Path(__file__).parents[1] / "contract/recordings"


async def test_a_first_run_brings_everything_and_a_second_one_nothing(tmp_path: Path):
    async with mirrored(tmp_path) as me:
        run = await me.synced()
        assert counts(run) == {"downloaded": len(wanted(me.library))}
        assert sorted(files(me.root).values()) == sorted(contents(wanted(me.library)).elements())
        await me.assert_settled()


@pytest.mark.parametrize("version", ["2.7.5", "3.1.0"])
async def test_a_recorded_library_arrives_whole(tmp_path: Path, version: str):
    library = load_library(RECORDINGS / version / "library.json")
    for asset in library.assets.values():
        if asset.content.size_bytes > 8 << 20:
            asset.content = Filler(b"long video", 8 << 20)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        arrived = files(me.root)
        assert sorted(arrived.values()) == sorted(contents(wanted(library)).elements())
        assert len({fold(path) for path in arrived}) == len(arrived)
        assert all(count == 1 for count in me.originals().values())
        await me.assert_settled()


async def test_an_empty_account_is_in_sync(tmp_path: Path):
    async with mirrored(tmp_path, empty()) as me:
        await me.synced()
        assert tree(me.root) == {}
        await me.assert_settled()


async def test_a_photo_is_dated_by_the_instant_it_was_taken(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        path = me.root / "2020/06/15/IMG_0000.jpg"
        assert path.stat().st_mtime == 1592222400


# -- names that strangers chose --------------------------------------------------------------------

HOSTILE = (
    "../../outside.jpg",
    "/etc/absolute.jpg",
    "..",
    "a\nnew line.jpg",
    "back\\slash.jpg",
    "a\r\tb.jpg",
    "CON.jpg",
    "trailing. ",
    "🏖️👨‍👩‍👧‍👦.jpg",
    "x" * 1000 + ".jpg",
    "é" * 500 + ".jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "CAFÉ.JPG",
    "\u202egpj.exe",
    ".mirror",
    ".mirror/index.sqlite3",
    "-rf.jpg",
    "no extension",
    "",
)


def hostile_library() -> Library:
    library = empty()
    for number, name in enumerate(HOSTILE):
        library.upload("x.jpg", content(number), taken_at=NOON)
        library.rename(library.named("x.jpg").id, name)
    for year in (1900, 2038, 9999):
        library.upload(f"{year}.jpg", content(year), taken_at=datetime(year, 1, 2, 3, tzinfo=UTC))
    return library


@pytest.mark.parametrize("names", list(NameRules))
@pytest.mark.parametrize("layout", ["{taken:%Y/%m/%d}/{filename}", "{filename}", "{stem}/{id8}"])
async def test_hostile_names_arrive_inside_the_root_and_stay(
    tmp_path: Path, names: NameRules, layout: str
):
    library = hostile_library()
    mirror = Mirror(name="me", account="me", names=names, layout=layout)
    async with mirrored(tmp_path / "a/b", library, mirror=mirror) as me:
        await me.synced()
        arrived = files(me.root)
        assert sorted(arrived.values()) == sorted(contents(wanted(library)).elements())
        assert len({fold(path) for path in arrived}) == len(arrived)
        assert names_in(tmp_path) == {"a"}
        assert names_in(tmp_path / "a/b") == {"state", "tree"}
        assert (me.root / ".mirror/index.sqlite3").stat().st_mode & 0o111 == 0
        await me.assert_settled()
        (me.root / ".mirror/index.sqlite3").unlink()
        assert set(counts(await me.synced())) == {"adopted"}
        assert files(me.root) == arrived


@pytest.mark.parametrize("names", list(NameRules))
async def test_coreutils_accepts_the_list_of_checksums(tmp_path: Path, names: NameRules):
    async with mirrored(tmp_path, hostile_library()) as me:
        me.mirror = replace(me.mirror, names=names)
        await me.synced()
        judged = await checked_by_coreutils(me.root)
        assert judged == len(files(me.root))
        (me.root / "1900/01/02/1900.jpg").write_bytes(b"broken")
        with pytest.raises(AssertionError, match="1900"):
            await checked_by_coreutils(me.root)


async def checked_by_coreutils(root: Path) -> int:
    """How many files it found intact."""
    judge = shutil.which("sha1sum")
    if judge is None:
        pytest.skip("coreutils is not here")
    command = [judge, "--check", "--strict", ".mirror/SHA1SUMS"]
    told = await asyncio.to_thread(
        subprocess.run, command, cwd=root, capture_output=True, check=False
    )
    assert told.returncode == 0, told.stdout.decode()
    return sum(line.endswith(b": OK") for line in told.stdout.splitlines())


# -- nothing outside -------------------------------------------------------------------------------

# Calls that change something under a name, or through a descriptor; strace writes paths for both.
_CHANGING = re.compile(
    r"^\d+\s+(?P<call>rename\w*|link\w*|symlink\w*|unlink\w*|mkdir\w*|rmdir|chmod|fchmod\w*|chown|"
    r"fchown\w*|utime\w*|futimes\w*|truncate|ftruncate|mknod\w*|creat|open\w*)\((?P<rest>.*)$"
)
_FOLDER_AND_NAME = re.compile(r'(?:AT_FDCWD<(?P<cwd>[^>]*)>|\d+<(?P<fd>[^>]*)>), "(?P<name>[^"]*)"')
_FIRST = re.compile(r'^(?:"(?P<path>[^"]*)"|\d+<(?P<fd>[^>]*)>)')


def touched(trace: str) -> Iterator[tuple[str, str]]:
    """Each call that changed something, and the path that it was about."""
    for line in trace.splitlines():
        found = _CHANGING.match(line)
        if found is None or " = -1 E" in line:
            continue
        call, rest = found["call"], found["rest"]
        if call.startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest):
            continue
        pairs = list(_FOLDER_AND_NAME.finditer(rest))
        for pair in pairs:
            yield call, os.path.join(pair["cwd"] or pair["fd"] or "", pair["name"])  # noqa: PTH118 (an absolute name wins)
        first = _FIRST.match(rest)
        if not pairs and first is not None:
            yield call, first["path"] or first["fd"]


async def test_no_system_call_changes_anything_outside_the_destination(tmp_path: Path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    trace = tmp_path / "trace"
    async with mirrored(tmp_path, hostile_library()) as me:
        me.known = None
        ended = await me.traced(trace)
        if ended.told is None and "ptrace" in ended.errors:
            pytest.skip("strace may not look at processes here")
        assert ended.told is not None, ended.errors
        assert ended.told["exit_code"] == 0, ended
        changed = list(touched(trace.read_text(errors="surrogateescape")))
        inside = [path for _, path in changed if path.startswith(f"{me.root}/")]
        assert len(inside) > 3 * len(HOSTILE)
        assert {call for call, _ in changed} >= {"mkdirat", "openat", "renameat2", "ftruncate"}
        outside = {
            (call, path)
            for call, path in changed
            if path not in {str(me.root), "/dev/null"} and not path.startswith(f"{me.root}/")
        }
        assert outside == set()


# -- only a look -----------------------------------------------------------------------------------


async def test_a_plan_of_a_new_destination_leaves_nothing_anywhere(tmp_path: Path):
    async with mirrored(tmp_path) as me:
        run = await me.planned()
        assert len(run.plan.actions) == len(wanted(me.library))
        assert names_in(tmp_path) == set()
        assert me.originals() == {}


def mixed_changes(me: Mirrored) -> None:
    """Something of everything that a plan may hold."""
    assets = [asset for asset in wanted(me.library) if asset.visibility == "timeline"]
    me.library.replace(assets[0].id, content("other"))
    me.library.redate(assets[1].id, NOON)
    me.library.trash(assets[2].id)
    me.library.upload("new.jpg", content("new"), taken_at=NOON)
    me.library.upload("copied.jpg", content("copied"), taken_at=NOON)
    (me.root / "foreign.bin").write_bytes(content("copied"))
    paths = sorted(files(me.root))
    (me.root / paths[0]).unlink()
    (me.root / paths[1]).touch()
    (me.root / paths[2]).write_bytes(b"drifted")


@pytest.mark.parametrize("killed", [False, True])
async def test_a_plan_touches_nothing_and_says_what_the_run_then_does(
    tmp_path: Path, *, killed: bool
):
    async with mirrored(tmp_path) as me:
        if killed:  # its index has commits that lie beside it
            ended = await me.child(kill={"of": ["rename"], "at": 20})
            assert ended.told is None
        else:
            await me.synced()
            mixed_changes(me)
        before = whole(tmp_path)
        planned = await me.planned()
        assert whole(tmp_path) == before
        run = await me.synced()
        assert [str(action) for action in planned.plan.actions] == list(map(str, run.plan.actions))
        assert planned.plan.unchanged == run.plan.unchanged
        await me.assert_settled()


async def test_a_run_that_was_killed_before_its_list_of_checksums_is_followed_by_one(
    tmp_path: Path,
):
    async with mirrored(tmp_path, photos(5), known=None) as me:
        ended = await me.child(kill={"of": ["replace"], "at": 2})  # the first writes the marker
        assert ended.told is None
        assert len(files(me.root)) == 5
        assert not (me.root / ".mirror/SHA1SUMS").exists()
        await me.synced()
        assert await checked_by_coreutils(me.root) == 5
        await me.assert_settled()


async def test_what_is_uploaded_into_an_excluded_album_during_the_walk_stays_out(tmp_path: Path):
    library = photos(3)
    private = library.make_album("Private", [library.named("IMG_0000.jpg").id])
    numbers = itertools.count()

    def upload(request: Request) -> None:
        """Whatever was just listed, it is outdated at once."""
        if request.original_of is None:
            secret = library.upload(f"secret{(number := next(numbers))}.jpg", content(f"s{number}"))
            secret.file_created_at = NOON
            library.add_to_album(private.id, secret.id)

    async with Sandbox(library, on_request=upload) as sandbox:
        me = Mirrored(sandbox, tmp_path / "tree", Known(tmp_path / "state"))
        exclude = (Filter(albums=Choice((private.id,))),)
        me.mirror = replace(me.mirror, exclude=exclude)
        await me.synced()
        assert next(numbers) > 3
        assert {Path(path).name for path in files(me.root)} == {"IMG_0001.jpg", "IMG_0002.jpg"}


async def test_what_is_uploaded_during_the_walk_arrives_if_nothing_excludes_it(tmp_path: Path):
    library = photos(3)
    private = library.make_album("Private", [library.named("IMG_0000.jpg").id])

    def upload(request: Request) -> None:
        if request.path.startswith("/api/search"):
            library.upload("late.jpg", content("late"), taken_at=NOON)

    async with Sandbox(library, on_request=upload) as sandbox:
        me = Mirrored(sandbox, tmp_path / "tree", Known(tmp_path / "state"))
        me.mirror = replace(me.mirror, exclude=(Filter(albums=Choice((private.id,))),))
        await me.synced()
        await me.synced()
        assert "2020/06/15/late.jpg" in files(me.root)
