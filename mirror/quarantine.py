"""What waits in quarantine, and how a person gets it back or lets go of it, without a server.

File, then record: killed in between, there is a record without a file, which the next run drops. A
file without a record is shown and can be had back, and is never deleted.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mirror.core.batches import batches
from mirror.core.names import fold, with_suffix
from mirror.destinations import QUARANTINE, STATE, OpenDestination, concerns_path, unwritable
from mirror.errors import ConflictError, MirrorError, UnwritableError, UsageError
from mirror.events import Event, emit
from mirror.index import Index, Quarantined
from mirror.recover import in_quarantine

_BATCH: Final = 256
_AREA: Final = f"{STATE}/{QUARANTINE}/"
_MOST_NAMES: Final = 1000
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One file in quarantine."""

    item: Quarantined
    is_recorded: bool

    @property
    def run_id(self) -> str:
        """The run that put it there."""
        return self.item.path.removeprefix(_AREA).partition("/")[0]

    def days_left(self, quarantine_days: int, now: datetime) -> int | None:
        """How many days it still waits at least; None: for ever, as nobody knows since when."""
        if not self.is_recorded:
            return None
        days = quarantine_days if self.item.days is None else self.item.days
        return max(0, math.ceil((self.item.quarantined_at + days * _DAY - now) / _DAY))


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a file came to lie, or why it stays."""

    waiting: Waiting
    place: str = ""
    error: MirrorError | None = None


def waiting(folder: OpenDestination, index: Index, now: datetime) -> list[Waiting]:
    """Everything in quarantine, oldest first, and last what no record tells of. Blocks."""
    recorded = [Waiting(item, is_recorded=True) for item in index.quarantined()]
    paths = {each.item.path for each in recorded}
    others = (item for item in in_quarantine(folder, now) if item.path not in paths)
    return [*recorded, *(Waiting(item, is_recorded=False) for item in others)]


def chosen(
    found: Sequence[tuple[OpenDestination, Waiting]], paths: Sequence[str]
) -> list[tuple[OpenDestination, Waiting]]:
    """Those that paths name: the original one, the one in quarantine, or either in full.

    Raises:
        UsageError: nothing, or more than one file, has one of the paths.
    """
    by_name: dict[str, list[tuple[OpenDestination, Waiting]]] = {}
    for folder, each in found:
        for name in _names(folder, each.item):
            by_name.setdefault(name, []).append((folder, each))
    result = []
    for path in dict.fromkeys(paths):
        named = by_name.get(path, [])
        if not named:
            raise UsageError(
                f"{path}: no such file is in quarantine", hint="see `mirror quarantine list`"
            )
        if len(named) > 1:
            raise UsageError(
                f"{path}: {len(named)} files in quarantine came from there",
                why=", ".join(folder.where(each.item.path) for folder, each in named),
                hint="name one of these",
            )
        result += named
    return list(dict.fromkeys(result))


def _names(folder: OpenDestination, item: Quarantined) -> set[str]:
    inside = item.path.removeprefix(_AREA)
    own = {item.original_path, item.path, inside}
    return own | {folder.where(item.original_path), folder.where(item.path)}


def aged(items: Iterable[Waiting], days: int, now: datetime) -> list[Quarantined]:
    """What was put there at least so many days ago, by our own record."""
    return [
        each.item
        for each in items
        if each.is_recorded and timedelta(0) <= now - each.item.quarantined_at >= days * _DAY
    ]


# -- back to where it was --------------------------------------------------------------------------


def put_back(folder: OpenDestination, index: Index, items: Sequence[Waiting]) -> Iterator[Restored]:
    """Give files their path again, or one beside it; they are nobody's but the user's then. Blocks.

    Raises:
        DestinationError: the destination takes no more.
    """
    for batch in batches(items, _BATCH):
        done = [_put_back(folder, index, each) for each in batch]
        yield from _let_go(folder, index, done, folder.make_durable)


def _put_back(folder: OpenDestination, index: Index, each: Waiting) -> Restored:
    for path in _free_names(each.item.original_path):
        # What our own index expects there, sync would take for that file, drifted.
        if index.holders([fold(path)]) or folder.entry(path) is not None:
            continue
        try:
            folder.move(each.item.path, path)
        except FileExistsError:
            continue
        except OSError as error:
            if not concerns_path(error):
                raise unwritable(folder.where(path), error) from error
            return Restored(each, error=_refused(each, error.strerror or str(error)))
        return Restored(each, path)
    return Restored(each, error=_refused(each, "no name beside it is free"))


def _free_names(path: str) -> Iterator[str]:
    yield path
    yield with_suffix(path, "-restored")
    yield from (with_suffix(path, f"-restored-{number}") for number in range(2, _MOST_NAMES))


# -- to another folder -----------------------------------------------------------------------------


def copy_out(
    folder: OpenDestination, index: Index, items: Sequence[Waiting], to: Path
) -> Iterator[Restored]:
    """Move files to a folder of the user's, each below its original path. Blocks.

    Raises:
        DestinationError: the destination, or the folder, takes no more.
    """
    for each in items:
        yield from _let_go(folder, index, [_copy_out(folder, each, to)], lambda: None)


def _copy_out(folder: OpenDestination, each: Waiting, to: Path) -> Restored:
    if not {"", ".", ".."}.isdisjoint(each.item.original_path.split("/")):
        raise ValueError(f"not a path below a folder: {each.item.original_path!r}")
    for path in _free_names(each.item.original_path):
        target = to / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target) or not _copied(folder, each.item.path, target):
                continue
        except FileExistsError:
            continue
        except OSError as error:
            if not concerns_path(error):
                raise unwritable(target, error) from error
            return Restored(each, error=_refused(each, error.strerror or str(error)))
        return Restored(each, str(target))
    return Restored(each, error=_refused(each, "no name beside it is free"))


def _copied(folder: OpenDestination, source: str, target: Path) -> bool:
    """A durable copy, compared with its source; False: something lies there by now."""
    # A name that the same file has again, should this be killed: it is made anew then.
    part = target.with_name(f".mirror-restores-{_key(folder.where(source))}")
    part.unlink(missing_ok=True)
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with part.open("xb") as file:
            for piece in folder.pieces(source):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        _date(part, folder, source)
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha1").digest() != digest.digest():
                raise UnwritableError(
                    f"{target}: what was written is not what is read", hint="check that disk"
                )
        return _named(part, target)
    finally:
        part.unlink(missing_ok=True)


def _key(path: str) -> str:
    name = path.encode("utf-8", "surrogateescape")
    return hashlib.sha1(name, usedforsecurity=False).hexdigest()[:16]


def _date(part: Path, folder: OpenDestination, source: str) -> None:
    entry = folder.entry(source)
    if entry is not None:
        with suppress(OSError, OverflowError):
            os.utime(part, ns=(entry.mtime_ns, entry.mtime_ns))


def _named(part: Path, target: Path) -> bool:
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError:  # no hard links there: look first
        if os.path.lexists(target):
            return False
        part.rename(target)
    with suppress(OSError):  # some file systems cannot sync a folder
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return True


# -- both ------------------------------------------------------------------------------------------


def _let_go(
    folder: OpenDestination,
    index: Index,
    done: Sequence[Restored],
    make_durable: Callable[[], None],
) -> Iterator[Restored]:
    """The records of files that are where they shall be go, once that is on the disk for sure."""
    make_durable()
    restored = [each for each in done if each.error is None]
    for each in restored:
        folder.drop(each.waiting.item.path)
        folder.drop_empty_folders(each.waiting.item.path)
    with index.transaction():
        for each in restored:
            index.drop_quarantined(each.waiting.item.path)
    for each in restored:
        item = each.waiting.item
        emit(
            "info",
            Event.QUARANTINE_RESTORED,
            asset_id=item.asset_id or None,
            path=each.place,
            from_path=item.path,
            reason=item.reason,
            bytes=item.size_bytes,
        )
    yield from done


def _refused(each: Waiting, why: str) -> ConflictError:
    return ConflictError(
        f"{each.item.original_path}: cannot be put back",
        why=why,
        hint="pass --to DIR: a folder that it shall go to",
    )
