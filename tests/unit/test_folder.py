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

from mirror.core.model import EntryKind
from mirror.destinations import folder as folder_module
from mirror.destinations import partial, unwritable
from mirror.destinations.folder import Folder
from mirror.errors import ExitCode, UnwritableError


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


def test_a_folder_of_that_name_that_is_no_destination_is_only_a_folder(root: Path, folder: Folder):
    put(root, "inside/.mirror/notes.txt")
    assert b"inside/.mirror/notes.txt" in [path for path, *_ in folder.scan()]


def test_what_is_no_folder_cannot_be_opened(tmp_path: Path):
    put(tmp_path, "file")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(UnwritableError):
            Folder(path)


# -- no way out ------------------------------------------------------------------------------------


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


def test_a_new_file_has_the_rights_that_the_umask_leaves(root: Path, folder: Folder):
    before = os.umask(0o027)
    try:
        folder.open_partial("1").close()
        folder.move(partial("1"), "2020/a.jpg")
    finally:
        os.umask(before)
    assert (root / "2020/a.jpg").stat().st_mode & 0o777 == 0o640
    assert (root / "2020").stat().st_mode & 0o777 == 0o750


def test_what_turns_out_to_be_a_folder_or_a_pipe_is_neither_waited_for_nor_kept_open(
    root: Path, folder: Folder
):
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    before = len([*Path("/dev/fd").iterdir()])
    with pytest.raises(IsADirectoryError):
        folder.sha1("folder")
    with pytest.raises(IsADirectoryError):
        folder.clone("folder", "1", 0)
    with pytest.raises(OSError, match="not a file"):
        folder.sha1("pipe")
    assert len([*Path("/dev/fd").iterdir()]) == before


def test_our_own_folder_is_for_its_owner_only(root: Path, folder: Folder):
    assert folder.read_state("mirror.json") is None
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


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (errno.EROFS, "`mirror profile unit`"),
        (errno.EACCES, "a run as root leaves folders that only root can write"),
        (errno.ENOENT, "check that the folder exists"),
    ],
)
def test_a_refusal_tells_the_way_out_of_it(number: int, way: str) -> None:
    told = unwritable("/srv/photos", OSError(number, os.strerror(number)))
    assert (told.what, told.why) == (
        "/srv/photos: cannot be used as a destination",
        os.strerror(number),
    )
    assert way in told.hint


def test_a_hint_for_folders_is_none_for_what_lies_elsewhere() -> None:
    told = unwritable("s3://photos", OSError(errno.EACCES, "the store refuses the keys"))
    assert "root" not in told.hint
