import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.core.model import (
    AssetType,
    Choice,
    Filter,
    JsonValue,
    Listed,
    LivePhotos,
    Owners,
    Visibility,
)
from mirror.errors import OtherAccountError, ProfileError, RequestError, UnavailableError
from mirror.immich.client import Client
from mirror.immich.listing import Listing, Selection, user_id
from mirror.immich.retry import RetryPolicy
from mirror.sandbox import search as sandbox_search
from mirror.sandbox.faults import Answered
from mirror.sandbox.library import Library
from mirror.sandbox.records import StoredAsset
from mirror.sandbox.samples import sample_library
from mirror.sandbox.server import Sandbox

VERSIONS = pytest.mark.parametrize("version", ["2.7.5", "3.1.0"])
NOON = datetime(2020, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MS = timedelta(milliseconds=1)
EVERYTHING = (Visibility.TIMELINE, Visibility.ARCHIVE)


async def no_wait(_wait_s: float) -> None:
    pass


def client_of(sandbox: Sandbox, key: str = "minimum") -> Client:
    return Client(sandbox.url, sandbox.api_keys[key], retry=RetryPolicy(sleep=no_wait))


def empty(version: str = "3.1.0") -> Library:
    return sample_library(0, version=version)


def photo(
    library: Library,
    name: str,
    taken_at: datetime = NOON,
    *,
    owner_id: str | None = None,
    uploaded_at: datetime | None = None,
    visibility: str = "timeline",
) -> StoredAsset:
    content = f"{name} {taken_at} {len(library.assets)}".encode()
    asset = library.upload(
        name, content, taken_at=taken_at, owner_id=owner_id, visibility=visibility
    )
    if uploaded_at is not None:
        asset.created_at = uploaded_at
    return asset


def live_photo(library: Library, name: str, taken_at: datetime = NOON) -> tuple[StoredAsset, ...]:
    video = photo(library, f"{name}.MOV", taken_at + DAY)
    still = photo(library, f"{name}.HEIC", taken_at)
    library.link_live_photo(still.id, video.id)
    return still, video


async def collect(
    sandbox: Sandbox,
    filter_: Filter | None = None,
    *,
    exclude: Iterable[Filter] = (),
    live_photos: LivePhotos = LivePhotos.BOTH,
    needs_exif: bool = False,
    page_size: int = 20,
    own_id: str | None = "",
) -> tuple[Listing, list[Listed]]:
    selection = Selection(
        filter=filter_ or Filter(),
        exclude=tuple(exclude),
        live_photos=live_photos,
        needs_exif=needs_exif,
        user_id=sandbox.owner_id if own_id == "" else own_id,
    )
    async with client_of(sandbox) as client:
        await client.connect()
        listing = Listing(client, selection, page_size=page_size)
        listed = [one async for page in listing for one in page]
    assert listing.count == len(listed)
    assert len({one.asset.id for one in listed}) == len(listed)
    return listing, listed


def ids(assets: Iterable[StoredAsset | Listed]) -> set[str]:
    return {one.asset.id if isinstance(one, Listed) else one.id for one in assets}


def names(listed: Iterable[Listed]) -> list[str]:
    return sorted(one.asset.original_file_name for one in listed)


# -- all of it, each once --------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("page_size", [3, 7, 1000])
async def test_a_whole_library_is_listed_at_any_page_size(version: str, page_size: int) -> None:
    library = sample_library(120, version=version)
    timeline = [a for a in library.own() if a.visibility == "timeline" and not a.trashed]
    videos = {a.live_photo_video_id for a in timeline} - {None}
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, page_size=page_size)
    assert ids(listed) == ids(timeline) | videos
    assert listing.complete is True
    assert listing.problems == []


async def test_an_empty_account_is_complete() -> None:
    async with Sandbox(empty()) as sandbox:
        listing, listed = await collect(sandbox)
    assert (listing.complete, listed) == (True, [])


async def test_a_listing_knows_nothing_before_its_end() -> None:
    library = empty()
    for number in range(50):
        photo(library, f"{number}.jpg", NOON + number * DAY)
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        listing = Listing(
            client, Selection(filter=Filter(), user_id=sandbox.owner_id), page_size=20
        )
        async for _ in listing:
            assert listing.complete is None
        assert listing.complete is True


