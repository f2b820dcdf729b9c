"""The sample library: a few years of a made-up family, with what makes mirroring hard.

The same number of assets and seed give the same library, to the byte.
"""

import itertools
import random
import string
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from mirror.sandbox import dialect, images, media
from mirror.sandbox.content import Content, Made
from mirror.sandbox.library import Library, new_asset
from mirror.sandbox.records import (
    MINIMUM,
    Album,
    Key,
    Partner,
    Person,
    Stack,
    StoredAsset,
    Tag,
    User,
)

_BEGIN = datetime(2019, 1, 5, 9, 30, tzinfo=UTC)
_UPLOADED = datetime(2025, 3, 1, 12, tzinfo=UTC)
_YEARS = timedelta(days=6 * 365)
_CAMERAS = (
    ("Google", "Pixel 8 Pro"),
    ("Apple", "iPhone 15 Pro"),
    ("Canon", "Canon EOS 5D Mark IV"),
    ("samsung", "SM-S918B"),
)
_PLACES = (
    ("Paris", "Île-de-France", "France"),
    ("Reykjavík", None, "Iceland"),
    ("Tokyo", "Tokyo", "Japan"),
)


_BURST = 5


def sample_library(assets: int = 60, seed: int = 0, version: str = "3.1.0") -> Library:
    """So many photos and videos of one account, a partner's few among them.

    Raises:
        UsageError: the version is no version.
    """
    maker = _Maker(seed, version)
    partners = min(4, assets // 10)
    for _ in itertools.islice(maker.rows(), assets - partners):
        pass
    for _ in range(partners):
        maker.photo(f"SAM_{maker.number():04d}.JPG", maker.anytime(), owner_id=maker.partner_id)
    maker.arrange()
    return maker.library


class _Maker:
    """Makes one library; every choice comes from one random source."""

    def __init__(self, seed: int, version: str) -> None:
        self._random = random.Random(f"sandbox {seed}")  # noqa: S311 (colours and dates)
        me, partner = self._user("Robin", admin=True), self._user("Sam")
        self._me_id, self.partner_id = me.id, partner.id
        self.library = Library(
            dialect=dialect.parse(version),
            owner_id=me.id,
            users={me.id: me, partner.id: partner},
            keys=[self._key(me, "minimum", MINIMUM), self._key(me, "all", ["all"])],
            partners=[Partner(partner.id, me.id)],
        )

    def number(self) -> int:
        """Of the next asset."""
        return len(self.library.assets) + 1

    def anytime(self) -> datetime:
        """A second of the family's years."""
        return _BEGIN + timedelta(seconds=self._random.randrange(int(_YEARS.total_seconds())))

    def _id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _user(self, name: str, *, admin: bool = False) -> User:
        email = f"{name.lower()}@example.org"
        return User(self._id(), name, email, _BEGIN, is_admin=admin)

    def _key(self, user: User, name: str, permissions: Sequence[str]) -> Key:
        secret = "".join(self._random.choices(string.ascii_letters + string.digits, k=43))
        return Key(self._id(), f"{user.name} {name}", secret, user.id, [*permissions], _BEGIN)

    # -- assets, one at a time ---------------------------------------------------------------------

    def rows(self) -> Iterator[StoredAsset]:
        """First what is special, then ordinary photos without end."""
        yield from self._ordinary(6)
        yield from self._odd_names_and_times()
        yield from self._live_photos(3)
        yield from self._burst()
        yield from self._videos()
        yield from self._put_away()
        while True:
            yield from self._ordinary(1)

    def _ordinary(self, count: int) -> Iterator[StoredAsset]:
        for _ in range(count):
            taken_at = self.anytime()
            yield self.photo(f"IMG_{taken_at:%Y%m%d_%H%M%S}.jpg", taken_at)

    def _odd_names_and_times(self) -> Iterator[StoredAsset]:
        day = datetime(2021, 7, 14, 8, tzinfo=UTC)
        for hours in range(3):
            yield self.photo("IMG_0001.JPG", day + timedelta(hours=hours))
        yield self.photo("🏖️ beach.jpg", day + timedelta(days=1))
        yield self.photo("trip/../dinner: what?.jpg", day + timedelta(days=2))
        new_year = datetime(2019, 12, 31, 10, 10, tzinfo=UTC)
        yield self.photo("new_year.jpg", new_year, offset=timedelta(hours=14))
        for number in range(2):
            yield self._admit(
                f"Screenshot_{number}.png",
                self._png(f"screenshot {number}"),
                day + timedelta(days=3, minutes=number),
            )

    def _live_photos(self, count: int) -> Iterator[StoredAsset]:
        for number in range(count):
            stem, taken_at = f"IMG_50{number:02d}", self.anytime()
            video = self._moving(f"{stem}.MOV", taken_at, brand=b"qt  ")
            video.visibility = "hidden"
            yield video
            payload = self._random.randbytes(200)
            still = self._admit(
                f"{stem}.HEIC", Made(partial(images.heic, payload=payload)), taken_at
            )
            still.live_photo_video_id = video.id
            yield still

    def _burst(self) -> Iterator[StoredAsset]:
        """Photos of one second: their order is not defined before 3.1."""
        taken_at = datetime(2022, 9, 9, 7, 9, tzinfo=UTC)
        for number in range(_BURST):
            yield self.photo(f"BURST_{number:03d}.jpg", taken_at, offset=timedelta(hours=2))

    def _videos(self) -> Iterator[StoredAsset]:
        for number in range(3):
            taken_at = self.anytime()
            yield self._moving(f"VID_{taken_at:%Y%m%d}_{number}.mp4", taken_at, brand=b"isom")

    def _put_away(self) -> Iterator[StoredAsset]:
        for number in range(4):
            asset = self.photo(f"receipt_{number}.jpg", self.anytime())
            asset.visibility = "archive"
            yield asset
        trashed = self.photo("blurred.jpg", self.anytime())
        trashed.deleted_at = trashed.updated_at
        yield trashed

    def photo(
        self,
        name: str,
        taken_at: datetime,
        *,
        offset: timedelta = timedelta(),
        owner_id: str | None = None,
    ) -> StoredAsset:
        """A JPEG of one colour with its date inside."""
        make, model = self._random.choice(_CAMERAS)
        wall = (taken_at + offset).replace(tzinfo=None)
        taken = images.Taken(wall, offset or None, make, model)
        comment = self._random.randbytes(16).hex().encode()
        picture = Made(partial(images.jpeg, self._colour(), taken, comment=comment))
        asset = self._admit(name, picture, taken_at, offset=offset, owner_id=owner_id)
        city, state, country = self._random.choice((*_PLACES, *[(None, None, None)] * 5))
        place = {"city": city, "state": state, "country": country}
        camera = {"make": make, "model": model, "exifImageWidth": 64, "exifImageHeight": 64}
        asset.exif = (asset.exif or {}) | place | camera | {"orientation": "1"}
        asset.width = asset.height = 64
        return asset

    def _png(self, comment: str) -> Made:
        return Made(partial(images.png, self._colour(), comment=comment.encode()))

    def _moving(self, name: str, taken_at: datetime, *, brand: bytes) -> StoredAsset:
        taken = images.Taken(taken_at.replace(tzinfo=None))
        payload = self._random.randbytes(300)
        movie = partial(images.video, brand, taken, duration_ms=2000, payload=payload)
        asset = self._admit(name, Made(movie), taken_at)
        asset.duration_ms = 2000
        return asset

    def _colour(self) -> images.Colour:
        level = self._random.choice
        steps = range(15, 256, 60)
        return level(steps), level(steps), level(steps)

    def _admit(
        self,
        name: str,
        content: Content,
        taken_at: datetime,
        *,
        offset: timedelta = timedelta(),
        owner_id: str | None = None,
    ) -> StoredAsset:
        uploaded = timedelta(seconds=2 * self.number(), microseconds=self._random.randrange(10**6))
        asset = new_asset(
            name,
            content,
            asset_id=self._id(),
            owner_id=owner_id or self._me_id,
            taken_at=taken_at,
            offset=offset,
            created_at=_UPLOADED + uploaded,
        )
        self.library.assets[asset.id] = asset
        return asset

    # -- what holds them together ------------------------------------------------------------------

    def arrange(self) -> None:
        """Favourites, albums, people, tags and a stack, over what there is."""
        photos = [asset for asset in self.library.own() if asset.visibility == "timeline"]
        photos = [asset for asset in photos if not asset.trashed]
        for asset in photos[::7]:
            asset.is_favorite = True
        for name, chosen in (("Summer", photos[1::6]), ("Family ☀️ 2020", photos[2::9])):
            album = Album(self._id(), name, self._me_id, _UPLOADED, _UPLOADED)
            album.asset_ids = [asset.id for asset in chosen]
            self.library.albums[album.id] = album
        self._name_people(photos)
        self._tag(photos)
        burst = [asset for asset in photos if asset.original_file_name.startswith("BURST_")]
        if len(burst) == _BURST:
            self._stack(burst)

    def _name_people(self, photos: list[StoredAsset]) -> None:
        for name, chosen in (("Grandma", photos[::5]), ("Grandpa", photos[::8])):
            person = Person(self._id(), self._me_id, name, _UPLOADED)
            self.library.people[person.id] = person
            for asset in chosen:
                asset.person_ids.append(person.id)
                asset.faces[person.id] = [media.face(self._id())]

    def _tag(self, photos: list[StoredAsset]) -> None:
        travel = Tag(self._id(), self._me_id, "Travel", _UPLOADED, _UPLOADED)
        japan = Tag(self._id(), self._me_id, "Travel/Japan", _UPLOADED, _UPLOADED, travel.id)
        to_print = Tag(self._id(), self._me_id, "to print", _UPLOADED, _UPLOADED)
        for tag, chosen in ((travel, ()), (japan, photos[3::10]), (to_print, photos[4::11])):
            self.library.tags[tag.id] = tag
            for asset in chosen:
                asset.tag_ids.append(tag.id)

    def _stack(self, burst: list[StoredAsset]) -> None:
        stack = Stack(self._id(), self._me_id, burst[0].id, [asset.id for asset in burst])
        self.library.stacks[stack.id] = stack
        for asset in burst:
            asset.stack_id = stack.id
