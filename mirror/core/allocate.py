"""One owner a path: which asset gets which name, for a whole plan at once.

A row keeps its path while its base is unchanged. Then come the assets whose bytes lie at one of
their names already, then the rest by (uploaded, id). A live photo is named as a unit, so that its
video keeps the still's stem. Pure, and independent of the order of its input.

Only an intact file that moves gives its place to others in the same plan: whatever else a row may
wait for (a download, a person) can fail, and its place would be taken while it is still there.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar

from mirror.core.layout import CANDIDATES, candidate, candidates, fold
from mirror.core.model import Asset, Disk, Entry, EntryKind, Row

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An asset that needs a path."""

    asset: Asset
    base: str
    still: Asset | None = None  # the still of a live photo whose video this is
    row: Row | None = None
    intact: bool = False  # the row's file is there, with the bytes that the server lists
    is_mine: Callable[[Entry], bool] = lambda _entry: False  # whether a file holds its bytes

    @property
    def kept(self) -> str | None:
        """The row's path, while the base that it was given for is the asset's."""
        return self.row.path if self.row is not None and self.row.base == self.base else None

    @property
    def lead(self) -> Asset:
        """The asset whose id makes the suffix."""
        return self.still or self.asset


# The claims of a unit, and those of them that adopt nothing.
_Waiting: TypeAlias = tuple[Sequence[Claim], Sequence[Claim]]


def allocate(
    claims: Sequence[Claim], disk: Disk, still_rows: Mapping[str, Row]
) -> dict[str, str | None]:
    """The path of each asset by id; None where every name is taken.

    `still_rows` are the rows of stills that need no path themselves, by id.
    """
    staying: frozenset[str] = frozenset()
    while True:
        board = _Board(disk, claims, staying)
        _fill(board, claims, still_rows)
        nameless = {asset_id for asset_id in board.leaving if board.paths[asset_id] is None}
        if not nameless:
            return board.paths
        staying |= nameless  # nowhere to go: nobody gets their place


def _fill(board: "_Board", claims: Iterable[Claim], still_rows: Mapping[str, Row]) -> None:
    rest = []
    for claim in claims:
        if claim.kept is not None and board.lies_at_its_path(claim):
            board.take([(claim, claim.kept)])
        else:
            rest.append(claim)
    _by_age(rest, lambda claim: claim.asset)
    # Something may have come to the place of a file that is missing.
    rest = [claim for claim in rest if not (claim.kept and board.take_all([claim], [claim.kept]))]
    units = _units(rest, board.leads)
    waiting: Iterable[_Waiting] = ((unit, _left_by_adoption(unit, board)) for unit in units)
    if board.has_foreign:  # whatever can be adopted is, before any other name is given away
        waiting = [(unit, left) for unit, left in waiting if left]
    for unit, left in waiting:
        _take_first_free(unit, left, board, still_rows)


def names_of(base: str, lead_id: str, asset_id: str) -> tuple[str, ...]:
    """Every path that `allocate` may give: suffixed as the live photo's still, then as itself."""
    own = candidates(base, asset_id)
    return own if lead_id == asset_id else (*candidates(base, lead_id), *own)


def ancestors(key: str) -> Iterator[str]:
    """The folders above a key, the nearest first."""
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _units(claims: Iterable[Claim], leads: set[str]) -> Iterator[Sequence[Claim]]:
    """Claims that share their name, still first; the units by (uploaded, id) of their lead.

    The claims are in that order already, by their own asset.
    """
    singles: list[Claim] = []
    by_lead: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.lead.id in leads:
            by_lead.setdefault(claim.lead.id, []).append(claim)
        else:
            singles.append(claim)
    for unit in by_lead.values():
        unit.sort(key=lambda claim: (claim.still is not None, claim.asset.id))
    pairs: list[Sequence[Claim]] = list(by_lead.values())
    _by_age(pairs, lambda unit: unit[0].lead)
    return heapq.merge(((claim,) for claim in singles), pairs, key=_age)


def _age(unit: Sequence[Claim]) -> tuple[datetime, str]:
    lead = unit[0].lead
    return lead.uploaded_at, lead.id


def _by_age(items: list[_T], asset_of: Callable[[_T], Asset]) -> None:
    """Sort by (uploaded, id): one key after the other, which needs no object for each item."""
    items.sort(key=lambda item: asset_of(item).id)
    items.sort(key=lambda item: asset_of(item).uploaded_at)


def _left_by_adoption(unit: Sequence[Claim], board: "_Board") -> Sequence[Claim]:
    """Give what lies at one of its names already that name; the claims of the unit that are left.

    All of the unit at one of their common names, if they lie there. Then each where it lies: names
    with a suffix first, for a suffix is nobody else's.
    """
    if not board.has_foreign:
        return unit
    common = zip(*(candidates(claim.base, claim.lead.id) for claim in unit), strict=True)
    for paths in reversed(list(common)):
        if board.all_lie(unit, paths) and board.take_all(unit, paths):
            return []
    return [claim for claim in unit if not _adopts(claim, board)]


def _adopts(claim: Claim, board: "_Board") -> bool:
    names = dict.fromkeys(names_of(claim.base, claim.lead.id, claim.asset.id))
    return any(
        board.all_lie([claim], [path]) and board.take_all([claim], [path])
        for path in reversed(names)
    )