@VERSIONS
async def test_a_second_with_many_photos_is_listed_whole(version: str) -> None:
    library = empty(version)
    for number in range(150):
        photo(library, f"{number}.jpg", NOON, uploaded_at=NOON + number * MS)
    photo(library, "before.jpg", NOON - MS)
    photo(library, "after.jpg", NOON + MS)
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox)
        assert not any(request.path.endswith("/bucket") for request in sandbox.requests)
    assert len(listed) == 152
    assert listing.complete is True


@VERSIONS
async def test_photos_uploaded_at_once_are_sought_by_id_after_paging(version: str) -> None:
    library = empty(version)
    for number in range(150):
        photo(library, f"{number}.jpg", NOON, uploaded_at=NOON)
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox)
    assert len(listed) == 150
    assert listing.complete is True


@VERSIONS
async def test_photos_uploaded_at_once_and_not_to_be_verified_are_a_problem(version: str) -> None:
    library = empty(version)
    for number in range(50):
        photo(library, f"{number}.jpg", NOON, uploaded_at=NOON)
    # Counted in its month, and not listed there: an asset without metadata.
    library.named("7.jpg").exif = None
    async with Sandbox(library) as sandbox:
        listing, _ = await collect(sandbox)
    assert listing.complete is False
    assert "uploaded at once" in listing.problems[0]


@VERSIONS
async def test_what_the_database_keeps_below_a_millisecond_is_not_lost(version: str) -> None:
    library = empty(version)
    for number in range(90):
        tick = timedelta(microseconds=number * 37)
        photo(library, f"{number}.jpg", NOON + tick, uploaded_at=NOON + tick)
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, page_size=10)
    assert (len(listed), listing.complete) == (90, True)


@VERSIONS
async def test_years_before_100_and_the_last_ones_are_listed(version: str) -> None:
    library = empty(version)
    for year in (1, 44, 99, 100, 101, 1900, 1999, 2044, 9999):
        photo(library, f"{year}.jpg", datetime(year, 3, 1, tzinfo=UTC))
    for number in range(30):
        taken_at = datetime(44, 3, 2, tzinfo=UTC) + number * MS
        photo(library, f"{number} of 44.jpg", taken_at, uploaded_at=NOON + number * MS)
    photo(library, "end.jpg", datetime(9999, 12, 31, 23, 59, 59, 999_900, tzinfo=UTC))
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, page_size=4)
        limited, some = await collect(
            sandbox, Filter(taken_before=datetime(1950, 1, 1, tzinfo=UTC)), page_size=4
        )
    assert (len(listed), listing.complete) == (40, True)
    assert (len(some), limited.complete) == (36, True)


async def test_a_full_page_at_the_very_end_ends_the_walk() -> None:
    library = empty()
    end = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    for number in range(20):
        photo(library, f"{number}.jpg", end, uploaded_at=NOON + number * MS)
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, page_size=4)
    assert (len(listed), listing.complete) == (20, True)


async def test_a_server_that_does_not_go_by_dates_ends_the_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = empty()
    for number in range(50):
        photo(library, f"{number}.jpg", NOON + number * DAY, uploaded_at=NOON + number * MS)
    # A server that has forgotten this field of the request.
    monkeypatch.delitem(sandbox_search._TESTS, "takenAfter")
    async with Sandbox(library) as sandbox:
        listing, _ = await collect(sandbox)
    assert listing.complete is False
    assert "not in order of their dates" in listing.problems[0]


async def test_an_end_that_fails_is_a_problem_and_everything_else_is_listed() -> None:
    library = sample_library(30)
    async with Sandbox(library) as sandbox:
        sandbox.faults.add(Answered(500), path="/api/search/metadata", times=3)
        listing, listed = await collect(sandbox)
    assert listing.complete is False
    assert "before the year 100" in listing.problems[0]
    assert len(listed) > 20


async def test_a_500_in_between_stops_the_listing() -> None:
    async with Sandbox(sample_library(30)) as sandbox:
        sandbox.faults.add(Answered(500), path="/api/search/metadata", skip=1)
        with pytest.raises(RequestError) as caught:
            await collect(sandbox)
    assert caught.value.status == 500


