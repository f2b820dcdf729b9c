"""What every destination elsewhere has on this machine: a folder beside it, and the index.

An original waits in that folder until all of it is there and verified. The index lies there, too;
its copy in the destination is renewed after a run that changed something, and fetched back by a
machine that has none, or an older one.
"""

import errno
import hashlib
import json
import os
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from mirror.core.model import Shard
from mirror.core.shard import may_hold
from mirror.destinations import (
    INDEX,
    MARKER,
    PARTIAL,
    STATE,
    PartialFile,
    Written,
    is_full_here,
    own_state,
    partial,
    unwritable,
)
from mirror.destinations.folder import Folder
from mirror.destinations.index_copy import make_copy, serial_of
from mirror.destinations.lease import Lease, Leasing, check_free, refused
from mirror.errors import LockedError

PLENTY_BYTES: Final = 1 << 62  # where nobody can tell
AT_ONCE: Final = 8  # files on their way there
_LOCAL: Final = f"{STATE}/{INDEX}"
_NOTE: Final = "index.kept"  # beside the index: which copy it was, or became


@dataclass(frozen=True, slots=True)
class IndexCopy:
    """The copy of the index in a destination."""

    id: str  # another one each time that it is written
    sha1: str | None  # as it was written; None: nobody says


class Remote(ABC):
    """One destination elsewhere, and the folder of this machine beside it."""

    root = None

    def __init__(
        self, name: str, spool: Path, leasing: Leasing, *, shard: Shard | None = None
    ) -> None:
        """`spool` is that folder, which may come with `prepare`."""
        self.name = name
        self.shard = shard
        self._copy_path = f"{STATE}/{own_state(shard, INDEX)}"
        self._leasing = leasing
        self._spool_path = spool
        self._spool = Folder(spool) if spool.exists() else None
        self._lease: Lease | None = None
        self._refuses_overwrites: bool | None = None  # not looked up yet
        self._lacks_copy = False  # of the index, or has one that is none

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder beside it."""
        if self._spool is not None:
            self._spool.close()

    def where(self, path: str) -> str:
        """The URL; of what waits on this machine, the path."""
        return f"{self.name}/{path}" if not _waits(path) else str(self._spool_path / path)

    @property
    def spool(self) -> Path:
        """The folder beside it."""
        return self._spool_path

    def free_here_bytes(self) -> int:
        """What may still wait in that folder."""
        return self._spool.free_bytes() if self._spool is not None else PLENTY_BYTES

    def _where_refused(self, path: str, error: OSError) -> str:
        """What a refusal is about: the folder beside it, where that is what is full."""
        return str(self._spool_path) if is_full_here(self._spool_path, error) else self.where(path)

    # -- what a kind of them does ------------------------------------------------------------------

    @abstractmethod
    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes, piece by piece."""

    @abstractmethod
    def read_state(self, name: str) -> bytes | None:
        """One of our own small files; None when it is not there."""

    @abstractmethod
    def _index_copy(self) -> IndexCopy | None:
        """The copy of the index that lies there; None when there is none."""

    @abstractmethod
    def _renew_index_copy(self, file: BinaryIO, sha1: str) -> str:
        """Replace it, and get its id."""

    def _may_hold(self, path: bytes) -> bool:
        """Whether this run has to see what lies there: not what can only be another shard's."""
        return self.shard is None or may_hold(self.shard, path)

    # -- reading -----------------------------------------------------------------------------------

    def sha1(self, path: str) -> bytes:
        """The SHA-1 of a file's bytes, from reading all of them."""
        digest = hashlib.sha1(usedforsecurity=False)
        for piece in self.pieces(path):
            digest.update(piece)
        return digest.digest()

    def fetched(self, path: str) -> BinaryIO:
        """A file of this machine with the same bytes, which is gone when it is closed.

        Raises:
            OSError: they cannot be had.
        """
        file = tempfile.TemporaryFile(dir=self._spool_path)  # noqa: SIM115 (the caller closes it)
        try:
            for piece in self.pieces(path):
                file.write(piece)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def clone(self, source: str, name: str, mtime_ns: int) -> tuple[Written, bytes]:
        """Fetch a file into a partial one, finished; with its SHA-1 as read back."""
        with closing(self.open_partial(name)) as new:
            new.restart()
            for piece in self.pieces(source):
                new.write(piece)
            written = new.finish(mtime_ns)
        return written, self.sha1(partial(name))

    # -- the folder beside it ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder beside it."""
        try:
            self._spool_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._spool_path, error) from error
        if self._spool is None:
            self._spool = Folder(self._spool_path)
        self._spool.prepare()

    def open_partial(self, name: str) -> PartialFile:
        """A partial file, on this machine."""
        return self._prepared.open_partial(name)

    @property
    def _prepared(self) -> Folder:
        if self._spool is None:
            raise ValueError("prepare() first")
        return self._spool

    def _local(self, path: str) -> Folder | None:
        """The folder beside it, where partial files are."""
        return self._prepared if _waits(path) else None

    def _local_work_files(self) -> list[str]:
        return self._spool.work_files(PARTIAL) if self._spool is not None else []

    # -- its promises ------------------------------------------------------------------------------

    def _has_seen_refusals(self) -> bool:
        """Whether it was seen to refuse to overwrite, by what its marker says."""
        if self._refuses_overwrites is None:
            told: object = None
            with suppress(ValueError, LookupError, TypeError):
                told = json.loads(self.read_state(MARKER) or b"{}")["abilities"]
            can = told.get("no_overwrite_rename") if isinstance(told, dict) else None
            self._refuses_overwrites = can is True
        return self._refuses_overwrites

    # -- a batch, a run ----------------------------------------------------------------------------

    @property
    def at_once(self) -> int:
        """A request takes long, and whoever answers takes many."""
        return AT_ONCE

    def batch(self) -> AbstractContextManager[None]:
        """Nothing has to be kept at hand."""
        return nullcontext()

    def make_durable(self) -> None:
        """What waits on this machine survives a power cut; what was taken there, is there."""
        if self._lease is not None:
            self._lease.check()
        if self._spool is not None:
            self._spool.make_durable()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold it against other runs, of this machine and of others, while the block runs."""
        lease = Lease(self._leasing, self.name, self.shard)
        with self._held_here(), lease.held():
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    @contextmanager
    def _held_here(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._prepared.locked())
            except LockedError as error:
                raise self._refused_here(error) from error
            yield

    def _refused_here(self, error: LockedError) -> LockedError:
        return refused(self.name, error.why.partition(" holds ")[0], self.shard)

    def check_free(self) -> None:
        """Refuse when a run holds it."""
        if self._spool is not None:
            try:
                self._spool.check_free()
            except LockedError as error:
                raise self._refused_here(error) from error
        try:
            check_free(self._leasing, self.name, self.shard)
        except OSError as error:
            raise unwritable(self.name, error) from error

    # -- the index ---------------------------------------------------------------------------------

    @property
    def keeps_index(self) -> bool:
        """Whether a copy of the index lies there."""
        return self._index_copy() is not None

    def fetch_index(self) -> None:
        """Have the index of the last run here, wherever that ran."""
        try:
            copy = self._index_copy()
        except OSError as error:
            raise unwritable(self._where_refused(self._copy_path, error), error) from error
        self._lacks_copy = copy is None
        if copy is None:
            return  # none yet, or lost there too
        self.prepare()
        index = self._spool_path / _LOCAL
        if index.exists() and _noted(index) == copy.id:
            return
        try:
            self._take_over_index(index, copy)
        except OSError as error:
            raise unwritable(self._where_refused(self._copy_path, error), error) from error

    def _take_over_index(self, index: Path, copy: IndexCopy) -> None:
        new = index.with_name(f"{INDEX}.fetched")
        digest = hashlib.sha1(usedforsecurity=False)
        with new.open("wb") as file:
            for piece in self.pieces(self._copy_path):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if copy.sha1 not in (None, digest.hexdigest()):
            raise OSError(errno.EIO, "it is not as it was written", self._copy_path)
        if index.exists() and serial_of(new) < max(serial_of(index), 0):
            # No index of ours, or one that somebody brought back: the one here is of the last run.
            new.unlink()
            self._lacks_copy = True
            return
        for end in ("-wal", "-shm", "-journal"):
            index.with_name(INDEX + end).unlink(missing_ok=True)
        new.replace(index)
        _note(index, copy.id)

    def keep_index(self) -> None:
        """Copy the index there, if it is not the one that lies there; nobody has it open.

        Raises:
            NoSpaceError, UnwritableError: it cannot be.
        """
        index = self._spool_path / _LOCAL
        # A library's index is large: where nothing was written it is not read either.
        is_kept = not self._lacks_copy and _noted(index, 1) == _stamp(index)
        if is_kept or not index.exists():
            return
        copy = index.with_name(f"{INDEX}.copied")
        try:
            make_copy(index, copy)
            with copy.open("rb") as file:
                sha1 = hashlib.file_digest(file, "sha1").hexdigest()
                own_id = self._renew_index_copy(file, sha1)
            _note(index, own_id)
        except sqlite3.Error:
            return  # damaged: whoever opens it next will say so, and that one lies there still
        except OSError as error:
            raise unwritable(self._where_refused(self._copy_path, error), error) from error
        finally:
            copy.unlink(missing_ok=True)


def _waits(path: str) -> bool:
    return path.startswith(f"{STATE}/{PARTIAL}/")


def folders_above(path: str) -> list[str]:
    """The folders that a path goes through, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def checked(path: str) -> str:
    """A path that leads nowhere else.

    Raises:
        ValueError: it may.
    """
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"not a name below the root: {path!r}")
    return path


def _noted(index: Path, line: int = 0) -> str | None:
    """Of the copy that the index was, or became: its id, and the index's stamp then."""
    with suppress(OSError, IndexError):
        return index.with_name(_NOTE).read_text().splitlines()[line]
    return None


def _note(index: Path, own_id: str) -> None:
    index.with_name(_NOTE).write_text(f"{own_id}\n{_stamp(index)}\n")


def _stamp(index: Path) -> str:
    """Another text whenever somebody has written to it; nobody has it open."""
    status, log = index.stat(), index.with_name(f"{INDEX}-wal")
    waiting_bytes = log.stat().st_size if log.exists() else 0
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {waiting_bytes}"
