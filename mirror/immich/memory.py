"""Every own asset of one account as the last look saw it: one SQLite file, a cache and no more.

Whatever is wrong with it, it is thrown away and the account is listed again.
"""

import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mirror.core.model import Asset, AssetType, Visibility

_VERSION: Final = 2
_BUSY_S: Final = 0.5  # another process looks at the same account: then this one lists by itself
_PAGE: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SCHEMA: Final = (
    """CREATE TABLE looked (
        visibility TEXT PRIMARY KEY, generation TEXT NOT NULL, server TEXT NOT NULL,
        cursor_us INTEGER NOT NULL, looked_us INTEGER NOT NULL, listed_us INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE asset (
        visibility TEXT NOT NULL, id TEXT NOT NULL, month TEXT NOT NULL,
        updated_us INTEGER NOT NULL, type TEXT NOT NULL,
        original_file_name TEXT NOT NULL, original_path TEXT NOT NULL, checksum BLOB NOT NULL,
        taken_us INTEGER NOT NULL, local_us INTEGER NOT NULL, uploaded_us INTEGER NOT NULL,
        file_modified_us INTEGER, library_id TEXT, live_photo_video_id TEXT,
        is_favorite INTEGER NOT NULL, is_offline INTEGER NOT NULL,
        PRIMARY KEY (visibility, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX asset_month ON asset (visibility, month)",
    "CREATE INDEX asset_updated ON asset (visibility, updated_us)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How one visibility was last looked at; times by the server's clock, aware UTC."""

    generation: str  # another one whenever anything that is remembered has changed
    server: str  # its version
    cursor: datetime  # changes are asked for from here on
    looked_at: datetime
    listed_at: datetime  # when it was last listed in full


class Memory:
    """The file; a context manager that keeps what was not committed from being kept."""

    def __init__(self, path: Path, *, dry: bool = False) -> None:
        """Open or make it; of a dry one nothing is ever written.

        Raises:
            OSError, sqlite3.Error: it cannot be used.
        """
        if not dry:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The names of photos are nobody else's to read.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._database = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        if dry:
            self._database.execute("PRAGMA journal_mode = MEMORY")
            self._database.execute("PRAGMA cache_spill = OFF")
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return
        self.begin()
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        for (name,) in self._database.execute(tables).fetchall():
            self._database.execute(f'DROP TABLE "{name}"')
        for statement in _SCHEMA:
            self._database.execute(statement)
        self._database.execute(f"PRAGMA user_version = {_VERSION}")
        self.commit()

    def close(self) -> None:
        """Forget what was not committed."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")
        self._database.close()

    def begin(self) -> None:
        """Nobody else may change it from here on; what was changed since may be undone."""
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("SAVEPOINT look")

    def undo(self) -> None:
        """Nothing has happened since `begin`."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK TO look")

    def commit(self) -> None:
        """Keep everything that was not undone."""
        self._database.execute("COMMIT")

    # -- looks -------------------------------------------------------------------------------------

    def looked(self, visibility: Visibility) -> Looked | None:
        """The last look; None: never, or what it saw is forgotten."""
        row = self._database.execute(
            "SELECT generation, server, cursor_us, looked_us, listed_us FROM looked"
            " WHERE visibility = ?",
            (visibility,),
        ).fetchone()
        if row is None:
            return None
        generation, server, *times = row
        cursor, looked_at, listed_at = map(_moment, times)
        return Looked(
            generation=generation,
            server=server,
            cursor=cursor,
            looked_at=looked_at,
            listed_at=listed_at,
        )

    def note_looked(self, visibility: Visibility, looked: Looked) -> None:
        """What the next look goes by."""
        self._database.execute(
            "INSERT OR REPLACE INTO looked VALUES (?, ?, ?, ?, ?, ?)",
            (
                visibility,
                looked.generation,
                looked.server,
                _us(looked.cursor),
                _us(looked.looked_at),
                _us(looked.listed_at),
            ),
        )

    def forget(self, visibility: Visibility) -> None:
        """Nothing is known of it."""
        self._database.execute("DELETE FROM looked WHERE visibility = ?", (visibility,))
        self._database.execute("DELETE FROM asset WHERE visibility = ?", (visibility,))

    # -- assets ------------------------------------------------------------------------------------

    def counts(self, visibility: Visibility) -> dict[str, int]:
        """How many are remembered in each month that has any; by `YYYY-MM-01`."""
        return dict(
            self._database.execute(
                "SELECT month, count(*) FROM asset WHERE visibility = ? GROUP BY month",
                (visibility,),
            )
        )

    def updated_since(self, visibility: Visibility, cursor: datetime) -> dict[str, datetime]:
        """Ids and stamps of those that were changed at the cursor or later."""
        return {
            asset_id: _moment(updated_us)
            for asset_id, updated_us in self._database.execute(
                "SELECT id, updated_us FROM asset WHERE visibility = ? AND updated_us >= ?",
                (visibility, _us(cursor)),
            )
        }

    def newest(self, visibility: Visibility) -> datetime | None:
        """When one was last changed."""
        (found,) = self._database.execute(
            "SELECT max(updated_us) FROM asset WHERE visibility = ?", (visibility,)
        ).fetchone()
        return None if found is None else _moment(found)

    def stamps(
        self, visibility: Visibility, asset_ids: Iterable[str]
    ) -> Mapping[str, tuple[datetime, str]]:
        """When those that are remembered were changed, and their months."""
        found = {}
        for asset_id in asset_ids:
            row = self._database.execute(
                "SELECT updated_us, month FROM asset WHERE visibility = ? AND id = ?",
                (visibility, asset_id),
            ).fetchone()
            if row is not None:
                found[asset_id] = (_moment(row[0]), row[1])
        return found

    def replace_month(self, visibility: Visibility, month: str, assets: Iterable[Asset]) -> None:
        """These, and no others, are in the month."""
        self._database.execute(
            "DELETE FROM asset WHERE visibility = ? AND month = ?", (visibility, month)
        )
        self.add(assets)

    def add(self, assets: Iterable[Asset]) -> None:
        """Remember them, by their own visibility; each has dates that can be read."""
        self._database.executemany(
            "INSERT OR REPLACE INTO asset VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            map(_row, assets),
        )

    def assets(self, visibility: Visibility, owner_id: str) -> Iterator[list[Asset]]:
        """All of them, in pages, by id; others may be changed in between.

        Whose they are is not remembered with each: `owner_id` is the account's.

        Raises:
            sqlite3.Error: it is damaged.
        """
        after = ""
        while True:
            rows = self._database.execute(
                "SELECT * FROM asset WHERE visibility = ? AND id > ? ORDER BY id LIMIT ?",
                (visibility, after, _PAGE),
            ).fetchall()
            if not rows:
                return
            try:
                page = [_asset(owner_id, row) for row in rows]
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise sqlite3.DatabaseError(f"a row makes no sense: {error}") from error
            yield page
            after = page[-1].id