@VERSIONS
async def test_changes_between_pages_lose_no_photo_that_stays(version: str) -> None:
    library = empty(version)
    stay = [photo(library, f"stay {n}.jpg", NOON + n * DAY / 7) for n in range(60)]
    stay += [photo(library, f"tie {n}.jpg", NOON + 3 * DAY) for n in range(25)]
    go = [photo(library, f"go {n}.jpg", NOON + n * DAY / 11 - DAY) for n in range(60)]
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        selection = Selection(filter=Filter(), user_id=sandbox.owner_id)
        seen = set()
        async for page in Listing(client, selection, page_size=10):
            seen |= ids(page)
            if go:
                library.trash(go.pop(0).id)
                library.redate(go.pop().id, NOON - 9 * DAY)
                photo(library, f"new {len(go)}.jpg", NOON - 5 * DAY)
    assert ids(stay) <= seen


@VERSIONS
async def test_a_row_that_comes_twice_is_listed_once(version: str) -> None:
    library = sample_library(40, version=version)
    async with Sandbox(library) as sandbox:
        _, before = await collect(sandbox)
        sandbox.faults.repeated = set(library.assets)
        listing, after = await collect(sandbox)
    assert ids(after) == ids(before)
    assert listing.complete is True


async def test_a_page_with_rows_missing_is_not_taken_for_the_last() -> None:
    library = empty()
    photos = [photo(library, f"{number}.jpg", NOON + number * DAY) for number in range(50)]
    async with Sandbox(library) as sandbox:
        async with client_of(sandbox) as client:
            answer = await client.search({"visibility": "timeline", "order": "asc", "size": 20})
        assert isinstance(answer.json, dict)
        del answer.json["assets"]["items"][3]
        body, headers = json.dumps(answer.json).encode(), {"Content-Type": "application/json"}
        sandbox.faults.add(
            Answered(200, body, headers), path="/api/search/metadata", skip=1, times=1
        )
        _, listed = await collect(sandbox)
    assert ids(listed) == ids(photos) - {photos[3].id}


@settings(max_examples=25, deadline=None)
@given(
    version=st.sampled_from(["2.7.5", "3.1.0"]),
    page_size=st.integers(1, 6),
    # Few instants and few uploads, a fraction of a millisecond apart or a month.
    moments=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=5, max_size=50),
    steps=st.lists(
        st.sampled_from([timedelta(microseconds=300), MS, 31 * DAY]), min_size=6, max_size=6
    ),
)
def test_what_is_complete_lacks_nothing(
    version: str,
    page_size: int,
    moments: list[tuple[int, int]],
    steps: list[timedelta],
) -> None:
    library = empty(version)
    for number, (taken, uploaded) in enumerate(moments):
        taken_at = NOON + sum(steps[:taken], timedelta())
        uploaded_at = NOON + sum(steps[3 : 3 + uploaded], timedelta())
        photo(library, f"{number}.jpg", taken_at, uploaded_at=uploaded_at)

    async def run() -> tuple[Listing, list[Listed]]:
        async with Sandbox(library) as sandbox:
            return await collect(sandbox, page_size=page_size)

    listing, listed = asyncio.run(run())
    assert ids(listed) == set(library.assets)
    assert listing.complete is True


# -- whose, and from where -------------------------------------------------------------------------


@VERSIONS
async def test_partners_photos_are_listed_only_for_anyone(version: str) -> None:
    library = sample_library(60, version=version)
    (partner,) = library.users.keys() - {library.owner_id}
    async with Sandbox(library) as sandbox:
        _, mine = await collect(sandbox)
        listing, all_of_them = await collect(sandbox, Filter(owners=Owners.ANYONE))
    assert {one.asset.owner_id for one in mine} == {library.owner_id}
    assert ids(all_of_them) - ids(mine) == ids(library.own(partner))
    assert listing.complete is True


