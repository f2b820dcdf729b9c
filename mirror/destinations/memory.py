"""A destination that is held in memory: for tests, and to see what a kind has to do.

Nothing of it needs a volume but the index, which lies where the caller says.
"""

import errno
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
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
from mirror.destinations.volume import Branch, File, Killed, Link, Node, Volume, refusal
from mirror.errors import LockedError, NotOursError
from mirror.stopping import check_stopping

_LOCK: Final = f"{STATE}/lock"
_PIECE_BYTES: Final = 1 << 20
_SECOND_NS: Final = 10**9


class MemorySite:
    """Where a volume in memory is mounted."""

    def __init__(self, volume: Volume, index_path: Path, name: str = "memory:") -> None:
        """The index is what a kill leaves of it: later commits of the killed run are undone."""
        self.volume = volume
        self.name = name
        self.index_path = index_path
        self.root = index_path.parent
        self._kept = index_path.with_name(f"{index_path.name}.kept")
        volume.on_kill = self._keep_index

    def check(self, *, require_mount: bool | str) -> None:
        """It can be anything, and is always there."""

    def open(self) -> "MemoryDestination":
        """The destination."""
        return self.make()

    def make(self) -> "MemoryDestination":
        """The destination."""
        self._restore_index()
        return MemoryDestination(self.volume, self.name)

    def _keep_index(self) -> None:
        shutil.rmtree(self._kept, ignore_errors=True)
        self._kept.mkdir(parents=True)
        for file in self._index_files():
            shutil.copyfile(file, self._kept / file.name)

    def _restore_index(self) -> None:
        if not self._kept.exists():
            self.index_path.parent.mkdir(parents=True, exist_ok=True)
            return
        for file in self._index_files():
            file.unlink()
        for file in self._kept.iterdir():
            shutil.copyfile(file, self.index_path.with_name(file.name))
        shutil.rmtree(self._kept)

    def _index_files(self) -> list[Path]:
        path = self.index_path
        beside = (path.with_name(path.name + end) for end in ("", "-wal", "-journal"))
        return [file for file in beside if file.exists()]


