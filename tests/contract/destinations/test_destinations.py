"""What every kind of destination promises, on every kind that this machine has."""

import hashlib
import io
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from mirror.core.layout import fold
from mirror.core.model import EntryKind
from mirror.destinations import MARKER, PARTIAL, STATE, OpenDestination, concerns_path, partial
from mirror.errors import LockedError, NotOursError
from tests.contract.destinations.places import (
    BUCKETS,
    POOR,
    REAL,
    SECOND_NS,
    Hands,
    mounted,
    opened,
    serving,
    serving_sftp,
)

KINDS = [
    *("folder", "bucket", "sftp, openssh", "sftp, rclone", "memory"),
    *(f"memory, {name}" for name in POOR),
    *REAL,
    pytest.param("bucket of Ceph", marks=pytest.mark.ceph),
]
# What is known of some, whatever they say of themselves.
TOLD = {
    "ext4": {
        "hard_links": True,
        "reflinks": False,
        "folds_case": False,
        "mtime_step_ns": 1,
        "mtime_least_s": -(2**31),
        "mtime_most_s": 15_032_385_535,
        "folder_sync": True,
        "flock": True,
        "no_overwrite_rename": True,
    },
    "exfat": {"hard_links": False, "folds_case": True, "mtime_step_ns": SECOND_NS},
    "ntfs": {"folds_case": True, "mtime_step_ns": 100, "no_overwrite_rename": False},
    "memory, all of it": {
        "hard_links": False,
        "folds_case": True,
        "mtime_step_ns": 2 * SECOND_NS,
        "mtime_least_s": 315_532_800,
        "folder_sync": False,
        "flock": False,
        "no_overwrite_rename": False,
    },
}
_numbers = itertools.count(1)


class Place(NamedTuple):
    kind: str
    there: OpenDestination
    hands: Hands

    def bring(self, path: str, data: bytes = b"data", mtime_ns: int = 7 * SECOND_NS) -> None:
        """A file of ours, as a run puts it in place."""
        name = str(next(_numbers))
        with closing(self.there.open_partial(name)) as new:
            new.write(data)
            new.finish(mtime_ns)
        self.there.move(partial(name), path)

    def found(self) -> dict[str, tuple[EntryKind, int, int]]:
        """What a scan finds, by folded path."""
        return {
            fold(path.decode()): (kind, size, time) for path, kind, size, time in self.there.scan()
        }