async def test_what_a_partner_put_away_is_not_listed_because_it_cannot_be_read() -> None:
    library = sample_library(60)
    (partner,) = library.users.keys() - {library.owner_id}
    shown, archived, trashed, shared = list(library.own(partner))
    library.archive(archived.id, shared.id)
    library.trash(trashed.id)
    album = library.make_album("Ours", [shared.id])
    anyone = Filter(owners=Owners.ANYONE, visibility=EVERYTHING, search={"withDeleted": True})
    in_album = Filter(owners=Owners.ANYONE, visibility=EVERYTHING, albums=Choice((album.id,)))
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, anyone)
        _, from_album = await collect(sandbox, in_album)
        async with client_of(sandbox) as client:
            with pytest.raises(UnavailableError):
                await client.original_head(archived.id)
            assert (await client.original_head(shared.id)).size_bytes
    assert ids(listed) & ids(library.own(partner)) == {shown.id}
    assert ids(from_album) == {shared.id}
    assert listing.complete is True


async def test_without_an_own_id_others_rows_make_the_listing_incomplete() -> None:
    async with Sandbox(sample_library(60)) as sandbox:
        listing, listed = await collect(sandbox, own_id=None)
    assert (listing.complete, listed) == (False, [])
    assert "not known who the key's user is" in listing.problems[0]


@VERSIONS
async def test_the_archive_is_listed_only_when_asked_for(version: str) -> None:
    library = empty(version)
    photo(library, "shown.jpg")
    photo(library, "kept.jpg", visibility="archive")
    async with Sandbox(library) as sandbox:
        _, timeline = await collect(sandbox)
        _, both = await collect(sandbox, Filter(visibility=EVERYTHING))
        _, archive = await collect(sandbox, Filter(search={"visibility": "archive"}))
    assert names(timeline) == ["shown.jpg"]
    assert names(both) == ["kept.jpg", "shown.jpg"]
    assert names(archive) == ["kept.jpg"]


async def test_the_trash_is_listed_only_when_asked_for() -> None:
    library = empty()
    library.trash(photo(library, "thrown.jpg").id)
    async with Sandbox(library) as sandbox:
        _, default = await collect(sandbox)
        _, deleted = await collect(sandbox, Filter(search={"withDeleted": True}))
    assert names(default) == []
    assert names(deleted) == ["thrown.jpg"]


# -- live photos -----------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (LivePhotos.BOTH, ["live.HEIC", "live.MOV", "other.jpg"]),
        (LivePhotos.STILL, ["live.HEIC", "other.jpg"]),
        (LivePhotos.VIDEO, ["live.MOV", "other.jpg"]),
    ],
)
@pytest.mark.parametrize(
    "visibility", [(Visibility.TIMELINE,), (Visibility.TIMELINE, Visibility.HIDDEN)]
)
async def test_a_live_photo_comes_as_the_mirror_wants_it(
    version: str, mode: LivePhotos, expected: list[str], visibility: tuple[Visibility, ...]
) -> None:
    library = empty(version)
    still, video = live_photo(library, "live")
    photo(library, "other.jpg")
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, Filter(visibility=visibility), live_photos=mode)
    assert names(listed) == expected
    assert listing.complete is True
    pairs = {one.asset.id: one.still.id for one in listed if one.still}
    assert pairs == ({} if mode is LivePhotos.STILL else {video.id: still.id})


async def test_a_shared_video_is_listed_once_on_its_first_still() -> None:
    library = empty()
    still, video = live_photo(library, "live")
    still.created_at = NOON
    copies = [photo(library, f"copy {number}.HEIC", NOON - number * DAY) for number in range(3)]
    for copy in copies:
        library.link_live_photo(copy.id, video.id)
    async with Sandbox(library) as sandbox:
        _, both = await collect(sandbox)
        _, videos = await collect(sandbox, live_photos=LivePhotos.VIDEO)
    assert [one.still.id for one in both if one.still] == [still.id]
    assert ids(both) == ids([still, video, *copies])
    assert ids(videos) == {video.id}


async def test_a_video_of_a_still_that_is_not_listed_stays_out() -> None:
    library = empty()
    live_photo(library, "old", NOON - 300 * DAY)
    still, video = live_photo(library, "new")
    async with Sandbox(library) as sandbox:
        _, listed = await collect(sandbox, Filter(taken_after=NOON, taken_before=NOON))
    assert ids(listed) == {still.id, video.id}


@pytest.mark.parametrize("mode", LivePhotos)
async def test_a_video_that_the_server_extracted_is_not_mirrored(mode: LivePhotos) -> None:
    library = empty()
    still, video = live_photo(library, "PXL")
    video.original_path = f"/data/encoded-video/me/{video.id}-MP.mp4"
    async with Sandbox(library) as sandbox:
        _, listed = await collect(sandbox, live_photos=mode)
    assert ids(listed) == {still.id}


