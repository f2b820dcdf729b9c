"""Both sides looked at: what the planner needs to decide, and nothing that agrees.

The folder is scanned and merged with the index first; then each page of the listing is compared
with its rows as it arrives. Files are hashed, and originals asked for their size, only where an
answer would change the plan. Writes nothing but what the index may remember of it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mirror.core import checksum
from mirror.core.allocate import ancestors, names_of
from mirror.core.batches import batches
from mirror.core.compare import Comparison, compare
from mirror.core.layout import Layout, fold
from mirror.core.model import Asset, Disk, Entry, EntryKind, Exif, Listed, Row, RowState, Shard
from mirror.core.plan import Difference
from mirror.core.shard import takes
from mirror.destinations import OpenDestination
from mirror.errors import AssetError, NotOursError, RequestError
from mirror.immich.client import Client, Head
from mirror.index import Index
from mirror.threads import in_thread

_HASHING_THREADS: Final = 2
_BATCH: Final = 256
_HEADS_AT_ONCE: Final = 8
_DAMAGED_FOR: Final = timedelta(days=7)  # then an original that came damaged is tried once more
_BYTES_A_HEAD: Final = 1 << 20  # what is hashed in the time that a question takes


@dataclass(slots=True)
class Survey:
    """What was found."""

    differences: list[Difference] = field(default_factory=list)
    unlisted: list[Row] = field(default_factory=list)
    disk: Disk = field(default_factory=Disk)
    still_rows: dict[str, Row] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)  # by asset id
    listed: set[str] = field(default_factory=set)  # ids of rows whose asset is listed
    unchanged: int = 0


class Surveyor:
    """Looks at one destination and one listing."""

    def __init__(
        self,
        client: Client,
        folder: OpenDestination | None,
        index: Index,
        layout: Layout,
        *,
        trusts_times: bool = True,
        shard: Shard | None = None,
    ) -> None:
        """`trusts_times` False: a file of its size and mtime is hashed all the same."""
        self._client = client
        self._folder = folder  # None: it does not exist yet
        self._index = index
        self._layout = layout
        root = folder.root if folder else None
        self._root = f"{root}/" if root else ""
        self._trusts_times = trusts_times
        self._shard = shard
        self._other: dict[str, Entry] = {}
        self._failures = index.failures()
        self._has_rows = index.count() > 0
        self._comparison = Comparison()
        self.survey = Survey()  # what was found so far
        self._seen = self.survey.listed

    async def scan(self) -> None:
        """Compare the folder with the index; files that look changed are hashed."""
        if self._folder is None:
            return
        folder = self._folder
        self._comparison = await in_thread(compare, folder.scan(), self._index.recorded())
        suspects = self._comparison.suspect
        rows = self._index.rows(suspects)
        entries = [suspects[asset_id] for asset_id in rows]
        hashed = await self._hash(entries)
        intact: list[Row] = []
        for row, entry in zip(rows.values(), hashed, strict=True):
            if _holds(entry, row):
                intact.append(
                    replace(
                        row, path=entry.path, size_bytes=entry.size_bytes, mtime_ns=entry.mtime_ns
                    )
                )
            else:
                self._other[row.asset_id] = entry
        if intact:
            self._index.finish(intact)
        if not self._trusts_times:
            await self._hash_all()

    async def _hash_all(self) -> None:
        """Find what changed under its old size and mtime."""
        doubted = (
            row for row in self._index.all_rows() if row.sha1 is not None and self._is_intact(row)
        )
        for batch in batches(doubted, _BATCH):
            entries = [
                Entry(row.path, EntryKind.FILE, row.size_bytes, row.mtime_ns) for row in batch
            ]
            for row, entry in zip(batch, await self._hash(entries), strict=True):
                if entry.sha1 != row.sha1:
                    self._other[row.asset_id] = entry

    @property
    def is_as_recorded(self) -> bool:
        """Whether every file of the index lies there as it was written."""
        return not self._comparison.missing and not self._other

    def nothing_new(self, unchanged: int) -> Survey:
        """What is found where listing and disk are as the last run left them."""
        self.survey.unchanged = unchanged
        return self.survey

    async def take(self, pages: AsyncIterable[Sequence[Listed]]) -> None:
        """Compare each page with its rows as it comes."""
        async for everyones in pages:
            page = [listed for listed in everyones if self._is_asked_for(listed)]
            rows = self._index.rows(listed.asset.id for listed in page)
            for listed in page:
                self._refuse_originals(listed.asset)
                row = rows.get(listed.asset.id)
                if row is not None:
                    self._seen.add(row.asset_id)
                difference = self._difference(listed.asset, listed.still, row)
                if difference is None:
                    self.survey.unchanged += 1
                else:
                    self.survey.differences.append(difference)

    async def finish(self, *, complete: bool, now: datetime) -> Survey:
        """Find out what the plan will turn upon: hashes, sizes, ETags, who holds which name.

        `now` is the server's clock.
        """
        survey = self.survey
        self._failures = {
            asset_id: failure
            for asset_id, failure in self._failures.items()
            if abs(now - failure.failed_at) < _DAMAGED_FOR
        }
        if complete:
            gone = [asset_id for asset_id in self._index.asset_ids() if asset_id not in self._seen]
            survey.unlisted = list(self._index.rows(gone).values())
        survey.differences = await self._settled(survey.differences)
        names = self._names(survey.differences)
        foreign = await self._hash_at(names)
        copies = await self._copies(names, foreign)
        stills = {item.still.id for item in survey.differences if item.still is not None}
        survey.still_rows = self._index.rows(stills)
        survey.disk = Disk(
            missing=frozenset(self._comparison.missing),
            other=self._other,
            foreign=foreign,
            folders=frozenset(self._comparison.folders),
            holders=self._index.holders(_with_ancestors(names.values())),
            quarantined={
                item.sha1: item.path for item in self._index.quarantined() if item.sha1 is not None
            },
            copies=copies,
            sizes={
                asset_id: head.size_bytes
                for asset_id, head in survey.heads.items()
                if head.size_bytes is not None
            },
        )
        return survey

    def _is_asked_for(self, listed: Listed) -> bool:
        return self._shard is None or takes(self._shard, listed, self._layout.path)

    # -- one listed asset --------------------------------------------------------------------------

    def _difference(self, asset: Asset, still: Asset | None, row: Row | None) -> Difference | None:
        layout = self._layout
        base = layout.path(asset) if still is None else layout.video_path(still, asset)
        if row is None:
            return Difference(asset=_light(asset), still=still, base=base)
        changed = row.checksum != asset.checksum
        agrees = (
            not changed
            and row.base == base
            and row.still_id == (still.id if still else "")
            and row.state is RowState.PUBLISHED
            and row.seen_trashed_at is None
            and row.asset_id not in self._comparison.missing
            and row.asset_id not in self._other
            and not _touched(row, asset)
        )
        if agrees:
            return None
        return Difference(asset=asset, still=still, base=base, row=row, changed=changed)

    def _refuse_originals(self, asset: Asset) -> None:
        """A destination among the originals would be imported, and mirrored again, for ever."""
        if not self._root:
            return
        # Text, not paths: this is asked of every asset of the library.
        original, root = asset.original_path, self._root
        if not root.startswith(original.rpartition("/")[0] + "/") and not original.startswith(root):
            return
        if Path(original).is_absolute() and Path(original).exists():
            raise NotOursError(
                f"{self._root.rstrip('/')}: lies among the originals of the library",
                why=f"the server keeps an original at {original}",
                hint="choose a folder outside Immich's own storage and its external libraries",
            )

    async def _settled(self, differences: list[Difference]) -> list[Difference]:
        """Ask the originals of those whose difference only their ETag can tell."""
        doubtful = [item for item in differences if self._is_doubtful(item)]
        await self._ask_heads(item.asset for item in doubtful)
        settled, refreshed = [], []
        for item in differences:
            answer = self._with_etag(item)
            if isinstance(answer, Row):
                refreshed.append(answer)
            else:
                settled.append(answer)
        if refreshed:
            self._index.finish(refreshed)
            self.survey.unchanged += len(refreshed)
        return settled

    def _is_doubtful(self, item: Difference) -> bool:
        asset, row = item.asset, item.row
        failure = self._failures.get(asset.id)
        if failure is not None and failure.checksum == asset.checksum:
            return True
        return row is not None and not item.changed and _touched(row, asset)

    def _with_etag(self, item: Difference) -> Difference | Row:
        """The difference that is left; or the row, when only the server's file time moved."""
        asset, row = item.asset, item.row
        head = self.survey.heads.get(asset.id)
        if head is None:
            # Where it was asked for and is not to be had, the download will say why.
            is_touched = row is not None and not item.changed and _touched(row, asset)
            return replace(item, changed=True) if is_touched else item
        failure = self._failures.get(asset.id)
        if failure is not None and failure.checksum == asset.checksum:
            return replace(item, known_failure=failure.etag == head.etag)
        if row is None or item.changed or not _touched(row, asset):
            return item
        same = row.etag == head.etag if row.etag else row.size_bytes == head.size_bytes
        if not same:
            return replace(item, changed=True)
        fresh = replace(row, file_modified_at=asset.file_modified_at, etag=head.etag)
        rest = self._difference(asset, item.still, fresh)
        return fresh if rest is None else rest

    # -- what lies about ---------------------------------------------------------------------------

    def _names(self, differences: Iterable[Difference]) -> dict[str, set[str]]:
        """Where files may come to lie, by asset id; none when nothing could be in the way there."""
        if not self._comparison.foreign and not self._has_rows:
            return {}
        return {item.asset.id: _keys(item) for item in differences}

    async def _hash_at(self, names: dict[str, set[str]]) -> dict[str, tuple[Entry, ...]]:
        """All foreign entries; those at a wanted name are hashed, or sized where no hash helps."""
        foreign = dict(self._comparison.foreign)
        wanted = {key for keys in names.values() for key in keys if key in foreign}
        external = [
            item.asset
            for item in self.survey.differences
            if checksum.content_sha1(item.asset) is None
            and not wanted.isdisjoint(names.get(item.asset.id, ()))
        ]
        await self._ask_heads(external)
        return foreign | await self._hashed_groups(foreign, wanted)

    async def _hashed_groups(
        self, foreign: dict[str, tuple[Entry, ...]], keys: Iterable[str]
    ) -> dict[str, tuple[Entry, ...]]:
        flat = [(key, entry) for key in sorted(keys) for entry in foreign[key]]
        hashed = await self._hash_foreign([entry for _, entry in flat])
        groups: dict[str, tuple[Entry, ...]] = {}
        for (key, _), entry in zip(flat, hashed, strict=True):
            groups[key] = (*groups.get(key, ()), entry)
        return groups

    async def _copies(
        self, names: dict[str, set[str]], foreign: dict[str, tuple[Entry, ...]]
    ) -> dict[bytes, str]:
        """Intact files that hold the bytes of new assets: our own first, then foreign ones."""
        wanted = {
            digest: item.asset
            for item in self.survey.differences
            if item.row is None
            and (digest := checksum.content_sha1(item.asset)) is not None
            and not _lies(digest, names.get(item.asset.id, ()), foreign)
        }
        rows = self._index.with_sha1(wanted)
        copies = {row.sha1: row.path for row in rows if row.sha1 and self._is_intact(row)}
        if self._shard is not None:
            return copies  # what else lies there is mostly other shards', who may move it
        rest = [asset for digest, asset in wanted.items() if digest not in copies]
        return {**await self._foreign_copies(rest, foreign), **copies}

    async def _foreign_copies(
        self, assets: Sequence[Asset], foreign: dict[str, tuple[Entry, ...]]
    ) -> dict[bytes, str]:
        candidates = [
            entry
            for entries in foreign.values()
            for entry in entries
            if entry.kind is EntryKind.FILE and entry.size_bytes
        ]
        if not candidates or not assets:
            return {}
        unknown = [asset for asset in assets if _size(asset) is None]
        if sum(entry.size_bytes for entry in candidates) > len(unknown) * _BYTES_A_HEAD:
            await self._ask_heads(unknown)
            sizes = {_size(asset) or self._head_size(asset) for asset in assets}
            candidates = [entry for entry in candidates if entry.size_bytes in sizes]
        candidates.sort(key=lambda entry: entry.path, reverse=True)
        hashed = await self._hash_foreign(candidates)
        wanted = {checksum.content_sha1(asset) for asset in assets}
        return {entry.sha1: entry.path for entry in hashed if entry.sha1 and entry.sha1 in wanted}

    def _is_intact(self, row: Row) -> bool:
        return row.asset_id not in self._comparison.missing and row.asset_id not in self._other

    def _head_size(self, asset: Asset) -> int | None:
        head = self.survey.heads.get(asset.id)
        return head.size_bytes if head else None

    async def _ask_heads(self, assets: Iterable[Asset]) -> None:
        gate = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def ask(asset_id: str) -> None:
            async with gate:
                try:
                    self.survey.heads[asset_id] = await self._client.original_head(asset_id)
                except (AssetError, RequestError):
                    return  # the download will say why

        wanted = {asset.id for asset in assets} - self.survey.heads.keys()
        try:
            async with asyncio.TaskGroup() as tasks:
                for asset_id in sorted(wanted):
                    tasks.create_task(ask(asset_id))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group  # what stops one stops all

    async def _hash_foreign(self, entries: Sequence[Entry]) -> list[Entry]:
        """As `_hash`, but not what was hashed before and looks the same."""
        known = [self._as_hashed_before(entry) for entry in entries]
        hashed = await self._hash(known)
        self._index.note_foreign(
            entry
            for entry, before in zip(hashed, known, strict=True)
            if entry.sha1 is not None and before.sha1 is None
        )
        return hashed

    def _as_hashed_before(self, entry: Entry) -> Entry:
        sha1 = self._index.foreign_sha1(entry) if self._trusts_times else None
        return entry if sha1 is None else replace(entry, sha1=sha1)

    async def _hash(self, entries: Sequence[Entry]) -> list[Entry]:
        """The same entries with their SHA-1, where they are files that can be read."""
        hashed, places = list(entries), deque(range(len(entries)))

        def work() -> None:
            # One file after the other, without a turn of the loop for each.
            while True:
                try:
                    place = places.popleft()
                except IndexError:
                    return
                hashed[place] = self._hash_one(entries[place])

        if not entries:
            return []
        with ThreadPoolExecutor(_HASHING_THREADS) as pool:
            loop = asyncio.get_running_loop()
            try:
                await asyncio.gather(
                    *(loop.run_in_executor(pool, work) for _ in range(_HASHING_THREADS))
                )
            finally:
                places.clear()  # where one is stopped, the others begin nothing new
        return hashed

    def _hash_one(self, entry: Entry) -> Entry:
        if entry.kind is not EntryKind.FILE or entry.sha1 is not None or self._folder is None:
            return entry
        try:
            told = self._folder.told_sha1(entry.path) if self._trusts_times else None
            return replace(entry, sha1=told or self._folder.sha1(entry.path))
        except OSError:
            return entry  # gone, or not ours to read: it is in the way, and nothing more


