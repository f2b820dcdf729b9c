"""A small pure world: originals, a tree of files and rows, and what a plan does to them.

It looks as a run looks, and it refuses what a file system refuses: to overwrite, to put a file
into a file, to find two names of one spelling where case makes no difference.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from mirror.core import checksum
from mirror.core.allocate import ancestors
from mirror.core.compare import Comparison, Found, Recorded, compare
from mirror.core.evidence import Sentence
from mirror.core.layout import fold
from mirror.core.model import (
    Asset,
    AssetType,
    Disk,
    Entry,
    EntryKind,
    Listed,
    Row,
    RowState,
    Visibility,
)
from mirror.core.names import split_extension
from mirror.core.order import steps
from mirror.core.plan import Action, Difference, Kind, Plan, Reason, candidates, make_plan

OURS_NS = 1  # the time of what we wrote
THEIRS_NS = 2  # the time of everything else: other bytes are never taken for ours by chance
UPLOADED_AT = datetime(2024, 1, 1, tzinfo=UTC)
OWNER = "00000000-0000-4000-8000-00000000000a"


def sha1(content: bytes) -> bytes:
    """The SHA-1 of some bytes."""
    return hashlib.sha1(content, usedforsecurity=False).digest()


def an_asset(asset_id: str, content: bytes = b"photo", **changed: object) -> Asset:
    """An uploaded photo; `changed` are fields of `Asset`."""
    plain = Asset(
        id=asset_id,
        owner_id=OWNER,
        type=AssetType.IMAGE,
        visibility=Visibility.TIMELINE,
        original_file_name="a.jpg",
        original_path=f"/data/upload/{asset_id}.jpg",
        checksum=sha1(content),
        taken_at=UPLOADED_AT,
        taken_local=UPLOADED_AT.replace(tzinfo=None),
        uploaded_at=UPLOADED_AT,
        updated_at=UPLOADED_AT,
        file_modified_at=UPLOADED_AT,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  # the fields of each test's choice


def external(asset: Asset) -> Asset:
    """The same asset in an external library: the server knows no checksum of its bytes."""
    path = f"/mnt/library/{asset.id}.jpg"
    return replace(asset, library_id="library", original_path=path, checksum=checksum.of_path(path))


class RefusedError(Exception):
    """What a file system, or the index, would have refused."""


@dataclass(frozen=True, slots=True)
class Node:
    """One file, folder or link."""

    kind: EntryKind = EntryKind.FILE
    content: bytes = b""
    mtime_ns: int = THEIRS_NS


_FOLDER = Node(EntryKind.FOLDER)


class Tree:
    """A file system below one root; `folding`: case and normal form make no difference in it."""

    def __init__(self, *, folding: bool = False) -> None:
        self._folding = folding
        self._nodes: dict[str, tuple[str, Node]] = {}

    def __repr__(self) -> str:
        return f"Tree(folding={self._folding})"

    def copy(self) -> "Tree":
        """Another tree like this one."""
        twin = Tree(folding=self._folding)
        twin._nodes = dict(self._nodes)
        return twin

    def nodes(self) -> dict[str, Node]:
        """Everything there is, by its path as it was spelled when it was made."""
        return dict(self._nodes.values())

    def get(self, path: str) -> Node | None:
        """What lies at a path."""
        return self._nodes.get(self._key(path), (path, None))[1]

    def content(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            RefusedError: there is none.
        """
        return self._file(path).content

    def put(self, path: str, node: Node) -> str:
        """Make something where nothing is, and the folders above it; its path as it is spelled."""
        spelled = ""
        for part in path.split("/")[:-1]:
            above, _ = self._nodes.setdefault(
                self._key(f"{spelled}{part}"), (f"{spelled}{part}", _FOLDER)
            )
            if self._nodes[self._key(above)][1].kind is not EntryKind.FOLDER:
                raise RefusedError(f"{path}: {above} is no folder")
            spelled = f"{above}/"
        spelled += path.rpartition("/")[2]
        if self._key(path) in self._nodes:
            raise RefusedError(f"{path}: something lies there")
        self._nodes[self._key(path)] = (spelled, node)
        return spelled

    def move(self, source: str, path: str) -> None:
        """Rename a file."""
        self.put(path, self._file(source))
        del self._nodes[self._key(source)]

    def remove(self, path: str) -> Node:
        """Take a file out, and the folders that are empty then."""
        node = self._file(path)
        del self._nodes[self._key(path)]
        self.drop_empty_folders(path)
        return node

    def drop_empty_folders(self, path: str) -> None:
        """Remove the folders above a path that have nothing in them."""
        for above in ancestors(path):
            key = self._key(above)
            if any(other.startswith(f"{key}/") for other in self._nodes):
                return
            self._nodes.pop(key, None)

    def scan(self) -> Iterator[Found]:
        """As a folder scans: in byte order, folders with a slash, nothing of our own state."""
        found: list[Found] = []
        for path, node in self._nodes.values():
            raw = path.encode("utf-8", "surrogateescape")
            if node.kind is EntryKind.FILE:
                found.append((raw, node.kind, len(node.content), node.mtime_ns))
            else:
                found.append((raw + b"/" * (node.kind is EntryKind.FOLDER), node.kind, 0, 0))
        return iter(sorted(item for item in found if not item[0].startswith(b".mirror/")))

    def _file(self, path: str) -> Node:
        node = self.get(path)
        if node is None or node.kind is not EntryKind.FILE:
            raise RefusedError(f"{path}: no file")
        return node

    def _key(self, path: str) -> str:
        return fold(path) if self._folding else path