@pytest.mark.parametrize("mode", LivePhotos)
async def test_a_still_whose_video_is_gone_is_listed(mode: LivePhotos) -> None:
    library = empty()
    still, video = live_photo(library, "live")
    del library.assets[video.id]
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, live_photos=mode)
    assert (ids(listed), listing.complete) == ({still.id}, True)


async def test_hidden_videos_are_not_asked_for_when_no_still_has_one() -> None:
    library = empty()
    photo(library, "a.jpg")
    async with Sandbox(library) as sandbox:
        await collect(sandbox)
        searches = [r for r in sandbox.requests if r.path == "/api/search/metadata"]
    assert len(searches) == 3  # two ends and one page


# -- filters ---------------------------------------------------------------------------------------


@VERSIONS
async def test_several_people_mean_any_of_them_or_all_of_them(version: str) -> None:
    library = empty(version)
    a, b, both, _ = (photo(library, f"{name}.jpg") for name in ("a", "b", "both", "none"))
    ann = library.make_person("Ann", a.id, both.id).id
    bob = library.make_person("Bob", b.id, both.id).id
    async with Sandbox(library) as sandbox:
        _, either = await collect(sandbox, Filter(people=Choice((ann, bob, ann))))
        _, together = await collect(sandbox, Filter(people=Choice((ann, bob, ann), every=True)))
    assert names(either) == ["a.jpg", "b.jpg", "both.jpg"]
    assert names(together) == ["both.jpg"]


@VERSIONS
async def test_albums_and_what_is_in_none(version: str) -> None:
    library = empty(version)
    inside, outside = photo(library, "in.jpg"), photo(library, "out.jpg")
    album = library.make_album("Summer", [inside.id])
    async with Sandbox(library) as sandbox:
        _, named = await collect(sandbox, Filter(albums=Choice((album.id,))))
        _, without = await collect(sandbox, Filter(in_album=False))
        listing, with_any = await collect(sandbox, Filter(in_album=True))
    assert (ids(named), ids(without), ids(with_any)) == ({inside.id}, {outside.id}, {inside.id})
    assert listing.complete is True


async def test_an_album_that_is_not_there_is_the_filters_fault() -> None:
    stranger = "00000000-0000-4000-8000-000000000000"
    async with Sandbox(empty()) as sandbox:
        with pytest.raises(RequestError, match="the filter: albums") as caught:
            await collect(sandbox, Filter(albums=Choice((stranger,))))
    assert "album.read" in caught.value.why


@pytest.mark.parametrize(("version", "complete"), [("2.7.5", False), ("3.1.0", True)])
async def test_what_others_put_into_an_album_is_missing_in_2x(
    version: str,
    complete: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    library = sample_library(60, version=version)
    album = library.make_album("Ours", list(library.assets)[:5])
    filter_ = Filter(albums=Choice((album.id,)), owners=Owners.ANYONE)
    async with Sandbox(library) as sandbox:
        listing, _ = await collect(sandbox, filter_)
        mine, _ = await collect(sandbox, Filter(albums=Choice((album.id,))))
    assert (listing.complete, mine.complete) == (complete, True)


@VERSIONS
async def test_moving_windows_follow_the_servers_clock(version: str) -> None:
    library = empty(version)
    photo(library, "old.jpg", NOON - 3 * DAY, uploaded_at=NOON)
    photo(library, "new.jpg", NOON, uploaded_at=NOON)
    library.clock = lambda: NOON + DAY
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, Filter(taken_within_days=2))
    assert names(listed) == ["new.jpg"]
    assert listing.server_date == NOON + DAY


@VERSIONS
async def test_upper_ends_are_inclusive_to_the_millisecond_that_is_shown(version: str) -> None:
    library = empty(version)
    tick = timedelta(microseconds=999)
    photo(library, "in.jpg", NOON + tick, uploaded_at=NOON + tick)
    photo(library, "out.jpg", NOON + MS, uploaded_at=NOON + MS)
    async with Sandbox(library) as sandbox:
        taken, by_date = await collect(sandbox, Filter(taken_before=NOON))
        uploaded, by_upload = await collect(sandbox, Filter(uploaded_before=NOON))
    assert names(by_date) == names(by_upload) == ["in.jpg"]
    assert (taken.complete, uploaded.complete) == (True, True)