def _holds(entry: Entry, row: Row) -> bool:
    """Whether a file that looks changed still holds the row's bytes."""
    if row.sha1 is None:
        return entry.kind is EntryKind.FILE and entry.size_bytes == row.size_bytes
    return entry.sha1 == row.sha1


def _touched(row: Row, asset: Asset) -> bool:
    """An external file's content may have changed: its checksum on the server is of its path."""
    external = checksum.content_sha1(asset) is None
    return external and row.file_modified_at != asset.file_modified_at


def _light(asset: Asset) -> Asset:
    """A new asset whose path is found, without what only its path was made of.

    A first plan holds one for each asset of the library: a fifth of its memory.
    """
    return replace(
        asset,
        original_path="" if asset.library_id is None else asset.original_path,
        taken_local=None,
        updated_at=asset.uploaded_at,
        exif=None if asset.exif is None else Exif(size_bytes=asset.exif.size_bytes),
    )


def _keys(item: Difference) -> set[str]:
    asset, still = item.asset, item.still
    return {fold(name) for name in names_of(item.base, (still or asset).id, asset.id)}


def _size(asset: Asset) -> int | None:
    return asset.exif.size_bytes if asset.exif else None


def _lies(digest: bytes, keys: Iterable[str], foreign: dict[str, tuple[Entry, ...]]) -> bool:
    return any(entry.sha1 == digest for key in keys for entry in foreign.get(key, ()))


def _with_ancestors(groups: Iterable[set[str]]) -> set[str]:
    keys = set().union(*groups)
    return keys.union(*(ancestors(key) for key in keys))