def new_generation() -> str:
    """Like no other."""
    return uuid.uuid4().hex


def month_of(asset: Asset) -> str:
    """The month in which the timeline counts it.

    Raises:
        ValueError: its local date cannot be read.
    """
    if asset.taken_local is None:
        raise ValueError(f"asset {asset.id} has no local date")
    return f"{asset.taken_local.year:04}-{asset.taken_local.month:02}-01"


def _us(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _row(asset: Asset) -> tuple[object, ...]:
    if asset.taken_at is None or asset.taken_local is None:
        raise ValueError(f"asset {asset.id} has a date that cannot be read")
    return (
        asset.visibility.value,
        asset.id,
        month_of(asset),
        _us(asset.updated_at),
        asset.type.value,
        asset.original_file_name,
        asset.original_path,
        asset.checksum,
        _us(asset.taken_at),
        _us(asset.taken_local.replace(tzinfo=UTC)),
        _us(asset.uploaded_at),
        None if asset.file_modified_at is None else _us(asset.file_modified_at),
        asset.library_id,
        asset.live_photo_video_id,
        asset.is_favorite,
        asset.is_offline,
    )


def _asset(owner_id: str, row: tuple[Any, ...]) -> Asset:
    (
        visibility, asset_id, _, updated_us, kind, name, path, checksum, taken_us, local_us,
        uploaded_us, file_modified_us, library_id, video_id, is_favorite, is_offline,
    ) = row  # fmt: skip
    return Asset(
        id=asset_id,
        owner_id=owner_id,
        type=_TYPES[kind],
        visibility=_VISIBILITIES[visibility],
        original_file_name=name,
        original_path=path,
        checksum=checksum,
        taken_at=_moment(taken_us),
        taken_local=_moment(local_us).replace(tzinfo=None),
        uploaded_at=_moment(uploaded_us),
        updated_at=_moment(updated_us),
        file_modified_at=None if file_modified_us is None else _moment(file_modified_us),
        library_id=library_id,
        live_photo_video_id=video_id,
        is_favorite=bool(is_favorite),
        is_offline=bool(is_offline),
    )


_TYPES: Final = {kind.value: kind for kind in AssetType}
_VISIBILITIES: Final = {visibility.value: visibility for visibility in Visibility}