@VERSIONS
@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (Filter(make=("Apple",)), {"apple"}),
        (Filter(make=("Apple", "Google")), {"apple", "google"}),
        (Filter(rating=(4, 5)), {"google"}),
        (Filter(city=("",)), {"apple", "google", "clip"}),
        (Filter(type=(AssetType.VIDEO,)), {"clip"}),
        (Filter(favorite=True), {"apple"}),
        (Filter(file_name=("PP", "oo")), {"apple", "google"}),
        (Filter(search={"lensModel": "wide"}), {"apple"}),
    ],
)
async def test_a_predicate_selects_what_it_says(
    version: str, filter_: Filter, expected: set[str]
) -> None:
    library = empty(version)
    apple, google = photo(library, "apple.jpg"), photo(library, "google.jpg")
    photo(library, "clip.mp4")
    library.describe(apple.id, make="Apple", lensModel="wide")
    library.describe(google.id, make="Google", rating=5)
    library.favorite(apple.id)
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, filter_)
    assert {name.partition(".")[0] for name in names(listed)} == expected
    assert (listing.problems, listing.complete) == ([], True)


async def test_exif_comes_along_when_the_layout_reads_it() -> None:
    library = empty()
    library.describe(photo(library, "a.jpg").id, make="Apple")
    async with Sandbox(library) as sandbox:
        _, (without,) = await collect(sandbox)
        _, (with_exif,) = await collect(sandbox, needs_exif=True)
    assert without.asset.exif is None
    assert with_exif.asset.exif is not None
    assert with_exif.asset.exif.make == "Apple"


@pytest.mark.parametrize(
    ("search", "version", "says"),
    [
        ({"isFavourite": True}, "3.1.0", "isFavorite"),
        ({"deviceId": "phone"}, "3.1.0", "removed in 3.0"),
        ({"ocr": "x"}, "2.1.0", "came with 2.2"),
    ],
)
@pytest.mark.parametrize("excluded", [False, True])
async def test_what_the_server_would_ignore_is_never_asked(
    search: dict[str, JsonValue],
    version: str,
    says: str,
    excluded: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    filter_ = Filter(search=search)
    main, exclude = (Filter(), [filter_]) if excluded else (filter_, [])
    async with Sandbox(sample_library(5, version=version)) as sandbox:
        with pytest.raises(ProfileError) as caught:
            await collect(sandbox, main, exclude=exclude)
        assert not any(request.path == "/api/search/metadata" for request in sandbox.requests)
    assert says in str(caught.value)


async def test_a_server_that_ignores_a_filter_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = sample_library(30)
    # What a server does with a field that it no longer knows.
    monkeypatch.delitem(sandbox_search._TESTS, "isFavorite")
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox, Filter(favorite=True))
    assert listing.complete is False
    assert "not what was asked for by favorite" in listing.problems[0]
    assert all((one.still or one.asset).is_favorite for one in listed)


async def test_a_row_that_is_not_understood_is_left_out_and_told() -> None:
    library = empty()
    photo(library, "good.jpg")
    photo(library, "evil.jpg").id = "../../etc/passwd"
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(sandbox)
    assert names(listed) == ["good.jpg"]
    assert listing.complete is False
    assert "rows of the server that are not understood" in listing.problems[0]


# -- exclusion -------------------------------------------------------------------------------------


@VERSIONS
async def test_what_is_excluded_stays_out_from_the_archive_too(version: str) -> None:
    library = empty(version)
    secret = photo(library, "secret.jpg")
    archived = photo(library, "archived.jpg", visibility="archive")
    still, video = live_photo(library, "live")
    kept = photo(library, "kept.jpg")
    album = library.make_album("Private", [secret.id, archived.id, still.id])
    async with Sandbox(library) as sandbox:
        listing, listed = await collect(
            sandbox,
            Filter(visibility=EVERYTHING),
            exclude=[Filter(albums=Choice((album.id,)))],
        )
    assert (ids(listed), listing.complete) == ({kept.id}, True)
    assert video.id not in ids(listed)


