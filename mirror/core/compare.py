"""The disk against the index, merged in path order: only what differs becomes an object."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mirror.core.layout import fold
from mirror.core.model import Entry, EntryKind

# Path as bytes, kind, size in bytes, mtime in ns; in byte order of the path. Folders end in b"/".
Found = tuple[bytes, EntryKind, int, int]
# Path as bytes, size in bytes, mtime in ns, asset id; in byte order of the path.
Recorded = tuple[bytes, int, int, str]


@dataclass(slots=True)
class Comparison:
    """What the scan says of the index, and of everything else under the root.

    A row in neither `missing` nor `suspect` has a file of its size and mtime. A suspect is hashed
    before anything is decided.
    """

    missing: dict[str, str] = field(default_factory=dict)  # by asset id: the row's path
    suspect: dict[str, Entry] = field(default_factory=dict)  # by asset id
    foreign: dict[str, tuple[Entry, ...]] = field(default_factory=dict)  # by key
    folders: set[str] = field(default_factory=set)  # keys


def compare(found: Iterable[Found], recorded: Iterable[Recorded]) -> Comparison:
    """Merge both sides."""
    result = Comparison()
    rows = iter(recorded)
    row = next(rows, None)
    file = EntryKind.FILE
    for item in found:
        path, kind, size_bytes, mtime_ns = item
        if row is not None and row[0] < path:
            row = _missed_until(path, row, rows, result)
        if row is None or row[0] != path:
            _add_foreign(result, item)
            continue
        if size_bytes != row[1] or mtime_ns != row[2] or kind is not file:
            result.suspect[row[3]] = _entry(item)
        row = next(rows, None)
    while row is not None:
        _miss(result, row)
        row = next(rows, None)
    _match_folded(result)
    return result


def _missed_until(
    path: bytes, row: Recorded | None, rows: Iterator[Recorded], result: Comparison
) -> Recorded | None:
    """The first row at the path or behind it; those before it have no file."""
    while row is not None and row[0] < path:
        _miss(result, row)
        row = next(rows, None)
    return row


def _miss(result: Comparison, row: Recorded) -> None:
    result.missing[row[3]] = row[0].decode("utf-8", "surrogateescape")


def _entry(item: Found) -> Entry:
    path, kind, size_bytes, mtime_ns = item
    return Entry(path.decode("utf-8", "surrogateescape"), kind, size_bytes, mtime_ns)


def _add_foreign(result: Comparison, item: Found) -> None:
    entry = _entry(item)
    if entry.kind is EntryKind.FOLDER:
        result.folders.add(fold(entry.path.rstrip("/")))
        return
    key = fold(entry.path)
    result.foreign[key] = (*result.foreign.get(key, ()), entry)


def _match_folded(result: Comparison) -> None:
    """A file system that changes names (HFS+ decomposes them) still holds our file."""
    for asset_id, path in list(result.missing.items()):
        lying = result.foreign.get(fold(path), ())
        if len(lying) == 1 and lying[0].kind is EntryKind.FILE:
            result.suspect[asset_id] = lying[0]
            del result.missing[asset_id]
            del result.foreign[fold(path)]
