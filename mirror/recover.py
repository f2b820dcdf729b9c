"""An index that is lost or broken: the run goes on with a new one, and adopts what lies there.

Nothing that might be of use is thrown away: a broken index is kept beside the new one, and so is
the list of checksums of a lost one, which names files that no listing tells of any more.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirror.core.model import EntryKind
from mirror.destinations import QUARANTINE, STATE, OpenDestination, unwritable
from mirror.errors import IndexDamagedError
from mirror.events import Event, emit
from mirror.index import FRESH, Index, Quarantined
from mirror.last_run import read_last_run
from mirror.manifest import KEPT, NAME, manifest_path

_BESIDE: Final = ("-wal", "-journal", "-shm")  # what SQLite writes beside a database
_BROKEN: Final = "in place of a broken one"
_LOST: Final = (
    "the index is gone: what lies here is hashed and adopted, nothing is downloaded twice;"
    " files whose assets are not listed any more stay, and are taken for foreign"
)


def opened(path: Path, *, dry: bool, name_rules: int) -> Index:
    """The index at `path`; a new one where there is none, or none that can be understood.

    `remember` comes next.

    Raises:
        IndexBrokenError: it is there, and must not or cannot be used.
        UnwritableError: a broken one cannot be moved out of the way.
    """
    there = path if path.exists() or not dry else None
    try:
        index = Index(there, dry=dry, name_rules=name_rules)
    except IndexDamagedError as error:
        return renewed(None if dry else path, error, name_rules=name_rules)
    if index.migrated_from is not None and not dry:
        emit("info", Event.INDEX_MIGRATED, path=f"{STATE}/{path.name}.v{index.migrated_from}")
    return index


def renewed(path: Path | None, error: IndexDamagedError, *, name_rules: int) -> Index:
    """A new index in place of a damaged one, which is kept; in memory without a path.

    Raises:
        IndexBrokenError, UnwritableError: the file system refuses.
    """
    reason = f"the index is damaged ({error.why}): it is made anew from what lies here"
    kept = f"{STATE}/{_set_aside(path)}" if path else None
    emit("warning", Event.INDEX_REBUILT, reason=reason, path=kept)
    index = Index(path, name_rules=name_rules)
    index.take_note(FRESH, _BROKEN)
    return index


def _set_aside(path: Path) -> str:
    """Move an index out of the way, with what SQLite left beside it; its new name."""
    kept = _free(path.with_name(f"{path.name}.broken-{_stamp()}"))
    try:
        # A journal that stayed behind would be played into the new index.
        for end in (*_BESIDE, ""):
            beside = path.with_name(path.name + end)
            if os.path.lexists(beside):
                beside.rename(kept.with_name(kept.name + end))
    except OSError as error:
        raise unwritable(path, error) from error
    return kept.name


def remember(folder: OpenDestination, index: Index, *, now: datetime, dry: bool) -> None:
    """Tell a new index of a destination that is not new; killed in the middle, it comes again.

    `now` is when files without a record begin to wait.
    """
    fresh = index.note(FRESH)
    if not fresh:
        return
    has_list = folder.entry(manifest_path(folder)) is not None
    was_used = has_list or read_last_run(folder) is not None
    if was_used and fresh != _BROKEN:
        emit("warning", Event.INDEX_REBUILT, reason=_LOST)
    # Nobody knows whose those are: not a shard's to say.
    found = [] if folder.shard else list(in_quarantine(folder, now))
    with index.transaction():
        if has_list and not dry:
            index.take_note(KEPT, f"{NAME}.before-{_stamp()}")
            index.outdate_manifest()
        for item in found:
            index.add_quarantined(item)
        index.drop_note(FRESH)


def in_quarantine(folder: OpenDestination, now: datetime) -> Iterator[Quarantined]:
    """Every file there, as put there now: nobody knows since when it waits."""
    for run_id in folder.work_files(QUARANTINE):
        for path in _files(folder, f"{QUARANTINE}/{run_id}"):
            lying = folder.entry(f"{STATE}/{path}")
            if lying is not None and lying.kind is EntryKind.FILE:
                yield Quarantined(
                    path=lying.path,
                    asset_id="",
                    original_path=path.split("/", 2)[2],
                    sha1=None,
                    size_bytes=lying.size_bytes,
                    reason="found without a record",
                    quarantined_at=now,
                )


def _files(folder: OpenDestination, area: str) -> Iterator[str]:
    """What lies below one of our own folders, links not followed."""
    entry = folder.entry(f"{STATE}/{area}")
    if entry is None or entry.kind is not EntryKind.FOLDER:
        yield area
        return
    for name in folder.work_files(area):
        yield from _files(folder, f"{area}/{name}")


def _free(path: Path) -> Path:
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
