"""What must lie in the tree, worked out from the sample server without a line of the mirror's own.

Which assets are wanted, and under which names each of them may lie. Slow, short, and written a
second time on purpose.
"""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mirror.core.model import Filter, Owners, Visibility
from mirror.sandbox import Library
from mirror.sandbox.records import StoredAsset

TODAY: Final = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
WINDOW_DAYS: Final = 10

# What a server may call a photo, and what that is as one component of a path.
NAMES: Final = {
    "a.jpg": "a.jpg",
    "A.JPG": "A.JPG",
    "b.jpg": "b.jpg",
    "c.HEIC": "c.HEIC",
    "c.jpg": "c.jpg",
    "d": "d",
    "e\u0301.jpg": "\u00e9.jpg",
    "\u00c9.jpg": "\u00c9.jpg",
    "x/y.jpg": "x_y.jpg",
    "CON.jpg": "_CON.jpg",
    "..": "__",
    "v.mov": "v.mov",
}


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if dot else (name, "")


# Of an asset: its wall clock, its id, and its name as a component.
LAYOUTS: Final[dict[str, Callable[[datetime, str, str], str]]] = {
    "{taken:%Y/%m/%d}/{filename}": lambda taken, _, name: f"{taken:%Y/%m/%d}/{name}",
    "{taken:%Y}/{filename}": lambda taken, _, name: f"{taken:%Y}/{name}",
    "{filename}": lambda _taken, _, name: name,
    "{stem}/{filename}": lambda _taken, _, name: f"{_split(name)[0]}/{name}",
    "{taken:%Y}/{id8}/{filename}": lambda taken, id_, name: f"{taken:%Y}/{_short(id_)}/{name}",
}


def _short(asset_id: str) -> str:
    return asset_id.replace("-", "")[-8:]


def fold(path: str) -> str:
    """Two paths that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


# -- what is wanted --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """A filter, and the same in words of the sample server."""

    filter: Filter
    matches: Callable[[StoredAsset, datetime], bool]
    anyone: bool = False
    moves: bool = False  # what it selects depends on the time


SELECTIONS: Final = {
    "timeline": Selection(Filter(), lambda asset, _: asset.visibility == "timeline"),
    "archive too": Selection(
        Filter(visibility=(Visibility.TIMELINE, Visibility.ARCHIVE)),
        lambda asset, _: asset.visibility in {"timeline", "archive"},
    ),
    "favourites": Selection(
        Filter(favorite=True),
        lambda asset, _: asset.visibility == "timeline" and asset.is_favorite,
    ),
    "recent": Selection(
        Filter(taken_after=TODAY - timedelta(days=3)),
        lambda asset, _: (
            asset.visibility == "timeline" and asset.file_created_at >= TODAY - timedelta(days=3)
        ),
    ),
    "window": Selection(
        Filter(taken_within_days=WINDOW_DAYS),
        lambda asset, now: (
            asset.visibility == "timeline"
            and asset.file_created_at >= now - timedelta(days=WINDOW_DAYS)
        ),
        moves=True,
    ),
    "anyone": Selection(
        Filter(owners=Owners.ANYONE),
        lambda asset, _: asset.visibility == "timeline",
        anyone=True,
    ),
}


@dataclass(frozen=True)
class Wanted:
    """An asset that belongs into the tree: its bytes, and the names it may have there."""

    asset: StoredAsset
    names: tuple[str, ...]
    still_id: str = ""  # of a live photo's video

    @property
    def sha1(self) -> bytes:
        """Of its bytes."""
        return self.asset.content.sha1

    @property
    def keys(self) -> frozenset[str]:
        """Its names, folded."""
        return frozenset(map(fold, self.names))


Ids = Mapping[str, set[str]]  # by asset id: every id that the photo ever had


def wanted(library: Library, selection: str, layout: str, ids: Ids) -> list[Wanted]:
    """Everything that the mirror has to hold now."""
    chosen = SELECTIONS[selection]
    now = library.clock()
    shown = [asset for asset in _listable(library, chosen) if chosen.matches(asset, now)]
    stills = [Wanted(asset, _names(base_of(asset, layout), ids, asset)) for asset in shown]
    return stills + list(_videos(library, shown, layout, ids))


def _listable(library: Library, chosen: Selection) -> Iterator[StoredAsset]:
    owners = {library.owner_id}
    if chosen.anyone:
        owners |= library.partners_of(library.owner_id, in_timeline=True)
    return (
        asset for asset in library.assets.values() if asset.owner_id in owners and not asset.trashed
    )


def _videos(library: Library, shown: list[StoredAsset], layout: str, ids: Ids) -> Iterator[Wanted]:
    """A live photo's video has the name of its oldest still that is shown."""
    by_video: dict[str, list[StoredAsset]] = {}
    for still in shown:
        if still.live_photo_video_id is not None:
            by_video.setdefault(still.live_photo_video_id, []).append(still)
    for video_id, stills in by_video.items():
        video = library.assets.get(video_id)
        if video is not None and video.visibility == "hidden" and not video.trashed:
            lead = min(stills, key=lambda one: (_shown(one.created_at), one.id))
            base = _split(base_of(lead, layout))[0] + ".mov"
            yield Wanted(video, _names(base, ids, lead, video), lead.id)


def _shown(moment: datetime) -> datetime:
    """As JSON shows it, which cuts microseconds off."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def base_of(asset: StoredAsset, layout: str) -> str:
    """The path that the layout gives, before any suffix."""
    return LAYOUTS[layout](asset.local_date_time, asset.id, NAMES[asset.original_file_name])


def _names(base: str, ids: Ids, *assets: StoredAsset) -> tuple[str, ...]:
    """With the id of the asset or of its still; a photo that was uploaded again keeps its name."""
    known = [one for asset in assets for one in sorted(ids[asset.id])]
    return tuple(dict.fromkeys(name for one in known for name in _suffixed(base, one)))


def _suffixed(base: str, asset_id: str) -> tuple[str, ...]:
    folder, slash, name = base.rpartition("/")
    stem, extension = _split(name)
    return (
        base,
        f"{folder}{slash}{stem}-{_short(asset_id)}{extension}",
        f"{folder}{slash}{stem}-{asset_id}{extension}",
    )