@dataclass(slots=True, kw_only=True, repr=False)
class World:
    """A server's listing, a destination, and what a mirror wants."""

    tree: Tree
    listed: tuple[Listed, ...] = ()
    bases: Mapping[str, str] = field(default_factory=dict)  # by the id of the asset, or its still
    contents: Mapping[str, bytes] = field(default_factory=dict)  # by id: the original's bytes
    rows: dict[str, Row] = field(default_factory=dict)
    quarantine: dict[str, bytes] = field(default_factory=dict)  # by path: bytes
    known_failures: frozenset[str] = frozenset()
    complete: bool = True
    removes: bool = True  # False: `copy`
    sentence: Sentence | None = None  # of all that is not listed

    def __repr__(self) -> str:
        lines = [
            f"complete={self.complete} removes={self.removes} {self.sentence}",
            *(f"listed {_told(item)} base {self.base(item)}" for item in self.listed),
            *(f"{row}" for row in self.rows.values()),
            *(f"{path}: {node}" for path, node in self.tree.nodes().items()),
            f"quarantine={self.quarantine} known={sorted(self.known_failures)} {self.tree}",
        ]
        return "World:\n  " + "\n  ".join(lines)

    def copy(self) -> "World":
        """Another world like this one, to do things to."""
        return replace(
            self, tree=self.tree.copy(), rows=dict(self.rows), quarantine=dict(self.quarantine)
        )

    def base(self, listed: Listed) -> str:
        """The path that the layout wants."""
        if listed.still is None:
            return self.bases[listed.asset.id]
        return f"{split_extension(self.bases[listed.still.id])[0]}.MOV"

    def content(self, asset: Asset) -> bytes:
        """The original's bytes."""
        return self.contents[asset.id]

    def etag(self, asset: Asset) -> str:
        """What the server would say of the original's bytes."""
        return sha1(self.content(asset)).hex()


def with_contents(world: World, contents: Mapping[str, bytes]) -> World:
    """The same world with other originals; what lies in the tree stays as it is."""

    def changed(asset: Asset) -> Asset:
        is_external = asset.library_id is not None
        return asset if is_external else replace(asset, checksum=sha1(contents[asset.id]))

    listed = tuple(
        Listed(changed(item.asset), item.still and changed(item.still)) for item in world.listed
    )
    return replace(world, listed=listed, contents=contents)


def _told(listed: Listed) -> str:
    asset = listed.asset
    external_mark = " external" if asset.library_id else ""
    of = f" of {listed.still.id}" if listed.still else ""
    return f"{asset.id}{of}{external_mark} {asset.checksum.hex()[:8]} {asset.uploaded_at:%d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a planner is told of a world."""

    differences: list[Difference]
    unlisted: list[Row]
    disk: Disk
    still_rows: dict[str, Row]
    unchanged: int


def look(world: World) -> Look:
    """Compare both sides; rows whose file only looks changed are refreshed."""
    compared = compare(world.tree.scan(), _recorded(world))
    other = _examined(world, compared)
    differences = [
        item
        for listed in world.listed
        if (item := _difference(world, listed, compared, other)) is not None
    ]
    ids = {listed.asset.id for listed in world.listed}
    return Look(
        differences=differences,
        unlisted=[row for row in world.rows.values() if row.asset_id not in ids],
        disk=_disk(world, compared, other),
        still_rows={
            still.id: world.rows[still.id]
            for still in (item.still for item in differences)
            if still is not None and still.id in world.rows
        },
        unchanged=len(world.listed) - len(differences),
    )


