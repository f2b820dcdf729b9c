"""What befalls a whole server: its database goes back in time, or it is installed anew.

Files are not in the database. A row that comes back has its file only while nobody erased it, and
the file of a row that goes is nobody's.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

from mirror.sandbox.library import Library
from mirror.sandbox.records import Key, StoredAsset, User

_TABLES = ("users", "keys", "partners", "assets", "albums", "people", "tags", "stacks", "owner_id")


@dataclass(frozen=True)
class Backup:
    """The database of one moment, as Immich dumps it every night."""

    tables: dict[str, Any]


def back_up(library: Library) -> Backup:
    """What stands in the database now."""
    return Backup(_copied({name: getattr(library, name) for name in _TABLES}, library))


def go_back(library: Library, backup: Backup) -> None:
    """Restore a backup: every row is as it was then, stamps included, and newer rows are gone."""
    for name, table in _copied(backup.tables, library).items():
        setattr(library, name, table)


def _copied(tables: dict[str, Any], library: Library) -> dict[str, Any]:
    """Rows of their own; contents are never changed in place, and are not copied."""
    assets: list[StoredAsset] = [*library.assets.values(), *tables["assets"].values()]
    return copy.deepcopy(tables, {id(asset.content): asset.content for asset in assets})


def reinstall(library: Library, *, new_users: bool = False) -> None:
    """The same photos uploaded to an empty server: new ids and stamps, and nothing but photos.

    Albums, people, tags, favourites and the trash are lost. Keys keep their secret, as if the new
    ones had been put where the old ones were; with `new_users` they are other users' keys, else the
    users were taken over.
    """
    if new_users:
        _make_users_anew(library)
    old = list(library.assets.values())
    library.assets.clear()
    for kept in (library.albums, library.people, library.tags, library.stacks):
        kept.clear()
    ids = {asset.id: library.new_id() for asset in old if not asset.trashed}
    for asset in old:
        if asset.id in ids:
            again = _uploaded_again(library, asset, ids)
            library.assets[again.id] = again


def _uploaded_again(library: Library, asset: StoredAsset, ids: dict[str, str]) -> StoredAsset:
    now = library.now()
    return replace(
        asset,
        id=ids[asset.id],
        original_path=asset.original_path.replace(asset.id, ids[asset.id]),
        live_photo_video_id=ids.get(asset.live_photo_video_id or ""),
        visibility="hidden" if asset.visibility == "hidden" else "timeline",
        is_favorite=False,
        created_at=now,
        updated_at=now,
        stack_id=None,
        tag_ids=[],
        person_ids=[],
        faces={},
    )


def _make_users_anew(library: Library) -> None:
    ids = {user_id: library.new_id() for user_id in library.users}
    library.users = {ids[user.id]: _renewed(user, ids) for user in library.users.values()}
    library.keys = [_rekeyed(key, ids) for key in library.keys]
    library.owner_id = ids[library.owner_id]
    library.partners = [
        replace(partner, from_id=ids[partner.from_id], to_id=ids[partner.to_id])
        for partner in library.partners
    ]
    for asset in library.assets.values():
        asset.original_path = asset.original_path.replace(asset.owner_id, ids[asset.owner_id])
        asset.owner_id = ids[asset.owner_id]


def _renewed(user: User, ids: dict[str, str]) -> User:
    return replace(user, id=ids[user.id])


def _rekeyed(key: Key, ids: dict[str, str]) -> Key:
    return replace(key, user_id=ids[key.user_id])
