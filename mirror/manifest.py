"""What lets anyone verify the tree without this tool."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from mirror.destinations import STATE, OpenDestination, own_state
from mirror.index import Index

NAME: Final = "SHA1SUMS"
KEPT: Final = (
    "kept_manifest"  # the note of an index that was lost: what the old list is to be called
)


def write_manifest(folder: OpenDestination, index: Index) -> None:
    """Every proved file's SHA-1, for `cd DESTINATION && sha1sum -c .mirror/SHA1SUMS`.

    Raises:
        NoSpaceError, UnwritableError: the file system refuses.
    """
    kept = index.note(KEPT)
    if kept:
        # It may name files of assets that are not listed any more: nothing else tells of them now.
        with suppress(FileNotFoundError):  # killed here before
            folder.set_aside(manifest_path(folder), f"{STATE}/{own_state(folder.shard, kept)}")
        index.drop_note(KEPT)
    folder.write_state(own_state(folder.shard, NAME), lines(index))
    index.note_manifest()


def manifest_path(folder: OpenDestination) -> str:
    """Where it lies; a shard's own names its own files."""
    return f"{STATE}/{own_state(folder.shard, NAME)}"


def lines(index: Index) -> Iterator[bytes]:
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
