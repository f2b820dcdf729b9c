"""A disk that rots, and a verification amid everything else.

Every file is told as what it is; what is repaired is as the server has it; nothing else changes.
"""

import os
from dataclasses import dataclass

from mirror.core.model import Row
from mirror.core.verify import Condition, Verification
from mirror.errors import InternalError
from mirror.index import Index
from tests.integration.mirroring import rot, verified
from tests.machine.hands import Seen, observe, sha1
from tests.machine.world import World


@dataclass(frozen=True)
class _Rotten:
    """A file with a byte that nobody changed."""

    row: Row
    original: bytes
    sha1: bytes


def verify(world: World, number: int | None, *, repair: bool) -> None:
    """Read everything; `number` chooses a file that rots just before."""
    _read(world)  # what a kill left half done is done now, and what is told is of now
    rows = _rows(world)
    told = _conditions(world, rows)
    rotten = _rot(world, [row for row in rows if row.path not in told], number)
    before = observe(world.me.root)
    report = _read(world, repair=repair)
    after = observe(world.me.root)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    if changed:
        assert repair
        assert rotten is not None
        assert changed == {rotten.row.path}
        _note_repaired(world, rotten, after[rotten.row.path])
    elif rotten is not None:
        assert not repair or not _can_be_had(world, rotten), report
        _heal(world, rotten)
    if report.error is None:
        if rotten is not None:
            told[rotten.row.path] = Condition.REPAIRED if changed else Condition.DAMAGED
        assert {found.row.path: found.condition for found in report.found} == told
        assert report.counts[Condition.VERIFIED] == len(rows) - len(told)


def _read(world: World, *, repair: bool = False) -> Verification:
    before, bytes_before = observe(world.me.root), world.all_bytes()
    report = world.runner.run(verified(world.me, repair=repair, clock=world.now))
    assert not isinstance(report.error, InternalError), report.error
    world.assert_safe(before, observe(world.me.root), bytes_before, set())
    world.note_quarantine(doomed=set())
    return report


def _rows(world: World) -> list[Row]:
    file = world.me.root / ".mirror/index.sqlite3"
    if not file.exists():
        return []
    with Index(file, dry=True) as index:
        return [row for row in index.all_rows() if row.sha1 is not None]


def _conditions(world: World, rows: list[Row]) -> dict[str, Condition]:
    seen = observe(world.me.root)
    every = {row.path: _condition(world, row, seen.get(row.path)) for row in rows}
    return {path: condition for path, condition in every.items() if condition is not None}


def _rot(world: World, sound: list[Row], number: int | None) -> _Rotten | None:
    if number is None or not sound:
        return None
    row = sound[number % len(sound)]
    path = world.me.root / row.path
    original = path.read_bytes()
    if path.stat().st_mtime_ns != row.mtime_ns:
        return None  # touched: it would count as edited
    data = rot(path)
    world.made[sha1(data)] = data
    return _Rotten(row, original, sha1(data))


def _condition(world: World, row: Row, seen: Seen | None) -> Condition | None:
    """What is to be told of a file; None: nothing."""
    if seen is None:
        return Condition.DRIFTED if (world.me.root / row.path).is_dir() else Condition.MISSING
    if seen.link:
        return Condition.DRIFTED
    if seen.sha1 == row.sha1:
        return None
    size_bytes = (world.me.root / row.path).stat().st_size
    as_written = (size_bytes, seen.mtime_ns) == (row.size_bytes, row.mtime_ns)
    return Condition.DAMAGED if as_written else Condition.DRIFTED


def _note_repaired(world: World, rotten: _Rotten, now: Seen) -> None:
    aside = observe(world.me.root, ".mirror/quarantine")
    assert rotten.sha1 in {seen.sha1 for seen in aside.values()}
    held = world.memory.held.get(rotten.row.asset_id)
    if held is not None:  # the server may have others by now than the run before saw
        held.sha1s = {now.sha1} if held.certain else held.sha1s | {now.sha1}


def _can_be_had(world: World, rotten: _Rotten) -> bool:
    """Whether nothing keeps the server from giving these bytes again."""
    asset = world.library.assets.get(rotten.row.asset_id)
    return (
        not world.troubles
        and asset is not None
        and asset.owner_id == world.library.owner_id
        and asset.visibility != "locked"
        and not asset.trashed
        and not asset.is_offline
        and asset.id not in world.library.erased | world.suspected
    )


def _heal(world: World, rotten: _Rotten) -> None:
    """The cable was loose: otherwise no run would see it, and the tree would not be the model's."""
    path = world.me.root / rotten.row.path
    found = path.stat()
    path.write_bytes(rotten.original)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
