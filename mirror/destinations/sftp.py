"""A folder of a server that speaks SFTP as a destination, and a folder of this machine beside it.

An original waits on this machine until all of it is there and verified. It is uploaded below our
own folder, synced where the server offers that, dated, and then renamed: whoever looks there sees
all of it or nothing. Nothing here relies on what a server only may do; what it was seen to do saves
a question.

SFTP tells times in whole seconds, from 1970 to 2106, and no hashes. It has no way to open a path
without following links: each folder above a path is looked at once, and a link is not gone through.
What is exchanged for a link after that is not seen, as it would be on this machine.
"""

import errno
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from mirror.core.compare import Found
from mirror.core.model import Entry, EntryKind, Shard
from mirror.destinations import (
    MARKER,
    PARTIAL,
    STATE,
    Abilities,
    PartialFile,
    Written,
    concerns_path,
    own_state,
    unwritable,
)
from mirror.destinations.lease import FOLDER as LOCKS
from mirror.destinations.remote import PLENTY_BYTES, IndexCopy, Remote, checked, folders_above
from mirror.destinations.sftp_session import Seen, Session
from mirror.errors import NotOursError, UnwritableError
from mirror.stopping import check_stopping

_AT_ONCE: Final = 16  # a file takes several answers, which each take their time to come
_AHEAD: Final = 8  # folders listed before it is their turn, at each depth
_FEW: Final = 8
_SECOND_NS: Final = 10**9
_LEAST_S: Final = 0
_MOST_S: Final = 2**32 - 1
_REMEMBERED_S: Final = 2.0  # how much room there is, asked before each file
_ODD_S: Final = 1_600_000_001
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")  # rclone's shows other characters for them


