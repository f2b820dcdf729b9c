"""A folder as a destination: the only code that writes under its root.

Every path is walked component by component from the root's descriptor, without following links and
without leaving the root's device, so no name and no race leads outside. Nothing here decides.
Methods block.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import stat as stat_module
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from io import FileIO
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final, Self

from mirror.core.compare import Found
from mirror.core.model import Entry, EntryKind
from mirror.destinations import (
    MARKER,
    MOVING,
    PARTIAL,
    STATE,
    Abilities,
    Written,
    concerns_path,
    partial,
    unwritable,
)
from mirror.destinations.lock import check_free, locked
from mirror.destinations.probe import Probe
from mirror.errors import NotOursError, UnwritableError
from mirror.stopping import check_stopping

_MOST_HELD: Final = 64  # folders open at once
_CHUNK_BYTES: Final = 1 << 20
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_NS: Final = 2**63 - 1
_STATE: Final = os.fsencode(STATE)
_FILE: Final = EntryKind.FILE  # a look-up that counts, for every file of a scan
_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_FICLONE: Final = 0x40049409  # linux/fs.h
_UNSUPPORTED: Final = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
)

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)
_fadvise = getattr(os, "posix_fadvise", None)  # not on macOS
_syncfs = getattr(_libc, "syncfs", None)


class Folder:
    """One destination folder, held open by its descriptor."""

    def __init__(self, root: Path) -> None:
        """Open an existing folder.

        Raises:
            UnwritableError: it is not a folder, or cannot be opened.
        """
        self.root = root
        self.name = str(root)
        try:
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise unwritable(root, error) from error
        self._device = os.fstat(self._fd).st_dev
        self._partials: int | None = None  # our folder of partial files, once it is needed
        self._holder = 0  # the thread that has a batch under way
        self._held: dict[str, int] = {}  # the folders it has open, by path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the root."""
        if self._partials is not None:
            os.close(self._partials)
        os.close(self._fd)

    def where(self, path: str) -> str:
        """The whole path."""
        return f"{self.name}/{path}"

    # -- looking -----------------------------------------------------------------------------------

    def scan(self) -> Iterator[Found]:
        """Everything under the root but our own state, in byte order of the path.

        Raises:
            NotOursError: a folder on another device, or a link to a folder.
            UnwritableError: a folder cannot be read; its files must not be taken for lost.
        """
        self._refuse_another_root()
        # Lists and bytes, and no step in Python for each file that is not needed: half of a run
        # without changes is spent here.
        yield from chain.from_iterable(self._scan(os.fsencode(self.root), b""))
        self._refuse_another_root()

    def _refuse_another_root(self) -> None:
        """A disk that was unmounted, or mounted over, must not pass for an empty folder."""
        try:
            same = os.path.samestat(os.stat(self.root), os.fstat(self._fd))
        except OSError as error:
            raise unwritable(self.root, error) from error
        if not same:
            raise UnwritableError(
                f"{self.root}: is another folder than when the run began",
                why="something was mounted or unmounted there, or the folder was replaced",
                hint="check the disk, and run again",
            )

    def _scan(self, folder: bytes, prefix: bytes) -> Iterator[list[Found]]:
        """What is in a folder and below it, in pieces."""
        check_stopping()
        piece: list[Found] = []
        for name, item in self._children(folder, is_root=not prefix):
            if name.endswith(b"/"):
                piece.append((prefix + name, EntryKind.FOLDER, 0, 0))
                yield piece
                piece = []
                yield from self._scan(item.path, prefix + name)
                continue
            try:
                found = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # it went between the listing and the look
            if stat_module.S_ISREG(found.st_mode):
                mtime_ns = found.st_mtime_ns
                if not -_MOST_NS <= mtime_ns <= _MOST_NS:
                    mtime_ns = _mtime_ns(found)
                piece.append((prefix + name, _FILE, found.st_size, mtime_ns))
            else:
                kind = EntryKind.LINK if stat_module.S_ISLNK(found.st_mode) else EntryKind.OTHER
                piece.append((prefix + name, kind, 0, 0))
        yield piece

    def _children(self, folder: bytes, *, is_root: bool) -> list[tuple[bytes, os.DirEntry[bytes]]]:
        """One folder's entries; a folder's name ends in "/", which puts it where its files sort."""
        children = []
        try:
            with os.scandir(folder) as items:
                for item in items:
                    name = item.name
                    if name == _STATE and self._is_state(item, is_root=is_root):
                        continue
                    is_folder = item.is_dir(follow_symlinks=False)
                    if is_folder or (item.is_symlink() and item.is_dir()):
                        self._refuse_elsewhere(item, is_folder=is_folder)
                    children.append((name + b"/" if is_folder else name, item))
        except OSError as error:
            raise unwritable(Path(os.fsdecode(folder)), error) from error
        children.sort(key=itemgetter(0))
        return children

    def _is_state(self, item: os.DirEntry[bytes], *, is_root: bool) -> bool:
        """Whether it is our own folder; that of a destination inside this one is refused."""
        path = os.fsdecode(item.path)
        if not is_root and os.path.lexists(f"{path}/{MARKER}"):
            raise NotOursError(
                f"{os.path.dirname(path)}: another destination lies inside this one",
                why=f"{path}/{MARKER} exists",
                hint="choose a folder beside it",
            )
        return is_root

    def _refuse_elsewhere(self, item: os.DirEntry[bytes], *, is_folder: bool) -> None:
        if is_folder and item.stat(follow_symlinks=False).st_dev == self._device:
            return
        kind = "another file system is mounted here" if is_folder else "it is a link to a folder"
        raise NotOursError(
            f"{os.fsdecode(item.path)}: a destination must be one tree on one file system",
            why=f"{kind}; when it is missing one day, its photos would seem lost",
            hint="move it out of the destination, or give it a mirror of its own",
        )

    def check_alone(self) -> None:
        """Refuse a place with another destination in it."""
        for _ in self.scan():
            pass

    def entry(self, path: str) -> Entry | None:
        """What lies at a path now, links not followed; None when nothing does."""
        try:
            with self._parent(path) as parent:
                found = os.stat(_name(path), dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if concerns_path(error):
                return None
            raise unwritable(self.root / path, error) from error
        if stat_module.S_ISREG(found.st_mode):
            return Entry(path, EntryKind.FILE, found.st_size, _mtime_ns(found))
        if stat_module.S_ISDIR(found.st_mode):
            return Entry(path, EntryKind.FOLDER)
        kind = EntryKind.LINK if stat_module.S_ISLNK(found.st_mode) else EntryKind.OTHER
        return Entry(path, kind)

    def sha1(self, path: str) -> bytes:
        """The SHA-1 of a file's bytes.

        Raises:
            OSError: it is not there, or not a file that can be read.
            InterruptedRunError: the run is to stop.
        """
        digest = _sha1()
        for piece in self.pieces(path):
            digest.update(piece)
        return digest.digest()

    shard = None
    tells_sha1 = False

    def told_sha1(self, path: str) -> None:
        """A file system keeps none."""

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes, piece by piece, from the disk.

        Raises:
            OSError, InterruptedRunError: as `sha1`.
        """
        offset = 0
        with self.opened(path) as file:
            _let_go(file, 0, 0)  # what memory holds says nothing of the disk
            while piece := file.read(_CHUNK_BYTES):
                check_stopping()
                yield piece
                _let_go(file, offset, len(piece))
                offset += len(piece)

    def free_bytes(self) -> int:
        """What an ordinary user may still write."""
        found = os.fstatvfs(self._fd)
        return found.f_bavail * found.f_frsize

    # -- partial files -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make our own folder, for its owner only.

        Raises:
            UnwritableError: the file system refuses.
        """
        try:
            with suppress(FileExistsError):
                os.mkdir(STATE, 0o700, dir_fd=self._fd)
            with self._parent(f"{STATE}/x") as state:
                for area in (PARTIAL, MOVING):
                    with suppress(FileExistsError):
                        os.mkdir(area, 0o700, dir_fd=state)
            if self._partials is None:
                self._partials = self._walk(f"{STATE}/{PARTIAL}", create=False)
        except OSError as error:
            raise unwritable(self.root / STATE, error) from error

    def probe(self) -> Abilities:
        """Find out, among the partial files, what the file system can do.

        Raises:
            OSError: nothing can be tried.
        """
        if self._partials is None:
            raise ValueError("prepare() first")
        return Probe(self._partials, _rename_in_one_step, _reflink).abilities()

    def open_partial(self, name: str) -> "FolderPartial":
        """A partial file, made if need be; what an earlier run left there is still in it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        if self._partials is None:
            raise ValueError("prepare() first")
        descriptor = os.open(name, flags, 0o666, dir_fd=self._partials)
        found = os.fstat(descriptor)
        if found.st_nlink > 1:
            # A kill between link and unlink: it has its final name too, and may be edited there.
            os.close(descriptor)
            os.unlink(name, dir_fd=self._partials)
            descriptor = os.open(name, flags | os.O_EXCL, 0o666, dir_fd=self._partials)
            return FolderPartial(descriptor, is_empty=True)
        return FolderPartial(descriptor, is_empty=found.st_size == 0)

    def link(self, file: BinaryIO, path: Path, name: str) -> Written | None:
        """A partial file that is another name of the open file at `path`; None: that cannot be."""
        if self._partials is None:
            raise ValueError("prepare() first")
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._partials)
        try:
            os.link(path, name, dst_dir_fd=self._partials, follow_symlinks=False)
        except OSError:
            return None
        found = os.stat(name, dir_fd=self._partials, follow_symlinks=False)
        if os.path.samestat(found, os.fstat(file.fileno())):
            return Written(found.st_size, _mtime_ns(found))
        os.unlink(name, dir_fd=self._partials)  # another file has come to that path
        return None

    def drop(self, path: str) -> None:
        """Remove one of our own work files, if it is there."""
        if not path.startswith(f"{STATE}/"):
            raise ValueError(f"not a work file: {path}")
        with suppress(FileNotFoundError), self._parent(path) as parent:
            os.unlink(_name(path), dir_fd=parent)

    def work_files(self, area: str) -> list[str]:
        """The names in one of our own folders."""
        try:
            with self._parent(f"{STATE}/{area}/x") as parent:
                return sorted(os.listdir(parent))
        except FileNotFoundError:
            return []

    def gone(self, paths: Iterable[str]) -> list[str]:
        """Those of our own files that are not there."""
        return [path for path in paths if self.entry(path) is None]

    # -- putting in place --------------------------------------------------------------------------

    at_once = 1

    def move(self, source: str, path: str) -> None:
        """Give a file another path, in one step and without overwriting anything.

        Raises:
            FileExistsError: something lies there.
            OSError: the source is gone, or the file system refuses.
        """
        with self._parent(source) as old, self._parent(path, create=True) as new:
            _rename_noreplace(old, _name(source), new, _name(path))

    def set_aside(self, source: str, path: str) -> None:
        """Move a file to one of our own places, over whatever lies there."""
        with self._parent(source) as old, self._parent(path, create=True) as new:
            os.replace(_name(source), _name(path), src_dir_fd=old, dst_dir_fd=new)

    def is_same_file(self, path: str, other: str) -> bool:
        """Whether two paths are names of one file: a move without rename was cut in the middle."""
        try:
            with self._parent(path) as one, self._parent(other) as two:
                return os.path.samestat(
                    os.stat(_name(path), dir_fd=one, follow_symlinks=False),
                    os.stat(_name(other), dir_fd=two, follow_symlinks=False),
                )
        except OSError:
            return False

    def unlink_second_name(self, path: str, kept: str) -> None:
        """Remove one of two names of the same file."""
        if not self.is_same_file(path, kept):
            raise ValueError(f"{path} is not {kept}")
        with self._parent(path) as parent:
            status = os.stat(_name(path), dir_fd=parent, follow_symlinks=False)
            if status.st_nlink > 1:  # else both are the same name, however they are spelt
                os.unlink(_name(path), dir_fd=parent)

    def drop_empty_folders(self, path: str) -> None:
        """Remove the folders above a path that a move has left empty, but never the root."""
        while "/" in path:
            path = path.rpartition("/")[0]
            try:
                with self._parent(path) as parent:
                    os.rmdir(_name(path), dir_fd=parent)
            except OSError:
                return
            if self._holder == threading.get_ident() and path in self._held:
                os.close(self._held.pop(path))

    def clone(self, source: str, name: str, mtime_ns: int) -> tuple[Written, bytes]:
        """Copy a file into a partial one, by reference where possible; its SHA-1 as read back."""
        with self.opened(source) as file, closing(self.open_partial(name)) as new:
            new.restart()
            if new.take(file):
                new.seek_end()
            else:
                _copy(file, new)
            written = new.finish(mtime_ns)
        return written, self.sha1(partial(name))

    def make_durable(self) -> None:
        """Let everything written so far survive a power cut.

        Raises:
            UnwritableError: the disk fails.
        """
        if _syncfs is None:
            os.sync()
        elif _syncfs(self._fd) != 0:
            error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            raise unwritable(self.root, error)

    def write_state(self, name: str, content: Iterable[bytes]) -> None:
        """Replace one of our own small files, durably: the old one or the new one, never a part.

        Raises:
            NoSpaceError, UnwritableError: the file system refuses.
        """
        try:
            with self._parent(f"{STATE}/x") as state:
                temporary = f"{name}.new"
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=state), "wb") as file:
                    file.writelines(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, name, src_dir_fd=state, dst_dir_fd=state)
                with suppress(OSError):  # some file systems cannot sync a folder
                    os.fsync(state)
        except OSError as error:
            raise unwritable(self.root / STATE / name, error) from error

    def read_state(self, name: str) -> bytes | None:
        """One of our own small files; None when it is not there."""
        try:
            with self.opened(f"{STATE}/{name}") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def locked(self) -> AbstractContextManager[None]:
        """Hold it against other runs while the block runs.

        Raises:
            LockedError: another run holds it; the message names holder, host and since when.
        """
        return locked(self.root)

    def check_free(self) -> None:
        """Refuse when a run holds it; leaves no trace.

        Raises:
            LockedError: one does.
        """
        check_free(self.root)

    keeps_index = False  # the index itself lies here

    def fetch_index(self) -> None:
        """It lies here."""

    def keep_index(self) -> None:
        """It lies here."""

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Walk to each folder once while the block runs: for a batch of this thread, a moment."""
        self._holder, self._held = threading.get_ident(), {}
        try:
            yield
        finally:
            held, self._holder, self._held = self._held, 0, {}
            for descriptor in held.values():
                os.close(descriptor)

    # -- inside ------------------------------------------------------------------------------------

    def opened(self, path: str) -> FileIO:
        """A file for reading; a pipe is not waited for.

        Raises:
            OSError: it is not there, or no file.
        """
        with self._parent(path) as parent:

            def opener(name: str, _flags: int) -> int:
                return os.open(name, _READ_FLAGS, dir_fd=parent)

            # Not by a descriptor: of what turns out to be a folder, nobody would close it.
            file = FileIO(_name(path), opener=opener)
        if stat_module.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        raise OSError(errno.EINVAL, "is not a file", path)

    @contextmanager
    def _parent(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder that holds `path`, walked from the root."""
        folder, slash, _ = path.rpartition("/")
        if slash and not folder:
            raise ValueError(f"not a name below the root: {path!r}")
        holds = self._holder == threading.get_ident()
        if holds and folder in self._held:
            yield self._held[folder]
            return
        descriptor = self._walk(folder, create=create)
        if holds and len(self._held) < _MOST_HELD:
            self._held[folder] = descriptor
            yield descriptor
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _walk(self, folder: str, *, create: bool) -> int:
        descriptor = os.dup(self._fd)
        for part in folder.split("/") if folder else ():
            try:
                deeper = self._step(descriptor, part, create=create)
            finally:
                os.close(descriptor)
            descriptor = deeper
        return descriptor

    def _step(self, parent: int, part: str, *, create: bool) -> int:
        if part in {"", ".", ".."}:
            raise ValueError(f"not a name: {part!r}")
        try:
            descriptor = os.open(part, _FOLDER_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=parent)
            descriptor = os.open(part, _FOLDER_FLAGS, dir_fd=parent)
        if os.fstat(descriptor).st_dev != self._device:
            os.close(descriptor)
            raise NotADirectoryError(errno.ENOTDIR, "on another file system", part)
        return descriptor


class FolderPartial:
    """A partial file of a folder."""

    def __init__(self, descriptor: int, *, is_empty: bool) -> None:
        """Take over a descriptor that may be read and written."""
        self._fd = descriptor
        self._at = 0
        self._ends_here = is_empty  # nothing lies behind the place

    def read(self) -> bytes:
        """The next piece that an earlier run left here; empty at the end of it."""
        piece = os.pread(self._fd, _CHUNK_BYTES, self._at)
        self._at += len(piece)
        return piece

    def write(self, piece: bytes | memoryview) -> None:
        """All of these bytes, at the place."""
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._fd, view, self._at)
            self._at += written
            view = view[written:]

    def take(self, file: BinaryIO) -> bool:
        """Hold what another file holds by reference, where the file system can."""
        try:
            _reflink(file.fileno(), self._fd)
        except OSError:
            return False
        self._at, self._ends_here = 0, False
        return True

    def seek_end(self) -> None:
        """Have the place behind the last byte."""
        self._at = os.fstat(self._fd).st_size

    def restart(self) -> None:
        """Nothing is in it any more."""
        self._at = 0
        os.ftruncate(self._fd, 0)
        self._ends_here = True

    def finish(self, mtime_ns: int, sha1: bytes | None = None) -> Written:  # noqa: ARG002
        """Cut to the place, and dated as far as the file system can hold the date."""
        if not self._ends_here:
            os.ftruncate(self._fd, self._at)
        with suppress(OSError, OverflowError):
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))
        found = os.fstat(self._fd)
        return Written(found.st_size, _mtime_ns(found))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _mtime_ns(found: os.stat_result) -> int:
    """A file's time as the index can hold it: photos are dated after 2262 and before 1677, too."""
    return max(-_MOST_NS, min(found.st_mtime_ns, _MOST_NS))


def _let_go(file: BinaryIO, offset: int, size_bytes: int) -> None:
    """Memory that a part of a file took, and nobody is about to want; size 0: to its end."""
    if _fadvise is not None:
        with suppress(OSError):
            _fadvise(file.fileno(), offset, size_bytes, os.POSIX_FADV_DONTNEED)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _sha1() -> "hashlib._Hash":
    return hashlib.sha1(usedforsecurity=False)


def _rename_noreplace(old: int, source: str, new: int, target: str) -> None:
    """Rename without overwriting, by the surest way that the file system knows."""
    try:
        _rename_in_one_step(old, source, new, target)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    else:
        return
    try:
        os.link(source, target, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        # Neither exists here (exFAT): look first. The destination's lock keeps our own runs apart.
        with suppress(FileNotFoundError):
            os.stat(target, dir_fd=new, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(source, target, src_dir_fd=old, dst_dir_fd=new)
    else:
        os.unlink(source, dir_fd=old)


def _rename_in_one_step(old: int, source: str, new: int, target: str) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)
    flags = ctypes.c_uint(_RENAME_NOREPLACE)
    if _renameat2(old, os.fsencode(source), new, os.fsencode(target), flags):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def _reflink(reading: int, writing: int) -> None:
    fcntl.ioctl(writing, _FICLONE, reading)


def _copy(file: BinaryIO, new: FolderPartial) -> None:
    while piece := file.read(_CHUNK_BYTES):
        check_stopping()
        new.write(piece)
