"""What lets anyone verify the tree without this tool."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from mirror.core.model import Entry
from mirror.destinations import STATE, OpenDestination, own_state
from mirror.events import Event, emit
from mirror.index import Index

NAME: Final = "SHA1SUMS"
KEPT: Final = (
    "kept_manifest"  # the note of an index that was lost: what the old list is to be called
)
_WRITTEN: Final = "manifest_written"  # the note that tells the list that was written from others


def tend_manifest(
    folder: OpenDestination, index: Index, *, dry: bool = False, reads: bool = False
) -> None:
    """Let there be a true list of checksums; one that others changed or removed is told of.

    `reads`: all of it is read, whatever its size and time say. `dry`: nothing is written.

    Raises:
        NoSpaceError, UnwritableError: the file system refuses.
    """
    amiss = "" if index.manifest_is_outdated else _amiss(folder, index, reads=reads)
    if amiss:
        emit("warning", Event.MANIFEST_LOST, path=manifest_path(folder), reason=amiss)
    if not dry and (amiss or index.manifest_is_outdated):
        _write_manifest(folder, index)


def manifest_path(folder: OpenDestination) -> str:
    """Where it lies; a shard's own names its own files."""
    return f"{STATE}/{own_state(folder.shard, NAME)}"


def _amiss(folder: OpenDestination, index: Index, *, reads: bool) -> str:
    """What became of the list since it was written; empty: nothing that shows."""
    written = index.note(_WRITTEN)
    if not written:
        return ""  # there was nothing to tell of yet
    entry = folder.entry(manifest_path(folder))
    if entry is None:
        return "it is gone"
    sha1 = written.rpartition(" ")[2]
    if not reads and written == _look(entry, sha1):
        return ""
    # Another time alone says little: some file systems round it, and copies of a tree have others.
    try:
        is_same = folder.sha1(manifest_path(folder)).hex() == sha1
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not is_same:
        return "it is not as it was written"
    index.keep_note(_WRITTEN, _look(entry, sha1))
    return ""


def _look(entry: Entry, sha1: str) -> str:
    return f"{entry.size_bytes} {entry.mtime_ns} {sha1}"


def _write_manifest(folder: OpenDestination, index: Index) -> None:
    """Every proved file's SHA-1, for `cd DESTINATION && sha1sum -c .mirror/SHA1SUMS`."""
    kept = index.note(KEPT)
    if kept:
        # It may name files of assets that are not listed any more: nothing else tells of them now.
        with suppress(FileNotFoundError):  # killed here before
            folder.set_aside(manifest_path(folder), f"{STATE}/{own_state(folder.shard, kept)}")
        index.drop_note(KEPT)
    digest = hashlib.sha1(usedforsecurity=False)
    folder.write_state(own_state(folder.shard, NAME), _hashed(_lines(index), digest))
    entry = folder.entry(manifest_path(folder))
    index.keep_note(_WRITTEN, _look(entry, digest.hexdigest()) if entry else "")
    index.note_manifest()


def _hashed(pieces: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _lines(index: Index) -> Iterator[bytes]:
    """One line a file, in byte order of the path, escaped as sha1sum does it.

    Source: GNU coreutils, "md5sum invocation": a backslash in front of the line says that the name
    is escaped.
    """
    for row in index.all_rows():
        if row.sha1 is None:
            continue
        path = row.path.encode("utf-8", "surrogateescape")
        escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        mark = b"\\" if escaped != path else b""
        yield b"%s%s  %s\n" % (mark, row.sha1.hex().encode(), escaped)