class MemoryDestination:
    """A volume in memory, in use by one process: a kill ends all that it does."""

    root = None

    def __init__(self, volume: Volume, name: str) -> None:
        self.name = name
        self._volume = volume
        self._life = volume.life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def where(self, path: str) -> str:
        """The name with the path."""
        return f"{self.name}/{path}"

    @contextmanager
    def step(self, kind: str) -> Iterator[Volume]:
        """The volume, for one step.

        Raises:
            OSError, Killed: a fault has met it, or an earlier one.
        """
        with self._volume.turn:
            if self._volume.life != self._life:
                raise Killed
            self._volume.step(kind)
            yield self._volume

    # -- looking -----------------------------------------------------------------------------------

    def scan(self) -> Iterator[Found]:
        """Everything but our own state, in byte order of the path."""
        try:
            yield from self._scan("")
        except OSError as error:
            raise unwritable(self.name, error) from error

    def _scan(self, folder: str) -> Iterator[Found]:
        check_stopping()
        with self.step("scan") as volume:
            children = volume.names(folder)
        prefix = f"{folder}/" if folder else ""
        told = [
            (_bytes(name) + b"/" * isinstance(node, Branch), name, node) for name, node in children
        ]
        for key, name, node in sorted(told, key=lambda child: child[0]):
            path = prefix + name
            if name == STATE and self._is_state(path):
                continue
            self._refuse_elsewhere(path, node)
            size_bytes, mtime_ns = _look(node)
            yield _bytes(prefix) + key, _kind(node), size_bytes, mtime_ns
            if isinstance(node, Branch):
                yield from self._scan(path)

    def _is_state(self, path: str) -> bool:
        if path != STATE and self._volume.lies(f"{path}/{MARKER}"):
            raise NotOursError(f"{self.where(path)}: another destination lies inside this one")
        return path == STATE

    def _refuse_elsewhere(self, path: str, node: Node) -> None:
        if isinstance(node, Link):
            folder = path.rpartition("/")[0]
            target = f"{folder}/{node.target}" if folder else node.target
            with suppress(OSError):
                if isinstance(self._volume.node(target), Branch):
                    raise NotOursError(f"{self.where(path)}: it is a link to a folder")

    def check_alone(self) -> None:
        """Refuse a place with another destination in it."""
        for _ in self.scan():
            pass

    def entry(self, path: str) -> Entry | None:
        """What lies at a path now."""
        try:
            with self.step("look") as volume:
                node = volume.node(_checked(path))
        except OSError as error:
            if concerns_path(error) or error.errno == errno.ELOOP:
                return None
            raise unwritable(self.where(path), error) from error
        return Entry(path, _kind(node), *_look(node))

    def sha1(self, path: str) -> bytes:
        """The SHA-1 of a file's bytes."""
        check_stopping()
        with self.step("hash") as volume:
            return hashlib.sha1(volume.file(_checked(path)).data, usedforsecurity=False).digest()

    shard = None
    tells_sha1 = False

    def told_sha1(self, path: str) -> None:
        """A volume keeps none."""

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes, all at once."""
        check_stopping()
        with self.step("read") as volume:
            yield bytes(volume.file(_checked(path)).data)

    def free_bytes(self) -> int:
        """What may still be written, as far as the volume tells."""
        with self.step("look") as volume:
            return volume.free_bytes()

    # -- our own places ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make what our own state needs."""
        try:
            for folder in (STATE, f"{STATE}/{PARTIAL}", f"{STATE}/{MOVING}"):
                if not self._volume.lies(folder):
                    with self.step("mkdir") as volume:
                        volume.make_folder(folder)
        except OSError as error:
            raise unwritable(self.where(STATE), error) from error

    def probe(self) -> Abilities:
        """What the volume is said to be able to do."""
        with self.step("probe") as volume:
            traits = volume.traits
        least_ns, most_ns = traits.mtime_range_ns
        return Abilities(
            hard_links=traits.has_hard_links,
            reflinks=False,
            folds_case=traits.folds_case,
            mtime_step_ns=traits.mtime_step_ns,
            mtime_least_s=-(-least_ns // _SECOND_NS),
            mtime_most_s=most_ns // _SECOND_NS,
            folder_sync=traits.has_folder_sync,
            flock=traits.has_flock,
            no_overwrite_rename=traits.has_noreplace,
        )

    def open_partial(self, name: str) -> "MemoryPartial":
        """A partial file, made if need be."""
        path = _checked(partial(name))
        with self.step("create") as volume:
            file = volume.create(path)
            if volume.count_names(file) > 1:
                volume.remove(path)
                file = volume.create(path)
        return MemoryPartial(self, file, path)

    def work_files(self, area: str) -> list[str]:
        """The names in one of our own folders."""
        try:
            with self.step("scan") as volume:
                return sorted(name for name, _ in volume.names(f"{STATE}/{area}"))
        except FileNotFoundError:
            return []

    def drop(self, path: str) -> None:
        """Remove one of our own files, if it is there."""
        if not path.startswith(f"{STATE}/"):
            raise ValueError(f"not a work file: {path}")
        with suppress(FileNotFoundError), self.step("unlink") as volume:
            volume.file(_checked(path))
            volume.remove(path)

    def read_state(self, name: str) -> bytes | None:
        """One of our own small files; None when it is not there."""
        try:
            with self.step("read") as volume:
                return volume.file(f"{STATE}/{name}").data
        except FileNotFoundError:
            return None

    def write_state(self, name: str, content: Iterable[bytes]) -> None:
        """Replace one of our own small files."""
        data = b"".join(content)
        path = f"{STATE}/{name}"
        try:
            with self.step("write") as volume:
                file = volume.create(f"{path}.new")
                file.data = b""
                volume.grow(file, data, path)
            with self.step("rename") as volume:
                volume.rename(f"{path}.new", path)
                volume.sync_file(path)
        except OSError as error:
            raise unwritable(self.where(path), error) from error

    def gone(self, paths: Iterable[str]) -> list[str]:
        """Those of our own files that are not there."""
        return [path for path in paths if self.entry(path) is None]

    # -- putting in place --------------------------------------------------------------------------

    at_once = 1

    def move(self, source: str, path: str) -> None:
        """Give a file another path, by the surest way that the volume knows."""
        self._make_folders(path)
        traits = self._volume.traits
        if traits.has_hard_links and not traits.has_noreplace:
            with self.step("link") as volume:
                volume.name_twice(_checked(source), path)
            with self.step("unlink") as volume:
                volume.remove(source)
            return
        with self.step("rename") as volume:
            volume.node(_checked(source))
            if volume.lies(path):
                raise refusal(errno.EEXIST, path)
            volume.rename(source, path)

    def set_aside(self, source: str, path: str) -> None:
        """Move a file to one of our own places, over whatever lies there."""
        self._make_folders(path)
        with self.step("rename") as volume:
            volume.rename(_checked(source), path)

    def clone(self, source: str, name: str, mtime_ns: int) -> tuple[Written, bytes]:
        """Copy a file into a partial one, finished; with its SHA-1 as read back."""
        with self.step("read") as volume:
            data = volume.file(_checked(source)).data
        new = self.open_partial(name)
        new.restart()
        new.write(data)
        return new.finish(mtime_ns), self.sha1(partial(name))

    def is_same_file(self, path: str, other: str) -> bool:
        """Whether two paths are names of one file."""
        try:
            with self.step("look") as volume:
                return volume.node(_checked(path)) is volume.node(_checked(other))
        except OSError:
            return False

    def unlink_second_name(self, path: str, kept: str) -> None:
        """Remove one of two names of the same file."""
        if not self.is_same_file(path, kept):
            raise ValueError(f"{path} is not {kept}")
        with self.step("unlink") as volume:
            if volume.count_names(volume.file(path)) > 1:
                volume.remove(path)

    def drop_empty_folders(self, path: str) -> None:
        """Remove the folders above a path that a move has left empty."""
        while "/" in path:
            path = path.rpartition("/")[0]
            try:
                with self.step("rmdir") as volume:
                    if not isinstance(volume.node(path), Branch):
                        return
                    volume.remove(path)
            except OSError:
                return

    def _make_folders(self, path: str) -> None:
        parts = _checked(path).split("/")[:-1]
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            if not self._volume.lies(folder):
                with self.step("mkdir") as volume:
                    volume.make_folder(folder)

    # -- the index: the site has it ----------------------------------------------------------------

    keeps_index = False

    def fetch_index(self) -> None:
        """There is one."""

    def keep_index(self) -> None:
        """There is one."""

    # -- a batch, a run ----------------------------------------------------------------------------

    def batch(self) -> nullcontext[None]:
        """Nothing has to be kept at hand."""
        return nullcontext()

    def make_durable(self) -> None:
        """Let everything done so far survive a power cut."""
        try:
            with self.step("sync") as volume:
                volume.sync()
        except OSError as error:
            raise unwritable(self.name, error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold it against other runs while the block runs."""
        with self.step("create") as volume:
            self._refuse_held()
            if volume.traits.has_flock:
                volume.holder = self._life
            volume.write(_LOCK, self._holder(self._life))
        try:
            yield
        finally:
            with suppress(Killed):
                self.drop(_LOCK)
                self._volume.holder = None

    def check_free(self) -> None:
        """Refuse when a run holds it."""
        with self.step("look"):
            self._refuse_held()

    def _holder(self, life: int) -> bytes:
        return f"life {life}".encode()

    def _refuse_held(self) -> None:
        """Without flock the file says who holds it: nobody does who was killed since."""
        volume = self._volume
        if volume.traits.has_flock:
            held = volume.holder is not None
        else:
            held = self.read_state("lock") == self._holder(volume.life)
        if held:
            raise LockedError(
                f"{self.name}: is in use",
                why=f"another run of this process holds {self.where(_LOCK)}",
                hint="wait for it to end and run again",
            )


class MemoryPartial:
    """A partial file on a volume in memory."""

    def __init__(self, destination: MemoryDestination, file: File, path: str) -> None:
        self._destination = destination
        self._file = file
        self._path = path
        self._at = 0

    def read(self) -> bytes:
        """The next piece that an earlier run left here; empty at the end of it."""
        with self._destination.step("read"):
            piece = self._file.data[self._at : self._at + _PIECE_BYTES]
        self._at += len(piece)
        return piece

    def write(self, piece: bytes | memoryview) -> None:
        """All of these bytes, at the place."""
        with self._destination.step("write") as volume:
            self._file.data = self._file.data[: self._at]
            volume.grow(self._file, bytes(piece), self._path)
        self._at += len(piece)

    def take(self, file: BinaryIO) -> bool:  # noqa: ARG002 (other kinds can)
        """What lies elsewhere has to be copied."""
        return False

    def restart(self) -> None:
        """Nothing is in it any more."""
        self._at = 0
        with self._destination.step("write"):
            self._file.data = b""

    def finish(self, mtime_ns: int, sha1: bytes | None = None) -> Written:  # noqa: ARG002
        """Cut to the place, and dated as far as the volume can hold the date."""
        with self._destination.step("date") as volume:
            self._file.data = self._file.data[: self._at]
            volume.date(self._file, mtime_ns)
            return Written(*_look(self._file))

    def close(self) -> None:
        """Nothing has to be let go of."""


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _kind(node: Node) -> EntryKind:
    if isinstance(node, File):
        return EntryKind.FILE
    return EntryKind.FOLDER if isinstance(node, Branch) else EntryKind.LINK


def _look(node: Node) -> tuple[int, int]:
    return (len(node.data), node.mtime_ns) if isinstance(node, File) else (0, 0)


def _checked(path: str) -> str:
    """A path that leads nowhere else."""
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"not a name below the root: {path!r}")
    return path
