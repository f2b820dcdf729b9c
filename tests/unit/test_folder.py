"""A folder as a destination: no way out of it, and nothing overwritten."""

import errno
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.core.model import Entry, EntryKind
from mirror.destinations import folder as folder_module
from mirror.destinations import partial
from mirror.destinations.folder import Folder
from mirror.errors import ExitCode, NotOursError, UnwritableError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    with Folder(root) as folder:
        folder.prepare()
        yield folder


def put(root: Path, path: str, data: bytes = b"x") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


# -- looking ---------------------------------------------------------------------------------------


def test_a_scan_is_in_byte_order_and_leaves_our_own_folder_out(root: Path, folder: Folder):
    for path in ("b", "a/z", "a/b/c", "a.jpg", "a-1.jpg", "a b", "Z", "é"):
        put(root, path)
    found = [path for path, *_ in folder.scan()]
    assert found == sorted(found)
    assert b"a/" in found
    assert not any(path.startswith(b".mirror") for path in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sets(
        st.lists(st.text("ab.-é \U0001f305", min_size=1, max_size=4), min_size=1, max_size=3).map(
            "/".join
        ),
        max_size=12,
    )
)
def test_a_scan_is_in_byte_order_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str]
):
    root = tmp_path_factory.mktemp("scan")
    for path in paths:
        parts = path.split("/")
        if not {".", ".."}.isdisjoint(parts):
            continue
        try:
            put(root, path)
        except OSError:
            continue  # a file where this one needs a folder
    with Folder(root) as folder:
        found = [path for path, *_ in folder.scan()]
    assert found == sorted(found)
    files = {path.decode() for path in found if not path.endswith(b"/")}
    assert files == {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_name_that_is_not_utf_8_is_kept_as_its_bytes(root: Path, folder: Folder):
    put(root, os.fsdecode(b"\xff.jpg"), b"data")
    ((found, kind, size_bytes, _),) = folder.scan()
    assert (found, kind, size_bytes) == (b"\xff.jpg", EntryKind.FILE, 4)
    assert folder.sha1(os.fsdecode(found)) == hashlib.sha1(b"data").digest()


def test_every_kind_of_thing_is_told_apart(root: Path, folder: Folder):
    put(root, "file", b"1234")
    (root / "folder").mkdir()
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
        told = {path: kind for path, kind, *_ in folder.scan()}
    assert told == {
        b"file": EntryKind.FILE,
        b"folder/": EntryKind.FOLDER,
        b"link": EntryKind.LINK,
        b"dangling": EntryKind.LINK,
        b"socket": EntryKind.OTHER,
    }
    for path, kind in told.items():
        name = path.decode().rstrip("/")
        assert (entry := folder.entry(name)) is not None
        assert (entry.path, entry.kind) == (name, kind)
    assert folder.entry("nothing") is None
    assert folder.entry("file/below") is None


@pytest.mark.parametrize("taken_at", [-(10**19), -(2**40), 0, 2**40, 10**19])
def test_any_date_can_be_told_to_the_index(folder: Folder, taken_at: int):
    file = folder.open_partial("1")
    written = file.finish(taken_at)
    file.close()
    folder.move(partial("1"), "a.jpg")
    ((_, _, _, mtime_ns),) = folder.scan()
    assert folder.entry("a.jpg") == Entry("a.jpg", EntryKind.FILE, 0, written.mtime_ns)
    assert mtime_ns == written.mtime_ns
    assert -(2**63) <= mtime_ns < 2**63


def test_a_link_to_a_folder_is_refused(root: Path, folder: Folder, tmp_path: Path):
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(NotOursError):
        list(folder.scan())


def test_another_destination_inside_is_refused(root: Path, folder: Folder):
    put(root, "inside/.mirror/mirror.json")
    with pytest.raises(NotOursError, match="inside"):
        list(folder.scan())


def test_a_folder_of_that_name_that_is_no_destination_is_only_a_folder(root: Path, folder: Folder):
    put(root, "inside/.mirror/notes.txt")
    assert b"inside/.mirror/notes.txt" in [path for path, *_ in folder.scan()]


def test_what_is_no_folder_cannot_be_opened(tmp_path: Path):
    put(tmp_path, "file")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(UnwritableError):
            Folder(path)


# -- no way out ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../out.jpg", "a/../../out.jpg", "/out.jpg", "a//b", "./a"])
def test_a_path_that_leads_elsewhere_is_no_path(root: Path, folder: Folder, path: str):
    put(root, "source")
    with pytest.raises(ValueError, match="not a name"):
        folder.move("source", path)
    assert not (root.parent / "out.jpg").exists()


def test_a_link_in_the_middle_of_a_path_is_not_followed(root: Path, folder: Folder, tmp_path: Path):
    outside = tmp_path / "outside"
    put(outside, "victim", b"precious")
    put(root, "source")
    (root / "link").symlink_to(outside)
    for attempt in (
        lambda: folder.move("source", "link/victim"),
        lambda: folder.move("source", "link/new/file"),
        lambda: folder.set_aside("source", "link/victim"),
        lambda: folder.move("link/victim", "stolen"),
        lambda: folder.sha1("link/victim"),
        lambda: folder.clone("link/victim", "1", 0),
    ):
        with pytest.raises(OSError, match=r"irectory|symbolic"):
            attempt()
    assert folder.entry("link/victim") is None
    folder.drop_empty_folders("link/x/y")
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"victim": b"precious"}


