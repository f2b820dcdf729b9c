"""Every kind of destination, and the hands of another program that change things there."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

import obstore
import pytest

from mirror.destinations import OpenDestination
from mirror.destinations.bucket import Bucket
from mirror.destinations.folder import Folder
from mirror.destinations.memory import MemoryDestination
from mirror.destinations.sftp import SftpFolder
from mirror.destinations.sftp_session import Session
from mirror.destinations.store import Store
from mirror.destinations.volume import Traits, Volume
from tests import servers
from tests.servers import Server
from tests.stores import Served, served

SECOND_NS = 10**9
DOS_NS = (315_532_800 * SECOND_NS, 4_354_819_199 * SECOND_NS)  # 1980 to 2107

POOR = {
    "no hard links": Traits(has_hard_links=False, has_noreplace=False),
    "no renameat2": Traits(has_noreplace=False),
    "folded case": Traits(folds_case=True),
    "decomposed names": Traits(decomposes=True, folds_case=True),
    "2-second times": Traits(mtime_step_ns=2 * SECOND_NS, mtime_range_ns=DOS_NS),
    "times rounded late": Traits(
        mtime_step_ns=2 * SECOND_NS, mtime_range_ns=DOS_NS, rounds_late=True
    ),
    "no folder fsync": Traits(has_folder_sync=False),
    "no flock": Traits(has_flock=False),
    "all of it": Traits(
        folds_case=True,
        decomposes=True,
        refuses='\\:*?"<>|',
        has_hard_links=False,
        has_noreplace=False,
        has_folder_sync=False,
        has_flock=False,
        mtime_step_ns=2 * SECOND_NS,
        mtime_range_ns=DOS_NS,
        rounds_late=True,
    ),
}

# How a file system is made in a file, what mounts it, and the package that has both.
REAL = {
    "ext4": (["mkfs.ext4", "-q"], ["mount"], "e2fsprogs"),
    "exfat": (["mkfs.exfat"], ["mount.exfat-fuse"], "exfatprogs and exfat-fuse"),
    "ntfs": (["mkfs.ntfs", "-q", "-F", "-f"], ["lowntfs-3g", "-o", "ignore_case"], "ntfs-3g"),
}
BUCKETS = {"bucket", "bucket of Ceph"}
_SIZE_BYTES = 24 << 20


class Hands(Protocol):
    """Another program."""

    def put(self, path: str, data: bytes = b"x", mtime_ns: int | None = None) -> None: ...

    def get(self, path: str) -> bytes: ...

    def make_folder(self, path: str) -> None: ...

    def link(self, path: str, target: str) -> None: ...

    def link_hard(self, path: str, other: str) -> None: ...

    def paths(self) -> set[str]:
        """Of all files but our own."""


class FolderHands:
    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, data: bytes = b"x", mtime_ns: int | None = None) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if mtime_ns is not None:
            os.utime(file, ns=(mtime_ns, mtime_ns))

    def get(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def make_folder(self, path: str) -> None:
        (self.root / path).mkdir(parents=True)

    def link(self, path: str, target: str) -> None:
        (self.root / path).symlink_to(target)

    def link_hard(self, path: str, other: str) -> None:
        (self.root / other).hardlink_to(self.root / path)

    def paths(self) -> set[str]:
        files = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return {str(path) for path in files if path.parts[0] != ".mirror"}


class SftpHands(FolderHands):
    """One that speaks SFTP too: rclone's server knows only what comes that way, and no links."""

    def __init__(self, root: Path, session: Session) -> None:
        super().__init__(root)
        self._session = session

    def put(self, path: str, data: bytes = b"x", mtime_ns: int | None = None) -> None:
        self._make(path.rpartition("/")[0])
        self._session.put(path, data, {})
        if mtime_ns is not None:
            self._session.set_time(path, mtime_ns // SECOND_NS)

    def _make(self, folder: str) -> None:
        if folder:
            self._make(folder.rpartition("/")[0])
            with suppress(OSError):
                self._session.make_folder(folder)

    def make_folder(self, path: str) -> None:
        self._make(path)

    def link(self, path: str, target: str) -> None:
        raise OSError(errno.ENOTSUP, "no links here", path, None, target)

    def link_hard(self, path: str, other: str) -> None:
        raise OSError(errno.ENOTSUP, "no links here", path, None, other)


class MemoryHands:
    def __init__(self, volume: Volume) -> None:
        self.volume = volume

    def put(self, path: str, data: bytes = b"x", mtime_ns: int | None = None) -> None:
        self.volume.write(path, data, mtime_ns)

    def get(self, path: str) -> bytes:
        return self.volume.file(path).data

    def make_folder(self, path: str) -> None:
        self.volume.make_folder(path)

    def link(self, path: str, target: str) -> None:
        self.volume.link(path, target)

    def link_hard(self, path: str, other: str) -> None:
        self.volume.name_twice(path, other)

    def paths(self) -> set[str]:
        return {path for path in self.volume.files() if not path.startswith(".mirror/")}


class BucketHands:
    """A program that speaks S3, and knows nothing of us."""

    def __init__(self, served: Served, prefix: str) -> None:
        self._store = served.store(prefix)

    def put(self, path: str, data: bytes = b"x", mtime_ns: int | None = None) -> None:
        dated = {} if mtime_ns is None else {"mtime": f"{mtime_ns / SECOND_NS}"}
        obstore.put(self._store, path, data, attributes=dated)

    def get(self, path: str) -> bytes:
        return bytes(obstore.get(self._store, path).bytes())

    def make_folder(self, path: str) -> None:
        self.put(f"{path}/inside")  # no other ones are there

    def link(self, path: str, target: str) -> None:
        raise OSError(errno.ENOTSUP, "no links here", path, None, target)

    def link_hard(self, path: str, other: str) -> None:
        raise OSError(errno.ENOTSUP, "no links here", path, None, other)

    def paths(self) -> set[str]:
        found = (meta["path"] for batch in obstore.list(self._store) for meta in batch)
        return {path for path in found if not path.startswith(".mirror/")}


_served: dict[Path, Served] = {}  # by the folder that it was started for


class Lasting(Session):
    """One that whoever uses it leaves open, for the next."""

    def close(self) -> None:
        """Stays."""

    def end(self) -> None:
        super().close()


_servers: dict[Path, tuple[Server, Lasting, Lasting]] = {}  # the same; ours, and another program's


@contextmanager
def serving(folder: Path, running: Served | None = None) -> Iterator[Path]:
    """A store, for buckets' prefixes that are called like folders in it; rclone's, if none runs."""
    with nullcontext(running) if running else served(folder) as store:
        _served[folder] = store
        yield folder


@contextmanager
def serving_sftp(kind: str, folder: Path) -> Iterator[Path]:
    """A server, for folders that are called like folders in it."""
    with servers.served(kind, folder) as server:
        ours, theirs = Lasting(server.login()), Lasting(server.login())
        _servers[folder] = server, ours, theirs
        yield folder
        ours.end()
        theirs.end()


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A file system of its own, in a file; whatever happens, it is unmounted again."""
    make, mount, package = REAL[kind]
    if os.geteuid():
        pytest.skip("only root may mount")
    if not all(shutil.which(command) for command in (make[0], mount[0], "losetup")):
        pytest.skip(f"{kind} needs the Debian package {package}")
    image, place = folder / f"{kind}.img", folder / kind
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    place.mkdir()
    with ExitStack() as stack:
        _call(*make, str(image))
        device = _call("losetup", "--show", "-f", str(image)).strip()
        stack.callback(subprocess.run, ["losetup", "-d", device], check=True)
        _call(*mount, device, str(place))
        stack.callback(subprocess.run, ["umount", str(place)], check=True)
        yield place


def mount_again(kind: str, place: Path) -> None:
    """What the file system only remembered is forgotten."""
    device = _call("findmnt", "-n", "-o", "SOURCE", str(place)).strip()
    subprocess.run(["umount", str(place)], check=True)
    subprocess.run([*REAL[kind][1], device, str(place)], check=True)


def _call(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[0]} is not possible here: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def opened(kind: str, root: Path) -> Iterator[tuple[OpenDestination, Hands]]:
    """An empty destination, prepared; `root` where it is a folder."""
    if kind.startswith("memory"):
        volume = Volume(POOR.get(kind.removeprefix("memory, "), Traits()))
        with MemoryDestination(volume, "memory:") as destination:
            destination.prepare()
            yield destination, MemoryHands(volume)
        return
    if kind in BUCKETS:
        store, prefix = _served[root.parent], f"{root.parent.name}/{root.name}"
        with Bucket(Store(store.account(prefix)), f"s3://bucket/{prefix}", root) as bucket:
            bucket.prepare()
            yield bucket, BucketHands(store, prefix)
        return
    if kind.startswith("sftp"):
        server, ours, theirs = _servers[root.parent]
        there, inside = server.folder / root.name, f"{server.root.rstrip('/')}/{root.name}"
        ours.enter("/")
        ours.make_folder(inside.removeprefix("/"))
        for session in (ours, theirs):
            session.enter(inside)
        with SftpFolder(ours, server.url(root.name), root) as sftp:
            sftp.prepare()
            is_openssh = server.kind == "openssh"
            yield sftp, FolderHands(there) if is_openssh else SftpHands(there, theirs)
        return
    root.mkdir()
    with Folder(root) as folder:
        folder.prepare()
        yield folder, FolderHands(root)