def plan(world: World) -> Plan:
    """What has to be done to a world."""
    return plan_for(world, look(world))


def plan_for(world: World, seen: Look) -> Plan:
    """The same from a look that was taken before."""
    return make_plan(
        seen.differences,
        seen.unlisted,
        seen.disk,
        complete=world.complete,
        removes=world.removes,
        sentences=_sentences(world, seen),
        still_rows=seen.still_rows,
        unchanged=seen.unchanged,
    )


def _sentences(world: World, seen: Look) -> dict[str, Sentence]:
    if world.sentence is None:
        return {}
    asked = candidates(seen.unlisted, seen.differences, seen.disk)
    return {row.asset_id: world.sentence for row in asked}


def _recorded(world: World) -> list[Recorded]:
    return sorted(
        (row.path.encode("utf-8", "surrogateescape"), row.size_bytes, row.mtime_ns, row.asset_id)
        for row in world.rows.values()
    )


def _examined(world: World, compared: Comparison) -> dict[str, Entry]:
    """Hash what looks changed; what is not the row's is other."""
    other: dict[str, Entry] = {}
    for asset_id, entry in compared.suspect.items():
        row, hashed = world.rows[asset_id], _hashed(world, entry)
        same = hashed.sha1 == row.sha1 if row.sha1 else hashed.size_bytes == row.size_bytes
        if same and hashed.sha1 is not None:
            world.rows[asset_id] = replace(
                row, path=entry.path, size_bytes=entry.size_bytes, mtime_ns=entry.mtime_ns
            )
        else:
            other[asset_id] = hashed
    return other


def _hashed(world: World, entry: Entry) -> Entry:
    if entry.kind is not EntryKind.FILE:
        return entry
    return replace(entry, sha1=sha1(world.tree.content(entry.path)))


def _difference(
    world: World, listed: Listed, compared: Comparison, other: Mapping[str, Entry]
) -> Difference | None:
    asset, base, row = listed.asset, world.base(listed), world.rows.get(listed.asset.id)
    known = asset.id in world.known_failures
    if row is None:
        return Difference(asset=listed.asset, still=listed.still, base=base, known_failure=known)
    changed = row.checksum != asset.checksum
    if not changed and checksum.content_sha1(asset) is None:
        changed = _external_changed(world, row, asset)
        row = world.rows[row.asset_id]
    agrees = (
        not changed
        and row.base == base
        and row.state is RowState.PUBLISHED
        and row.seen_trashed_at is None
        and row.asset_id not in compared.missing
        and row.asset_id not in other
    )
    if agrees:
        return None
    return Difference(
        asset=listed.asset,
        still=listed.still,
        base=base,
        row=row,
        changed=changed,
        known_failure=known,
    )


def _external_changed(world: World, row: Row, asset: Asset) -> bool:
    """Ask for the ETag where the server's file has another time; if it is the same, note that."""
    if row.file_modified_at == asset.file_modified_at:
        return False
    etag = world.etag(asset)
    if row.etag != etag:
        return True
    world.rows[row.asset_id] = replace(row, file_modified_at=asset.file_modified_at)
    return False


def _disk(world: World, compared: Comparison, other: Mapping[str, Entry]) -> Disk:
    foreign = {
        key: tuple(_hashed(world, entry) for entry in entries)
        for key, entries in compared.foreign.items()
    }
    copies = {
        entry.sha1: entry.path
        for entries in foreign.values()
        for entry in entries
        if entry.sha1 is not None
    }
    copies |= {
        row.sha1: row.path
        for row in world.rows.values()
        if row.sha1 and row.asset_id not in compared.missing and row.asset_id not in other
    }
    return Disk(
        missing=frozenset(compared.missing),
        other=other,
        foreign=foreign,
        folders=frozenset(compared.folders),
        holders={fold(row.path): row.asset_id for row in world.rows.values()},
        quarantined={sha1(content): path for path, content in world.quarantine.items()},
        copies=copies,
        sizes={asset_id: len(content) for asset_id, content in world.contents.items()},
    )


# -- carrying out ----------------------------------------------------------------------------------