def test_a_link_at_the_end_of_a_path_is_not_followed(root: Path, folder: Folder, tmp_path: Path):
    victim = put(tmp_path, "victim", b"precious")
    (root / "link").symlink_to(victim)
    (root / ".mirror/partial/1").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        folder.sha1("link")
    with pytest.raises(OSError, match="symbolic"):
        folder.open_partial("1")
    put(root, "source", b"new")
    with pytest.raises(FileExistsError):
        folder.move("source", "link")
    assert victim.read_bytes() == b"precious"


def test_only_work_files_can_be_dropped(root: Path, folder: Folder):
    put(root, "photo.jpg")
    with pytest.raises(ValueError, match="not a work file"):
        folder.drop("photo.jpg")
    put(root, ".mirror/partial/1")
    folder.drop(partial("1"))
    folder.drop(partial("1"))
    assert folder.work_files("partial") == []
    assert (root / "photo.jpg").exists()


# -- putting in place ------------------------------------------------------------------------------


@pytest.fixture(params=["renameat2", "link", "look and rename"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways to rename without overwriting, each as on a file system that knows no better one."""
    way: str = request.param

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if way != "renameat2":
        monkeypatch.setattr(folder_module, "_renameat2", None)
    if way == "look and rename":
        monkeypatch.setattr(os, "link", refused)
    return way


@pytest.mark.usefixtures("way")
def test_a_move_keeps_bytes_and_time_and_makes_folders(root: Path, folder: Folder):
    source = put(root, "a", b"data")
    os.utime(source, ns=(1, 12345))
    folder.move("a", "x/y/b")
    assert (root / "x/y/b").read_bytes() == b"data"
    assert (root / "x/y/b").stat().st_mtime_ns == 12345
    assert not source.exists()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_move_never_overwrites(root: Path, folder: Folder, kind: str):
    put(root, "a", b"new")
    match kind:
        case "file":
            put(root, "b", b"old")
        case "folder":
            (root / "b").mkdir()
        case _:
            (root / "b").symlink_to("nothing")
    with pytest.raises(FileExistsError):
        folder.move("a", "b")
    assert (root / "a").read_bytes() == b"new"
    assert kind != "file" or (root / "b").read_bytes() == b"old"


@pytest.mark.usefixtures("way")
def test_a_move_of_nothing_says_so(folder: Folder):
    with pytest.raises(FileNotFoundError):
        folder.move("nothing", "b")


def test_a_second_name_goes_only_if_it_is_one(root: Path, folder: Folder):
    put(root, "a", b"data")
    put(root, "b", b"data")
    (root / "c").hardlink_to(root / "a")
    with pytest.raises(ValueError, match="is not"):
        folder.unlink_second_name("b", "a")
    folder.unlink_second_name("c", "a")
    assert sorted(path.name for path in root.iterdir()) == [".mirror", "a", "b"]


def test_empty_folders_above_a_path_go_up_to_the_root(root: Path, folder: Folder):
    (root / "a/b/c").mkdir(parents=True)
    put(root, "d/file")
    (root / "d/e").mkdir()
    folder.drop_empty_folders("a/b/c/gone.jpg")
    folder.drop_empty_folders("d/e/gone.jpg")
    folder.drop_empty_folders("gone.jpg")
    assert sorted(path.name for path in root.iterdir()) == [".mirror", "d"]
    assert [path.name for path in (root / "d").iterdir()] == ["file"]


def test_a_clone_is_cut_dated_and_proved_by_what_it_reads_back(root: Path, folder: Folder):
    put(root, "a", b"data")
    put(root, ".mirror/partial/1", b"something much longer")
    written, sha1 = folder.clone("a", "1", 12345)
    assert (root / ".mirror/partial/1").read_bytes() == b"data"
    assert (written.size_bytes, written.mtime_ns) == (4, 12345)
    assert sha1 == hashlib.sha1(b"data").digest()


def test_a_new_file_has_the_rights_that_the_umask_leaves(root: Path, folder: Folder):
    before = os.umask(0o027)
    try:
        folder.open_partial("1").close()
        folder.move(partial("1"), "2020/a.jpg")
    finally:
        os.umask(before)
    assert (root / "2020/a.jpg").stat().st_mode & 0o777 == 0o640
    assert (root / "2020").stat().st_mode & 0o777 == 0o750


def test_one_of_our_own_files_is_replaced_whole(root: Path, folder: Folder):
    assert folder.read_state("x.json") is None
    folder.write_state("x.json", [b"old and long"])
    folder.write_state("x.json", [b"new", b"!"])
    assert folder.read_state("x.json") == b"new!"

    def failing() -> Iterator[bytes]:
        yield b"half"
        raise KeyError("the index")

    with pytest.raises(KeyError):
        folder.write_state("x.json", failing())
    assert folder.read_state("x.json") == b"new!"
    assert (root / ".mirror").stat().st_mode & 0o777 == 0o700


def test_a_root_that_was_replaced_is_no_empty_folder(root: Path, folder: Folder):
    put(root, "a")
    root.rename(root.with_name("away"))
    root.mkdir()
    with pytest.raises(UnwritableError, match="another folder than when the run began") as refused:
        list(folder.scan())
    assert refused.value.exit_code is ExitCode.DESTINATION


def test_a_root_that_goes_during_the_scan_is_no_short_folder(root: Path, folder: Folder):
    put(root, "a")
    put(root, "b")
    found = folder.scan()
    assert next(found)[0] == b"a"
    root.rename(root.with_name("away"))
    root.mkdir()
    with pytest.raises(UnwritableError, match="another folder"):
        list(found)