class SftpFolder(Remote):
    """One folder of a server."""

    tells_sha1 = False
    at_once = _AT_ONCE

    def __init__(
        self, session: Session, name: str, spool: Path, *, shard: Shard | None = None
    ) -> None:
        """`spool` is the folder of this machine beside it; it may come with `prepare`."""
        super().__init__(name, spool, session, shard=shard)
        self._uploads = f"{STATE}/{own_state(shard, 'uploads')}"
        self._probed = f"{self._uploads}/Probe"
        self._session = session
        self._turn = threading.Lock()
        self._are_folders: set[str] = set()  # seen, or made
        self._room: tuple[float, int | None] = (-_REMEMBERED_S, None)  # when, and what was told

    def close(self) -> None:
        """Let go of the server, too."""
        self._session.close()
        super().close()

    # -- looking -----------------------------------------------------------------------------------

    def scan(self) -> Iterator[Found]:
        """Everything but our own state, in byte order of the path."""
        was_marked = self._is_marked()
        for path, seen in self._walk(""):
            if seen.kind is EntryKind.LINK:
                self._refuse_link(path)
            if seen.kind is EntryKind.FILE and not self._may_hold(os.fsencode(path)):
                continue
            size_bytes = seen.size_bytes if seen.kind is EntryKind.FILE else 0
            mtime_ns = seen.mtime_s * _SECOND_NS if seen.kind is EntryKind.FILE else 0
            end = b"/" if seen.kind is EntryKind.FOLDER else b""
            yield os.fsencode(path) + end, seen.kind, size_bytes, mtime_ns
        if was_marked and not self._is_marked():
            raise UnwritableError(
                f"{self.name}: is another folder than when the run began",
                why="its marker is gone",
                hint="check that its disk is mounted on the server, and run again",
            )

    def check_alone(self) -> None:
        """Refuse a place with another destination in it."""
        for _ in self._walk(""):
            pass

    def _is_marked(self) -> bool:
        return self.entry(f"{STATE}/{MARKER}") is not None

    def _walk(self, folder: str) -> Iterator[tuple[str, Seen]]:
        """What is below a folder, in byte order, folders with a slash; our own state left out."""
        yield from self._below(folder, self._session.listing(folder))

    def _below(self, folder: str, listing: Future[list[Seen]]) -> Iterator[tuple[str, Seen]]:
        check_stopping()
        children = self._children(folder, listing)
        folders = deque(path for path, seen in children if seen.kind is EntryKind.FOLDER)
        ahead: dict[str, Future[list[Seen]]] = {}
        for path, seen in children:
            yield path, seen
            if seen.kind is not EntryKind.FOLDER:
                continue
            self._know([path])
            while folders and len(ahead) < _AHEAD:
                following = folders.popleft()
                ahead[following] = self._session.listing(following)
            yield from self._below(path, ahead.pop(path))

    def _children(self, folder: str, listing: Future[list[Seen]]) -> list[tuple[str, Seen]]:
        try:
            found = listing.result()
        except OSError as error:
            raise unwritable(self.where(folder), error) from error
        children = []
        for seen in found:
            name = os.fsdecode(seen.name)
            if not name or "/" in name:
                raise UnwritableError(
                    f"{self.where(folder)}: cannot be read",
                    why=f"the server tells a name that is none: {name!r}",
                    hint="another server program may do better",
                )
            path = f"{folder}/{name}" if folder else name
            if name == STATE and self._is_state(path):
                continue
            end = b"/" if seen.kind is EntryKind.FOLDER else b""
            children.append((seen.name + end, path, seen))
        children.sort(key=lambda child: child[0])
        return [(path, seen) for _, path, seen in children]

    def _is_state(self, path: str) -> bool:
        """Whether it is our own folder; that of a destination inside this one is refused."""
        if path != STATE and self.entry(f"{path}/{MARKER}") is not None:
            raise NotOursError(
                f"{self.where(path.rpartition('/')[0])}: another destination lies inside this one",
                why=f"{self.where(path)}/{MARKER} exists",
                hint="choose a folder beside it",
            )
        return path == STATE

    def _refuse_link(self, path: str) -> None:
        try:
            target = self._session.look(path, follows=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(self.where(path), error) from error
        if target.kind is EntryKind.FOLDER:
            raise NotOursError(
                f"{self.where(path)}: a destination must be one tree on one file system",
                why="it is a link to a folder; were it missing one day, its photos would seem lost",
                hint="move it out of the destination, or give it a mirror of its own",
            )

    def entry(self, path: str) -> Entry | None:
        """What lies at a path now, links not followed; None when nothing does."""
        if (local := self._local(path)) is not None:
            return local.entry(path)
        try:
            seen = self._look(path)
        except OSError as error:
            if concerns_path(error):
                return None
            raise unwritable(self.where(path), error) from error
        if seen.kind is EntryKind.FILE:
            return Entry(path, seen.kind, seen.size_bytes, seen.mtime_s * _SECOND_NS)
        return Entry(path, seen.kind)

    def _look(self, path: str) -> Seen:
        self._go_through(checked(path))
        return self._session.look(path)

    def _lies(self, path: str) -> bool:
        try:
            self._session.look(path)
        except FileNotFoundError:
            return False
        return True

    def told_sha1(self, path: str) -> None:
        """SFTP tells none."""

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes."""
        if (local := self._local(path)) is not None:
            return local.pieces(path)
        self._refuse_other_than_file(path)
        return self._session.pieces(path)

    def _refuse_other_than_file(self, path: str) -> None:
        match self._look(path).kind:
            case EntryKind.FILE:
                return
            case EntryKind.FOLDER:
                code = errno.EISDIR
            case EntryKind.LINK:
                code = errno.ELOOP
            case _:
                raise OSError(errno.EINVAL, "is not a file", path)
        raise OSError(code, os.strerror(code), path)

    def free_bytes(self) -> int:
        """What may still wait on this machine, and then be written there."""
        asked_s, there = self._room
        if time.monotonic() - asked_s >= _REMEMBERED_S:
            there = self._session.free_bytes()
            self._room = time.monotonic(), there
        return min(self.free_here_bytes(), PLENTY_BYTES if there is None else there)

    # -- our own places ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder beside it, and our own there."""
        super().prepare()
        try:
            for folder in (STATE, LOCKS, *folders_above(self._uploads), self._uploads):
                self._make_folder(folder, 0o700)
        except OSError as error:
            raise unwritable(self.where(STATE), error) from error

    def probe(self) -> Abilities:
        """Find out what the server keeps, and does."""
        session, other = self._session, f"{self._probed}-2"
        try:
            session.put(self._probed, b"?" * 4096, {})
            return replace(
                self._prepared.probe(),
                hard_links=self._links(other),
                reflinks=False,
                folds_case=self._lies(f"{self._uploads}/PROBE"),
                mtime_step_ns=self._step_s() * _SECOND_NS,
                mtime_least_s=_LEAST_S,
                mtime_most_s=self._most_s(),
                folder_sync=False,
                flock=False,
                no_overwrite_rename=self._refuses(other),
            )
        finally:
            for path in (self._probed, other):
                session.delete(path)

    def _links(self, other: str) -> bool:
        try:
            self._session.link(self._probed, other)
        except OSError:
            return False
        self._session.delete(other)
        return True

    def _step_s(self) -> int:
        self._session.set_time(self._probed, _ODD_S)
        return 1 if self._session.look(self._probed).mtime_s == _ODD_S else 2

    def _most_s(self) -> int:
        for most_s in (_MOST_S, 2**31 - 1):
            with suppress(OSError):
                self._session.set_time(self._probed, most_s)
                if self._session.look(self._probed).mtime_s == most_s:
                    return most_s
        return 2**31 - 1

    def _refuses(self, other: str) -> bool:
        """Whether a plain rename does not write over a file."""
        self._session.put(other, b"", {})
        try:
            self._session.rename(other, self._probed)
        except OSError:
            return self._session.look(self._probed).size_bytes > 0
        return False

    def open_partial(self, name: str) -> PartialFile:
        """A partial file, on this machine, dated as the server will."""
        return _Dated(super().open_partial(name))

    def work_files(self, area: str) -> list[str]:
        """The names in one of our own folders, here or there."""
        if area == PARTIAL:
            return self._local_work_files()
        try:
            found = self._session.listing(f"{STATE}/{area}").result()
        except FileNotFoundError:
            return []
        return sorted(os.fsdecode(seen.name) for seen in found)

    def drop(self, path: str) -> None:
        """Remove one of our own files, if it is there."""
        if (local := self._local(path)) is not None:
            local.drop(path)
            return
        if not path.startswith(f"{STATE}/"):
            raise ValueError(f"not a work file: {path}")
        self._session.delete(checked(path))

    def read_state(self, name: str) -> bytes | None:
        """One of our own small files; None when it is not there."""
        for path in (f"{STATE}/{name}", _next(f"{STATE}/{name}")):
            try:
                return b"".join(self._session.pieces(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unwritable(self.where(path), error) from error
        return None

    def write_state(self, name: str, content: Iterable[bytes]) -> None:
        """Replace one of our own small files."""
        path = f"{STATE}/{name}"
        try:
            with TemporaryFile(dir=self._spool_path) as file:
                file.writelines(content)
                self._replace(file, path, int(time.time()))
        except OSError as error:
            raise unwritable(self.where(path), error) from error

    def _replace(self, file: BinaryIO, path: str, mtime_s: int) -> None:
        """The old one or the new one: whole, where it can be read by `read_state`."""
        self._upload(file, self._waiting(path), mtime_s)
        # Where one file cannot be put over another, it has this name while there is no old one.
        self._session.replace(self._waiting(path), path, by=_next(path))

    def gone(self, paths: Iterable[str]) -> list[str]:
        """Those of our own files that are not there."""
        wanted = list(paths)
        if len(wanted) <= _FEW:
            return [path for path in wanted if self.entry(path) is None]
        lying: set[str] = set()
        for area in sorted({"/".join(path.split("/")[:2]) for path in wanted}):
            with suppress(FileNotFoundError):
                self._session.look(area)
                lying.update(path for path, _ in self._walk(area))
        return [path for path in wanted if path not in lying]

    # -- putting in place --------------------------------------------------------------------------

    def move(self, source: str, path: str) -> None:
        """Give a file another path, or a partial file its own: nothing is overwritten."""
        checked(source)
        checked(path)
        if _CONTROL.search(path):
            raise OSError(errno.EILSEQ, "some servers keep no control characters", path)
        if (local := self._local(source)) is not None:
            with local.opened(source) as file:
                self._refuse_taken(path)
                waiting = self._waiting(source)
                self._upload(file, waiting, _mtime_s(file))
                try:
                    self._rename(waiting, path)
                except OSError:
                    with suppress(OSError):
                        self._session.delete(waiting)
                    raise
            local.drop(source)
            return
        self._go_through(source)
        self._rename(source, path)

    def set_aside(self, source: str, path: str) -> None:
        """Move a file to one of our own places, over whatever lies there."""
        checked(source)
        self._make_folders(checked(path))
        if (local := self._local(source)) is not None:
            with local.opened(source) as file:
                waiting = self._waiting(source)
                self._upload(file, waiting, _mtime_s(file))
                self._session.replace(waiting, path)
            local.drop(source)
            return
        self._go_through(source)
        self._session.replace(source, path)

    def is_same_file(self, path: str, other: str) -> bool:
        """Whether a rename that is a link and an unlink was cut in the middle, as OpenSSH's can be.

        SFTP does not tell: both have another name somewhere, the same size and time, and the same
        bytes, so that one of them is enough.
        """
        try:
            found = [self._linked(each) for each in (path, other)]
            return (
                found[0] is not None
                and found[0] == found[1]
                and self.sha1(path) == self.sha1(other)
            )
        except (OSError, UnwritableError):
            return False

    def _linked(self, path: str) -> tuple[int, int] | None:
        """Size and time of a file that has another name; None when it has none."""
        self._go_through(checked(path))
        folder, _, name = path.rpartition("/")
        for seen in self._session.listing(folder).result():
            if seen.name == os.fsencode(name) and seen.kind is EntryKind.FILE:
                return (seen.size_bytes, seen.mtime_s) if (seen.links or 0) > 1 else None
        return None

    def unlink_second_name(self, path: str, kept: str) -> None:
        """Remove one of two names of the same file."""
        if not self.is_same_file(path, kept):
            raise ValueError(f"{path} is not {kept}")
        self._session.delete(path)

    def drop_empty_folders(self, path: str) -> None:
        """Remove the folders above a path that a move has left empty, but never the root."""
        for folder in reversed(folders_above(path)):
            with self._turn:
                self._are_folders.discard(folder)
            try:
                self._session.remove_folder(folder)
            except OSError:
                return

    def _upload(self, file: BinaryIO, path: str, mtime_s: int) -> None:
        try:
            self._session.upload(file, path, mtime_s)
        except OSError:
            with suppress(OSError):
                self._session.delete(path)  # of a full disk it is the last room
            raise

    def _rename(self, source: str, path: str) -> None:
        self._make_folders(path)
        if not self._has_seen_refusals():
            self._refuse_taken(path)
        try:
            self._session.rename(source, path)
        except OSError as error:
            if concerns_path(error) and not isinstance(error, FileExistsError):
                raise
            # Asked again, since the connection was lost between a link and its unlink, it is
            # refused for what the link made.
            if self.is_same_file(source, path):
                self._session.delete(source)
                return
            self._refuse_taken(path)
            raise

    def _refuse_taken(self, path: str) -> None:
        if self._lies(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    # -- folders -----------------------------------------------------------------------------------

    def _know(self, folders: Iterable[str]) -> None:
        with self._turn:
            self._are_folders.update(folders)

    def _go_through(self, path: str) -> None:
        """Refuse a path whose folders are not all real ones."""
        for folder in folders_above(path):
            if folder not in self._are_folders:
                self._refuse_other_than_folder(folder)

    def _refuse_other_than_folder(self, folder: str) -> None:
        if self._session.look(folder).kind is not EntryKind.FOLDER:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        self._know([folder])

    def _make_folders(self, path: str) -> None:
        for folder in folders_above(path):
            if folder not in self._are_folders:
                self._make_folder(folder)

    def _make_folder(self, folder: str, mode: int | None = None) -> None:
        """One of which nothing is known; a scan has told of those that were there."""
        try:
            self._session.make_folder(folder, mode)
        except OSError as refused:
            try:
                self._refuse_other_than_folder(folder)
            except FileNotFoundError:
                raise refused from None
        else:
            self._know([folder])

    # -- a run, the index --------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold it against other runs; what a killed one was uploading is nobody's."""
        with super().locked():
            for seen in self._session.listed(self._uploads):
                self._session.delete(seen.path)
            yield

    def _waiting(self, source: str) -> str:
        """Where a file is until all of it is there; two at once never have the same name."""
        return f"{self._uploads}/{source.rpartition('/')[2]}"

    def _index_copy(self) -> IndexCopy | None:
        try:
            seen = self._session.look(self._copy_path)
        except FileNotFoundError:
            return None
        return IndexCopy(_copy_id(seen), None)

    def _renew_index_copy(self, file: BinaryIO, _sha1: str) -> str:
        # Nothing can be written beside a file: each copy has a time of its own.
        mtime_s = int(time.time())
        with suppress(FileNotFoundError):
            mtime_s = max(mtime_s, self._session.look(self._copy_path).mtime_s + 1)
        self._replace(file, self._copy_path, mtime_s)
        return _copy_id(self._session.look(self._copy_path))


class _Dated:
    """A partial file with no date that SFTP cannot tell."""

    def __init__(self, file: PartialFile) -> None:
        self._file = file
        self.read = file.read
        self.write = file.write
        self.take = file.take
        self.restart = file.restart
        self.close = file.close

    def finish(self, mtime_ns: int, sha1: bytes | None = None) -> Written:
        """Cut to the place, and dated in whole seconds."""
        mtime_s = max(_LEAST_S, min(mtime_ns // _SECOND_NS, _MOST_S))
        return self._file.finish(mtime_s * _SECOND_NS, sha1)


def _mtime_s(file: BinaryIO) -> int:
    return max(_LEAST_S, min(os.fstat(file.fileno()).st_mtime_ns // _SECOND_NS, _MOST_S))


def _next(path: str) -> str:
    """Where a new file waits while the old one is removed."""
    return f"{path}.next"


def _copy_id(seen: Seen) -> str:
    return f"{seen.mtime_s} {seen.size_bytes}"