def carry_out(
    world: World,
    todo: Iterable[Action],
    shuffled: Callable[[list[Action]], Sequence[Action]] = list,
) -> None:
    """Do what the actions say, downloads in any order.

    Raises:
        RefusedError: it cannot be done.
    """
    actions = list(todo)
    for action in _of(actions, Kind.DISOWN, Kind.FORGET, Kind.REBIND, Kind.ADOPT):
        _remember(world, action)
    _move(world, list(_of(actions, Kind.MOVE)))
    for action in shuffled(
        list(_of(actions, Kind.COPY, Kind.RESTORE, Kind.DOWNLOAD, Kind.REPLACE))
    ):
        _bring(world, action)
    for action in _of(actions, Kind.RETAIN, Kind.REMOVE):
        _let_go(world, action)


def _of(actions: Iterable[Action], *kinds: Kind) -> Iterator[Action]:
    return (action for action in actions if action.kind in kinds)


def _row(action: Action) -> Row:
    if action.row is None:
        raise RefusedError(f"no row: {action}")
    return action.row


def _asset(action: Action) -> Asset:
    if action.asset is None:
        raise RefusedError(f"no asset: {action}")
    return action.asset


def _publish(world: World, rows: Sequence[Row]) -> None:
    for row in rows:
        world.rows.pop(row.asset_id, None)
    for row in rows:
        if fold(row.path) in {fold(held.path) for held in world.rows.values()}:
            raise RefusedError(f"{row.path}: another row has it")
        world.rows[row.asset_id] = row


def _remember(world: World, action: Action) -> None:
    if action.kind in {Kind.DISOWN, Kind.FORGET}:
        del world.rows[_row(action).asset_id]
        return
    asset = _asset(action)
    if action.kind is Kind.REBIND:
        old = world.rows.pop(_row(action).asset_id)
        fresh = replace(old, asset_id=asset.id, state=RowState.PUBLISHED, reason="")
        fresh = replace(fresh, file_modified_at=asset.file_modified_at)
    elif action.entry is None:
        fresh = replace(_row(action), base=action.base, state=RowState.PUBLISHED, reason="")
        fresh = replace(fresh, seen_trashed_at=None)
    else:
        lying = world.tree.content(action.path)
        unproved = action.reason is Reason.UNPROVED
        fresh = _fresh(world, action, action.path, action.entry.mtime_ns)
        fresh = replace(fresh, sha1=None if unproved else sha1(lying), size_bytes=len(lying))
    _publish(world, [fresh])


def _fresh(world: World, action: Action, path: str, mtime_ns: int = OURS_NS) -> Row:
    asset = _asset(action)
    return Row(
        asset_id=asset.id,
        owner_id=asset.owner_id,
        checksum=asset.checksum,
        base=action.base,
        path=path,
        sha1=sha1(world.content(asset)),
        size_bytes=len(world.content(asset)),
        mtime_ns=mtime_ns,
        etag=world.etag(asset),
        file_modified_at=asset.file_modified_at,
    )


def _move(world: World, moves: Sequence[Action]) -> None:
    for step in steps(moves, lambda action: f".mirror/moving/{action.asset_id}"):
        world.tree.move(step.source, step.path)
    for move in moves:
        world.tree.drop_empty_folders(move.source)
    world.tree.drop_empty_folders(".mirror/moving/x")
    _publish(
        world,
        [
            replace(_row(move), path=move.path, base=move.base, state=RowState.PUBLISHED, reason="")
            for move in moves
        ],
    )


def _bring(world: World, action: Action) -> None:
    if action.displaces:
        old = _row(action).path
        world.quarantine[_aside(action)] = world.tree.remove(old).content
    if action.kind is Kind.RESTORE:
        world.quarantine.pop(action.source, None)
    node = Node(content=world.content(_asset(action)), mtime_ns=OURS_NS)
    world.tree.put(action.path, node)
    _publish(world, [_fresh(world, action, action.path)])


def _let_go(world: World, action: Action) -> None:
    row = _row(action)
    if action.kind is Kind.REMOVE:
        world.quarantine[_aside(action)] = world.tree.remove(row.path).content
        del world.rows[row.asset_id]
    else:
        world.rows[row.asset_id] = replace(row, state=RowState.RETAINED, reason=action.reason.value)


def _aside(action: Action) -> str:
    return f".mirror/quarantine/{action.asset_id}/{_row(action).path}"