@pytest.fixture(params=KINDS, scope="module")
def disk(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """A kind of destination, and where folders of it can be made."""
    kind: str = request.param
    # Not among pytest's own, which it clears away while something is mounted there.
    with TemporaryDirectory() as name:
        folder = Path(name)
        with _made(kind, folder, request) as place:
            yield kind, place


def _made(kind: str, folder: Path, request: pytest.FixtureRequest) -> AbstractContextManager[Path]:
    if kind in REAL:
        return mounted(kind, folder)
    if kind == "bucket of Ceph":
        return serving(folder, request.getfixturevalue("ceph"))
    if kind.startswith("sftp"):
        return serving_sftp(kind.removeprefix("sftp, "), folder)
    return serving(folder) if kind == "bucket" else nullcontext(folder)


@pytest.fixture
def place(disk: tuple[str, Path]) -> Iterator[Place]:
    kind, folder = disk
    with opened(kind, folder / f"root{next(_numbers)}") as (there, hands):
        yield Place(kind, there, hands)


# -- looking ---------------------------------------------------------------------------------------


def test_a_scan_is_in_byte_order_and_leaves_our_own_state_out(place: Place):
    for path in ("b", "a/z", "a/b/c", "a.jpg", "a-1.jpg", "a b", "é"):
        place.hands.put(path)
    found = [path for path, *_ in place.there.scan()]
    assert found == sorted(found)
    assert b"a/" in found
    assert not any(path.startswith(b".mirror") for path in found)
    assert len(found) == 9


def test_a_scan_and_a_look_say_the_same_of_a_file(place: Place):
    place.hands.put("2020/a.jpg", b"1234", 1_500_000_000 * SECOND_NS)
    place.hands.put("2020/b.jpg", b"")
    for path, kind, size_bytes, mtime_ns in place.there.scan():
        entry = place.there.entry(path.decode().rstrip("/"))
        assert entry is not None
        assert (entry.kind, entry.size_bytes, entry.mtime_ns) == (kind, size_bytes, mtime_ns)
    assert place.found()["2020/a.jpg"][:2] == (EntryKind.FILE, 4)


def test_nothing_lies_where_nothing_is(place: Place):
    place.hands.put("file")
    for path in ("nothing", "no/thing", "file/below"):
        assert place.there.entry(path) is None
        with pytest.raises(OSError, match=r"irectory") as refused:
            place.there.sha1(path)
        assert concerns_path(refused.value)


def test_a_hash_is_of_all_bytes(place: Place):
    data = bytes(range(256)) * 10_000
    place.hands.put("a/b", data)
    assert place.there.sha1("a/b") == hashlib.sha1(data).digest()
    assert b"".join(place.there.pieces("a/b")) == data


def test_a_folder_is_one(place: Place):
    place.hands.put("folder/file")
    entry = place.there.entry("folder")
    assert entry is not None
    assert entry.kind is EntryKind.FOLDER
    with pytest.raises(OSError, match="irectory"):
        place.there.sha1("folder")


def test_another_destination_inside_is_refused(place: Place):
    place.hands.put(f"inside/{STATE}/{MARKER}")
    with pytest.raises(NotOursError, match="inside"):
        list(place.there.scan())


def test_one_inside_is_found_before_there_is_a_place_of_our_own(place: Place):
    place.there.check_alone()
    place.hands.put(f"a/inside/{STATE}/{MARKER}")
    with pytest.raises(NotOursError, match="inside"):
        place.there.check_alone()


def test_a_link_is_not_followed_and_one_to_a_folder_is_refused(place: Place):
    place.hands.put("folder/file")
    try:
        place.hands.link("link", "folder/file")
    except OSError:
        pytest.skip("no symbolic links here")
    entry = place.there.entry("link")
    assert entry is not None
    assert entry.kind is EntryKind.LINK
    for attempt in (lambda: place.there.sha1("link"), lambda: place.there.clone("link", "1", 0)):
        with pytest.raises(OSError, match="symbolic"):
            attempt()
    place.hands.link("other", "folder")
    with pytest.raises(NotOursError):
        list(place.there.scan())
    assert place.there.entry("other/file") is None


def test_what_it_can_do_is_what_happens(place: Place):
    can = place.there.probe()
    assert place.there.work_files(PARTIAL) == []
    if place.kind in TOLD:
        assert {name: getattr(can, name) for name in TOLD[place.kind]} == TOLD[place.kind]

    place.bring("a.jpg", mtime_ns=can.mtime_least_s * SECOND_NS)
    place.bring("b.jpg", mtime_ns=can.mtime_most_s * SECOND_NS)
    held = [place.found()[path][2] // SECOND_NS for path in ("a.jpg", "b.jpg")]
    step_s = can.mtime_step_ns / SECOND_NS
    furthest = 2**63 // SECOND_NS  # what an index can hold
    for got, told in zip(held, (can.mtime_least_s, can.mtime_most_s), strict=True):
        assert abs(got - max(-furthest, min(told, furthest))) <= max(step_s, 1)
    assert (place.there.entry("A.JPG") is not None) is can.folds_case
    try:
        place.hands.link_hard("a.jpg", "c.jpg")
    except OSError:
        assert not can.hard_links
    else:
        assert can.hard_links


def test_there_is_room(place: Place):
    assert place.there.free_bytes() > 1 << 20


# -- partial files ---------------------------------------------------------------------------------


def test_what_is_written_is_what_lies_there(place: Place):
    place.bring("2020/06/a.jpg", b"data")
    assert place.hands.get("2020/06/a.jpg") == b"data"
    assert place.there.work_files(PARTIAL) == []
    assert place.there.sha1("2020/06/a.jpg") == hashlib.sha1(b"data").digest()


def test_a_partial_file_is_taken_up_where_it_was_left(place: Place):
    data = bytes(range(256)) * 9_000
    with closing(place.there.open_partial("1")) as new:
        new.write(data[:1_500_000])
        new.write(data[1_500_000:2_000_000])
    with closing(place.there.open_partial("1")) as new:
        assert b"".join(iter(new.read, b"")) == data[:2_000_000]
        new.write(data[2_000_000:])
        assert new.finish(SECOND_NS).size_bytes == len(data)
    assert place.there.sha1(partial("1")) == hashlib.sha1(data).digest()


def test_what_was_longer_is_cut(place: Place):
    for begin_anew in (False, True):
        with closing(place.there.open_partial("1")) as new:
            new.write(b"something much longer")
        with closing(place.there.open_partial("1")) as new:
            if begin_anew:
                new.read()
                new.restart()
            new.write(b"new")
            assert new.finish(SECOND_NS).size_bytes == 3
        assert place.there.sha1(partial("1")) == hashlib.sha1(b"new").digest()


def test_what_begins_anew_holds_nothing_until_it_is_written(place: Place):
    with closing(place.there.open_partial("1")) as new:
        new.write(b"old")
        new.restart()
    with closing(place.there.open_partial("1")) as new:
        assert new.read() == b""
        assert new.finish(0).size_bytes == 0


def test_what_another_file_holds_is_taken_whole_or_not_at_all(place: Place, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"data")
    with (tmp_path / "file").open("rb") as file, closing(place.there.open_partial("1")) as new:
        taken = new.take(file)
        assert new.read() == (b"data" if taken else b"")
        assert isinstance(file, io.BufferedReader)


@pytest.mark.parametrize(
    "mtime_ns",
    [-(10**19), -(2**40), -1, 0, 1_500_000_001_123_456_789, 315_532_799 * SECOND_NS, 2**63, 10**19],
)
def test_a_date_is_told_as_it_is_held(place: Place, mtime_ns: int):
    with closing(place.there.open_partial("1")) as new:
        new.write(b"1234")
        written = new.finish(mtime_ns)
    place.there.move(partial("1"), "a.jpg")
    entry = place.there.entry("a.jpg")
    assert entry is not None
    assert (entry.size_bytes, entry.mtime_ns) == (4, written.mtime_ns)
    assert place.found()["a.jpg"] == (EntryKind.FILE, 4, written.mtime_ns)
    assert -(2**63) <= written.mtime_ns < 2**63


def test_a_partial_file_that_has_its_name_too_begins_anew(place: Place):
    place.bring("a.jpg", b"whole")
    try:
        place.hands.link_hard("a.jpg", partial("1"))
    except OSError:
        pytest.skip("no hard links here")
    with closing(place.there.open_partial("1")) as new:
        assert new.read() == b""
        new.write(b"other")
        new.finish(0)
    assert place.hands.get("a.jpg") == b"whole"


# -- putting in place ------------------------------------------------------------------------------


def test_a_move_keeps_bytes_and_time_and_makes_folders(place: Place):
    place.bring("a", b"data")
    before = place.found()["a"]
    place.there.move("a", "x/y/b")
    assert place.found()["x/y/b"] == before
    assert place.hands.get("x/y/b") == b"data"
    assert place.there.entry("a") is None


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_move_never_overwrites(place: Place, kind: str):
    place.hands.put("a", b"new")
    if kind == "file":
        place.hands.put("b", b"old")
    else:
        place.hands.make_folder("b")
    with pytest.raises(FileExistsError):
        place.there.move("a", "b")
    assert place.hands.get("a") == b"new"
    assert kind != "file" or place.hands.get("b") == b"old"


def test_a_move_to_where_a_folder_would_have_to_be_a_file_is_refused(place: Place):
    place.hands.put("a")
    place.hands.put("file")
    with pytest.raises(OSError, match="irectory") as refused:
        place.there.move("a", "file/below")
    assert concerns_path(refused.value)
    assert place.hands.paths() == {"a", "file"}


def test_a_move_of_nothing_says_so(place: Place):
    with pytest.raises(FileNotFoundError):
        place.there.move("nothing", "b")


def test_only_the_case_of_a_name_changes_by_way_of_another_name(place: Place):
    place.bring("2020/img.jpg", b"data")
    place.there.move("2020/img.jpg", f"{STATE}/moving/1")
    place.there.move(f"{STATE}/moving/1", "2020/IMG.jpg")
    assert place.hands.get("2020/IMG.jpg") == b"data"
    assert list(place.found()) == [fold("2020/"), fold("2020/IMG.jpg")]


def test_names_that_differ_in_case_are_one_name_or_two(place: Place):
    place.bring("a.jpg", b"first")
    try:
        place.bring("A.JPG", b"second")
    except FileExistsError:
        assert place.hands.get("a.jpg") == b"first"
    else:
        assert (place.hands.get("a.jpg"), place.hands.get("A.JPG")) == (b"first", b"second")


@pytest.mark.parametrize("name", ["e\u0301.jpg", "\u00e9.jpg"])
def test_a_name_is_found_again_however_it_is_kept(place: Place, name: str):
    place.bring(name, b"data")
    assert place.there.sha1(name) == hashlib.sha1(b"data").digest()
    assert list(place.found()) == [fold(name)]


@pytest.mark.parametrize("name", ["bad\udcff.jpg", "a:b.jpg", 'a"b', "n" * 256, "new\nline"])
def test_a_name_that_cannot_be_is_refused_and_nothing_else(place: Place, name: str):
    place.bring("a", b"data")
    refused: OSError | None = None
    try:
        place.there.move("a", name)
    except OSError as error:
        refused = error
    assert refused is None or concerns_path(refused), refused
    assert place.there.sha1("a" if refused else name) == hashlib.sha1(b"data").digest()


def test_what_is_set_aside_goes_over_what_lies_there(place: Place):
    place.hands.put(f"{STATE}/damaged/1", b"older")
    place.bring("a", b"newer")
    place.there.set_aside("a", f"{STATE}/damaged/1")
    assert place.hands.get(f"{STATE}/damaged/1") == b"newer"
    assert place.there.work_files("damaged") == ["1"]


def test_a_clone_is_cut_dated_and_proved_by_what_it_reads_back(place: Place):
    place.bring("a", b"data")
    with closing(place.there.open_partial("1")) as new:
        new.write(b"something much longer")
    written, sha1 = place.there.clone("a", "1", 1_500_000_000 * SECOND_NS)
    entry = place.there.entry(partial("1"))
    assert entry is not None
    assert (entry.size_bytes, entry.mtime_ns) == (written.size_bytes, written.mtime_ns)
    assert written.size_bytes == 4
    assert sha1 == hashlib.sha1(b"data").digest()
    assert place.hands.get("a") == b"data"


def test_a_move_that_was_cut_in_the_middle_is_ended(place: Place):
    place.bring("a", b"data")
    place.bring("b", b"data")
    try:
        place.hands.link_hard("a", "c")
    except OSError:
        pytest.skip("no hard links here")
    assert place.there.is_same_file("a", "c")
    assert not place.there.is_same_file("a", "b")
    assert not place.there.is_same_file("a", "nothing")
    with pytest.raises(ValueError, match="is not"):
        place.there.unlink_second_name("b", "a")
    place.there.unlink_second_name("c", "a")
    assert place.hands.paths() == {"a", "b"}


def test_another_spelling_of_its_only_name_costs_no_file(place: Place):
    place.bring("img.jpg", b"data")
    if place.there.is_same_file("img.jpg", "IMG.jpg"):
        place.there.unlink_second_name("img.jpg", "IMG.jpg")
    assert place.hands.get("img.jpg") == b"data"


def test_empty_folders_above_a_path_go_up_to_the_root(place: Place):
    place.hands.put("a/b/c/gone.jpg")
    place.hands.put("d/file")
    if place.kind not in BUCKETS:
        place.hands.make_folder("d/e")
    place.there.move("a/b/c/gone.jpg", "moved.jpg")
    place.there.drop_empty_folders("a/b/c/gone.jpg")
    place.there.drop_empty_folders("d/e/gone.jpg")
    place.there.drop_empty_folders("gone.jpg")
    assert list(place.found()) == ["d/", "d/file", "moved.jpg"]


@pytest.mark.parametrize("path", ["../out.jpg", "a/../../out.jpg", "/out.jpg", "a//b", "./a"])
def test_a_path_that_leads_elsewhere_is_no_path(place: Place, path: str):
    place.hands.put("source")
    with pytest.raises(ValueError, match="not a name"):
        place.there.move("source", path)
    assert place.hands.paths() == {"source"}


def test_a_batch_does_what_single_steps_do(place: Place):
    with place.there.batch():
        for number in range(100):
            place.bring(f"{number % 7}/{number}", str(number).encode())
        place.there.move("3/3", "8/3")
        place.there.drop_empty_folders("3/3")
    place.there.make_durable()
    assert len(place.hands.paths()) == 100
    assert place.hands.get("8/3") == b"3"


# -- our own state ---------------------------------------------------------------------------------


def test_only_work_files_can_be_dropped(place: Place):
    place.hands.put("photo.jpg")
    with pytest.raises(ValueError, match="not a work file"):
        place.there.drop("photo.jpg")
    place.there.open_partial("1").close()
    place.there.open_partial("2").close()
    place.there.drop(partial("1"))
    place.there.drop(partial("1"))
    assert place.there.work_files(PARTIAL) == ["2"]
    assert place.there.work_files("no such") == []
    assert place.hands.paths() == {"photo.jpg"}


@pytest.mark.parametrize("count", [3, 20])
def test_our_own_files_that_are_gone_are_told(place: Place, count: int):
    paths = [f"{STATE}/quarantine/run/2020/{number}.jpg" for number in range(count)]
    for path in paths[1:]:
        place.hands.put(path)
    assert place.there.gone(paths) == paths[:1]
    assert place.there.gone([]) == []


def test_one_of_our_own_files_is_replaced_whole(place: Place):
    assert place.there.read_state("x.json") is None
    place.there.write_state("x.json", [b"old and long"])
    place.there.write_state("x.json", [b"new", b"!"])
    assert place.there.read_state("x.json") == b"new!"

    def failing() -> Iterator[bytes]:
        yield b"half"
        raise KeyError("the index")

    with pytest.raises(KeyError):
        place.there.write_state("x.json", failing())
    assert place.there.read_state("x.json") == b"new!"


def test_one_run_holds_it(place: Place):
    place.there.check_free()
    with place.there.locked():
        with pytest.raises(LockedError, match="in use"):
            place.there.check_free()
        with pytest.raises(LockedError, match="in use"), place.there.locked():
            pass
    place.there.check_free()
    with place.there.locked():
        pass
    assert place.there.read_state("lock") is None