async def test_what_is_in_any_album_can_be_excluded() -> None:
    library = empty()
    inside, outside = photo(library, "in.jpg"), photo(library, "out.jpg")
    library.make_album("Summer", [inside.id])
    async with Sandbox(library) as sandbox:
        _, listed = await collect(sandbox, exclude=[Filter(in_album=True)])
    assert ids(listed) == {outside.id}


async def test_an_exclusion_of_the_timeline_alone_means_just_that() -> None:
    library = empty()
    photo(library, "shown.jpg")
    photo(library, "kept.jpg", visibility="archive")
    async with Sandbox(library) as sandbox:
        _, listed = await collect(sandbox, Filter(visibility=EVERYTHING), exclude=[Filter()])
    assert names(listed) == ["kept.jpg"]


async def test_what_is_excluded_stays_out_in_the_trash_too() -> None:
    library = empty()
    secret = photo(library, "secret.jpg")
    album = library.make_album("Private", [secret.id])
    library.trash(secret.id)
    async with Sandbox(library) as sandbox:
        _, listed = await collect(
            sandbox,
            Filter(search={"withDeleted": True}),
            exclude=[Filter(albums=Choice((album.id,)))],
        )
    assert listed == []


@VERSIONS
async def test_an_exclusion_that_cannot_be_listed_lets_nothing_through(version: str) -> None:
    gone = "00000000-0000-4000-8000-000000000000"
    filter_ = Filter(owners=Owners.ANYONE)
    async with Sandbox(sample_library(30, version=version)) as sandbox:
        listing, listed = await collect(sandbox, filter_, exclude=[Filter(albums=Choice((gone,)))])
    assert (listing.complete, listed) == (False, [])
    assert "nothing is listed" in listing.problems[0]


async def test_an_exclusion_that_lists_in_part_lets_nothing_through() -> None:
    async with Sandbox(sample_library(30)) as sandbox:
        sandbox.faults.add(Answered(500), path="/api/search/metadata", times=3)
        listing, listed = await collect(sandbox, exclude=[Filter(favorite=True)])
    assert (listing.complete, listed) == (False, [])


# -- whose key -------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("key", ["all", "minimum"])
async def test_a_key_learns_whose_it_is(version: str, key: str) -> None:
    library = sample_library(30, version=version)
    async with Sandbox(library) as sandbox, client_of(sandbox, key) as client:
        assert await user_id(client) == sandbox.owner_id
        assert await user_id(client, sandbox.owner_id) == sandbox.owner_id


@pytest.mark.parametrize("place", ["archive", "hidden", "trash"])
async def test_one_asset_anywhere_tells_whose_key_it_is(place: str) -> None:
    library = empty()
    if place == "trash":
        library.trash(photo(library, "a.jpg").id)
    else:
        photo(library, "a.jpg", visibility=place)
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        assert await user_id(client) == sandbox.owner_id


async def test_a_bucket_that_lists_nothing_is_passed_over() -> None:
    library = empty()
    photo(library, "unread.jpg", NOON).exif = None
    for number in range(2):
        photo(library, f"{number}.jpg", NOON + 90 * DAY)
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        assert await user_id(client) == sandbox.owner_id


async def test_an_empty_account_keeps_the_id_that_was_remembered() -> None:
    async with Sandbox(empty()) as sandbox, client_of(sandbox) as client:
        assert await user_id(client) is None
        assert await user_id(client, sandbox.owner_id) == sandbox.owner_id


@pytest.mark.parametrize("key", ["all", "minimum"])
@pytest.mark.parametrize("assets", [0, 30])
async def test_another_users_key_is_another_account(key: str, assets: int) -> None:
    stranger = "00000000-0000-4000-8000-000000000000"
    async with Sandbox(sample_library(assets)) as sandbox, client_of(sandbox, key) as client:
        with pytest.raises(OtherAccountError) as caught:
            await user_id(client, stranger)
    assert stranger in caught.value.why
    assert caught.value.exit_code == 4


async def test_a_partners_key_is_another_account_although_it_may_see_this_one() -> None:
    library = sample_library(60)
    (partner,) = library.users.keys() - {library.owner_id}
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        with pytest.raises(OtherAccountError):
            await user_id(client, partner)