def _take_first_free(
    unit: Sequence[Claim], left: Sequence[Claim], board: "_Board", still_rows: Mapping[str, Row]
) -> None:
    """Name what is left of a unit, as the rest of it is named where that is possible."""
    for number in _order(unit, board, still_rows):
        names = [candidate(claim.base, claim.lead.id, number) for claim in left]
        if board.take_all(left, names):
            return
    for claim in left:  # the unit has no common name left: each for itself
        if not any(
            board.take_all([claim], [path]) for path in candidates(claim.base, claim.asset.id)
        ):
            board.paths[claim.asset.id] = None


def _order(unit: Sequence[Claim], board: "_Board", still_rows: Mapping[str, Row]) -> Sequence[int]:
    """Which common names to try: first the one that some of the live photo has already."""
    if unit[0].lead.id not in board.leads:
        return range(CANDIDATES)
    numbers = list(range(CANDIDATES))
    for base, path in _named_already(unit, board, still_rows):
        names = candidates(base, unit[0].lead.id)
        if path in names:
            numbers.sort(key=lambda number: number != names.index(path))
            break
    return numbers


def _named_already(
    unit: Sequence[Claim], board: "_Board", still_rows: Mapping[str, Row]
) -> Iterator[tuple[str, str]]:
    """The base and path of the still, then of what else of the unit has its path."""
    lead = unit[0].lead.id
    row, path = still_rows.get(lead), board.paths.get(lead)
    base = row.base if row else board.bases.get(lead)
    if base is not None and (path or row):
        yield base, path or (row.path if row else "")
    for claim in unit:
        path = board.paths.get(claim.asset.id)
        if path is not None:
            yield claim.base, path


class _Board:
    """Which keys are taken, by what lies there, by rows that stay, and by this plan."""

    def __init__(self, disk: Disk, claims: Sequence[Claim], staying: frozenset[str]) -> None:
        self._disk = disk
        self._taken: set[str] = set()
        self._folders: set[str] = set()
        self.leaving = {
            claim.asset.id
            for claim in claims
            if claim.intact and claim.kept is None and claim.asset.id not in staying
        }
        self.leads = {claim.still.id for claim in claims if claim.still is not None}
        self.bases = {
            claim.asset.id: claim.base for claim in claims if claim.asset.id in self.leads
        }
        self.paths: dict[str, str | None] = {}

    @property
    def has_foreign(self) -> bool:
        """Whether anything lies about that is no row's."""
        return bool(self._disk.foreign)

    def lies_at_its_path(self, claim: Claim) -> bool:
        """Whether a file is at the row's very path; a link or another spelling is not ours."""
        row = claim.row
        if row is None or row.asset_id in self._disk.missing:
            return False
        lying = self._disk.other.get(row.asset_id)
        return lying is None or (lying.kind is EntryKind.FILE and lying.path == row.path)

    def take(self, pairs: Iterable[tuple[Claim, str]]) -> None:
        """Give each claim its path."""
        for claim, path in pairs:
            key = fold(path)
            self._taken.add(key)
            self._folders.update(ancestors(key))
            self.paths[claim.asset.id] = path

    def take_all(self, unit: Sequence[Claim], paths: Sequence[str]) -> bool:
        """Take one path for each, or none at all."""
        if len({fold(path) for path in paths}) < len(paths):
            return False
        pairs = list(zip(unit, paths, strict=True))
        if not all(self._is_free(claim, path) for claim, path in pairs):
            return False
        self.take(pairs)
        return True

    def all_lie(self, unit: Sequence[Claim], paths: Sequence[str]) -> bool:
        """Whether the unit's files lie at these paths already."""
        return all(
            self._lies_at(claim, fold(path)) for claim, path in zip(unit, paths, strict=True)
        )

    def _lies_at(self, claim: Claim, key: str) -> bool:
        return any(claim.is_mine(entry) for entry in self._disk.foreign.get(key, ()))

    def _is_free(self, claim: Claim, path: str) -> bool:
        key = fold(path)
        if key in self._taken or key in self._folders or key in self._disk.folders:
            return False
        if self._is_held(path, claim):
            return False
        if key in self._disk.foreign and not self._lies_at(claim, key):
            return False
        return not any(self._is_file(above, claim) for above in ancestors(key))

    def _is_held(self, path: str, claim: Claim) -> bool:
        key = fold(path)
        holder = self._disk.holders.get(key)
        if holder is None:
            return False
        if claim.row is not None and holder == claim.row.asset_id:
            # Other bytes lie at the row's path: they are displaced there, and in the way elsewhere.
            drifted = holder in self._disk.other
            return drifted and not (path == claim.row.path and self.lies_at_its_path(claim))
        # What would be adopted here would be adopted before the holder leaves.
        return holder not in self.leaving or key in self._disk.foreign

    def _is_file(self, key: str, claim: Claim) -> bool:
        if key in self._taken or key in self._disk.foreign:
            return True
        holder = self._disk.holders.get(key)
        if holder is None or holder in self.leaving or holder in self._disk.missing:
            return False
        is_own = claim.row is not None and holder == claim.row.asset_id
        return not is_own or holder in self._disk.other
