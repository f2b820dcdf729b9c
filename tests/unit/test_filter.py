from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.checksum import of_path
from mirror.core.filter import (
    ALWAYS,
    Query,
    SearchError,
    Window,
    by_membership,
    check_search,
    needs_exif,
    queries,
    recheck,
    timestamp,
    wanted,
)
from mirror.core.model import Asset, AssetType, Choice, Exif, Filter, JsonValue, Visibility

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ANN, BOB = "1" * 8 + "-1111-4111-8111-" + "1" * 12, "2" * 8 + "-2222-4222-8222-" + "2" * 12
ME = "3" * 8 + "-3333-4333-8333-" + "3" * 12
TAKEN = datetime(2020, 6, 15, 14, tzinfo=UTC)
ASSET = Asset(
    id=ANN,
    owner_id=ME,
    type=AssetType.IMAGE,
    visibility=Visibility.TIMELINE,
    original_file_name="IMG_0001.JPG",
    original_path="/data/IMG_0001.JPG",
    checksum=of_path("x"),
    taken_at=TAKEN,
    taken_local=TAKEN.replace(tzinfo=None),
    uploaded_at=datetime(2021, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC),
    updated_at=datetime(2022, 1, 1, tzinfo=UTC),
)


def bodies(filter_: Filter) -> list[dict[str, JsonValue]]:
    return [query.body() for query in queries(filter_, now=NOW)]


def only(filter_: Filter) -> Query:
    (query,) = queries(filter_, now=NOW)
    return query


# -- requests --------------------------------------------------------------------------------------


def test_an_empty_filter_asks_for_the_timeline_and_nothing_else() -> None:
    assert bodies(Filter()) == [{"visibility": "timeline"}]


def test_each_visibility_is_a_request_of_its_own_and_hidden_comes_last() -> None:
    filter_ = Filter(visibility=(Visibility.HIDDEN, Visibility.ARCHIVE, Visibility.TIMELINE))
    assert [body["visibility"] for body in bodies(filter_)] == ["timeline", "archive", "hidden"]


@pytest.mark.parametrize(
    ("filter_", "fields"),
    [
        (Filter(favorite=False), {"isFavorite": False}),
        (Filter(in_album=False), {"isNotInAlbum": True}),
        (Filter(in_album=True), {}),
        (Filter(make=("",)), {"make": None}),
        (Filter(type=(AssetType.VIDEO,)), {"type": "VIDEO"}),
        (Filter(rating=(5,)), {"rating": 5}),
        (Filter(file_name=("IMG_1",)), {"originalFileName": "IMG_1"}),
        (Filter(people=Choice((ANN, BOB), every=True)), {"personIds": (ANN, BOB)}),
        (Filter(albums=Choice((ANN, ANN), every=True)), {"albumIds": (ANN,)}),
        (Filter(tags=Choice((ANN, ANN))), {"tagIds": (ANN,)}),
        (Filter(search={"lensModel": "Pixel 10 back"}), {"lensModel": "Pixel 10 back"}),
        (Filter(search={"withExif": True}), {}),
        (Filter(taken_after=TAKEN), {"takenAfter": "2020-06-15T14:00:00.000Z"}),
        (Filter(taken_before=TAKEN), {"takenBefore": "2020-06-15T14:00:00.001Z"}),
        (Filter(uploaded_before=TAKEN), {"createdBefore": "2020-06-15T14:00:00.001Z"}),
        (Filter(updated_after=TAKEN), {"updatedAfter": "2020-06-15T14:00:00.000Z"}),
        (Filter(taken_within_days=1), {"takenAfter": "2026-04-30T12:00:00.000Z"}),
        (
            Filter(uploaded_within_days=2, uploaded_after=TAKEN),
            {"createdAfter": "2026-04-29T12:00:00.000Z"},
        ),
        (
            Filter(search={"createdAfter": "2020-01-01T00:00:00+02:00"}),
            {"createdAfter": "2019-12-31T22:00:00.000Z"},
        ),
    ],
)
def test_a_key_becomes_the_servers_field(filter_: Filter, fields: Mapping[str, JsonValue]) -> None:
    assert bodies(filter_) == [{"visibility": "timeline", **fields}]


def test_any_of_several_values_is_one_request_each() -> None:
    filter_ = Filter(people=Choice((ANN, BOB)), city=("Paris", "Rome"))
    asked = {(body["city"], body["personIds"]) for body in bodies(filter_)}
    assert asked == {
        ("Paris", (ANN,)),
        ("Rome", (ANN,)),
        ("Paris", (BOB,)),
        ("Rome", (BOB,)),
    }


def test_a_visibility_in_search_is_the_only_one_asked_for() -> None:
    filter_ = Filter(search={"visibility": "archive"})
    assert bodies(filter_) == [{"visibility": "archive"}]


@pytest.mark.parametrize(
    ("filter_", "key"),
    [
        (Filter(make=("Apple",), search={"make": "Apple"}), "search.make"),
        (Filter(favorite=False, search={"isFavorite": True}), "search.isFavorite"),
        (
            Filter(taken_within_days=3, search={"takenAfter": "2020-01-01T00:00:00Z"}),
            "search.takenAfter",
        ),
        (Filter(in_album=False, albums=Choice((ANN,))), "in_album"),
        (Filter(people=Choice(())), "people"),
        (Filter(search={"visibility": "locked"}), "search.visibility"),
    ],
)
def test_what_is_said_twice_or_says_nothing_is_refused(filter_: Filter, key: str) -> None:
    with pytest.raises(SearchError) as caught:
        queries(filter_, now=NOW)
    assert caught.value.key == key


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 (the zone comes from `timezones`)
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001 (as above)
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
    )
)
def test_times_are_sent_in_the_one_form_that_all_versions_take(time: datetime) -> None:
    text = timestamp(time)
    assert len(text) == len("2020-01-31T00:00:00.000Z")
    assert timedelta() <= time - datetime.fromisoformat(text) < timedelta(milliseconds=1)


def test_the_end_of_time_can_be_asked_for() -> None:
    filter_ = Filter(taken_before=datetime.max.replace(tzinfo=UTC))
    assert bodies(filter_)[0]["takenBefore"] == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("filter_", "exif", "membership"),
    [
        (Filter(), False, False),
        (Filter(rating=(1,)), True, False),
        (Filter(search={"lensModel": "x"}), True, False),
        (Filter(people=Choice((ANN,))), False, True),
        (Filter(in_album=True), False, True),
        (Filter(search={"tagIds": None}), False, True),
        (Filter(search={"isMotion": True}), False, False),
    ],
)
def test_a_filter_knows_whether_it_reads_exif_or_membership(
    filter_: Filter,
    exif: bool,  # noqa: FBT001 (a column of the table)
    membership: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    assert (needs_exif(filter_), by_membership(filter_)) == (exif, membership)


# -- rows that come back ---------------------------------------------------------------------------

EXIF = Exif(make="Apple", city=None, description="Grandma in Rome", rating=4)


@pytest.mark.parametrize(
    ("filter_", "change"),
    [
        (Filter(), {"visibility": Visibility.ARCHIVE}),
        (Filter(), {"is_trashed": True}),
        (Filter(favorite=True), {}),
        (Filter(type=(AssetType.VIDEO,)), {}),
        (Filter(taken_after=TAKEN + timedelta(days=1)), {}),
        (Filter(taken_before=TAKEN - timedelta(days=1)), {}),
        (Filter(uploaded_after=NOW), {}),
        (Filter(updated_before=TAKEN), {}),
        (Filter(file_name=("DSC",)), {}),
        (Filter(make=("Google",)), {"exif": EXIF}),
        (Filter(make=("",)), {"exif": EXIF}),
        (Filter(rating=(5,)), {"exif": EXIF}),
        (Filter(search={"description": "paris"}), {"exif": EXIF}),
        (Filter(search={"id": BOB}), {}),
        (Filter(search={"libraryId": BOB}), {}),
        (Filter(search={"isMotion": True}), {}),
        (Filter(search={"isOffline": True}), {}),
        (Filter(search={"checksum": of_path("y").hex()}), {}),
        (Filter(search={"originalPath": "elsewhere"}), {}),
    ],
)
def test_a_row_that_was_not_asked_for_is_found_out(
    filter_: Filter, change: dict[str, object]
) -> None:
    asset = replace(ASSET, **change)  # type: ignore[arg-type]  # the table's values fit their keys
    assert recheck(only(filter_), asset, own=True) is not None


@pytest.mark.parametrize(
    ("filter_", "change"),
    [
        (Filter(), {}),
        (Filter(search={"withDeleted": True}), {"is_trashed": True}),
        (Filter(search={"isOffline": True}), {"is_trashed": True, "is_offline": True}),
        (Filter(favorite=True), {"is_favorite": True}),
        (Filter(taken_after=TAKEN, taken_before=TAKEN), {}),
        (Filter(taken_after=TAKEN), {"taken_at": None}),
        (Filter(make=("Google",)), {}),  # no exif came along
        (Filter(make=("Apple",)), {"exif": EXIF}),
        (Filter(city=("",)), {"exif": EXIF}),
        (Filter(search={"description": "ROME"}), {"exif": EXIF}),
        (Filter(search={"originalFileName": "I%1"}), {}),
        (Filter(search={"originalFileName": "cafe"}), {"original_file_name": "café.jpg"}),
        (Filter(search={"checksum": of_path("x").hex()}), {}),
        (Filter(people=Choice((ANN,))), {}),
    ],
)
def test_a_row_that_may_be_right_passes(filter_: Filter, change: dict[str, object]) -> None:
    asset = replace(ASSET, **change)  # type: ignore[arg-type]  # the table's values fit their keys
    query = only(filter_)
    assert recheck(query, asset, own=True) is None
    assert wanted(query, asset)


def test_favourites_of_others_are_not_rechecked_because_the_server_hides_them() -> None:
    assert recheck(only(Filter(favorite=True)), ASSET, own=False) is None


def test_a_failing_key_is_named_as_the_filter_names_it() -> None:
    assert recheck(only(Filter(favorite=True)), ASSET, own=True) == "favorite"
    assert recheck(only(Filter(search={"id": BOB})), ASSET, own=True) == "search.id"


def test_a_row_in_the_extra_millisecond_of_a_window_is_dropped_without_blame() -> None:
    query = only(Filter(uploaded_before=ASSET.uploaded_at - timedelta(milliseconds=1)))
    assert recheck(query, ASSET, own=True) is None
    assert not wanted(query, ASSET)


def test_a_window_ends_with_all_of_the_millisecond_that_the_server_shows() -> None:
    query = only(Filter(uploaded_before=ASSET.uploaded_at))
    assert wanted(query, ASSET)


@pytest.mark.parametrize(
    ("part", "name", "taken"),
    [
        ("IMG_1", "IMG_1.jpg", True),
        ("img_1", "IMG_1.jpg", True),
        ("IMG_1", "IMG-1.jpg", False),
        ("100%", "100 percent.jpg", False),
        ("cafe_", "Café_1.jpg", True),
    ],
)
def test_wildcards_of_the_server_are_plain_characters_in_file_name(
    part: str,
    name: str,
    taken: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    asset = replace(ASSET, original_file_name=name)
    query = only(Filter(file_name=(part,)))
    assert recheck(query, asset, own=True) is None
    assert wanted(query, asset) is taken


def test_a_window_without_ends_holds_every_time() -> None:
    assert datetime.max.replace(tzinfo=UTC) in Window()
    assert not ALWAYS.sent("taken")


# -- what a server knows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "version"),
    [
        ({"deviceId": "phone"}, (2, 7, 5)),
        ({"ocr": "invoice"}, (2, 2, 0)),
        ({"rating": None}, (2, 6, 0)),
        ({"rating": -1}, (2, 5, 6)),
        ({"tagIds": None}, (2, 0, 1)),
        ({"personIds": (ANN, BOB)}, (3, 1, 0)),
        ({"takenAfter": "2020-01-01T00:00:00Z"}, (3, 1, 0)),
        ({"lensModel": None, "withDeleted": True, "isNotInAlbum": True}, (3, 2, 0)),
        ({"checksum": of_path("x").hex(), "visibility": "hidden", "type": "VIDEO"}, (3, 1, 0)),
    ],
)
def test_what_the_version_knows_is_allowed(
    search: dict[str, JsonValue], version: tuple[int, ...]
) -> None:
    check_search(search, version)


@pytest.mark.parametrize(
    ("search", "version", "says"),
    [
        ({"isFavourite": True}, (3, 1, 0), "did you mean isFavorite?"),
        ({"nonsense12345": True}, (3, 1, 0), "no server would know it"),
        ({"deviceId": "phone"}, (3, 0, 0), "removed in 3.0"),
        ({"ocr": "invoice"}, (2, 1, 0), "came with 2.2"),
        ({"rating": None}, (2, 5, 6), "from -1 to 5"),
        ({"rating": -1}, (3, 1, 0), "from 1 to 5"),
        ({"rating": True}, (3, 1, 0), "from 1 to 5"),
        ({"withStacked": False}, (2, 6, 0), "drop whole stacks"),
        ({"size": 5}, (3, 1, 0), "paging"),
        ({"isArchived": True}, (2, 0, 0), "ignored since 1.133"),
        ({"visibility": "locked"}, (3, 1, 0), "locked folder"),
        ({"visibility": "all"}, (3, 1, 0), "timeline, archive, hidden"),
        ({"type": "PHOTO"}, (3, 1, 0), "IMAGE"),
        ({"isMotion": "true"}, (3, 1, 0), "true or false"),
        ({"isNotInAlbum": False}, (3, 1, 0), "in_album = true"),
        ({"libraryId": None}, (3, 1, 0), "UUID"),
        ({"personIds": ("Ann",)}, (3, 1, 0), "UUID"),
        ({"personIds": ()}, (3, 1, 0), "UUID"),
        ({"personIds": (ANN, ANN)}, (3, 1, 0), "twice"),
        ({"takenAfter": "2020-01-01"}, (3, 1, 0), "zone"),
        ({"takenAfter": "yesterday"}, (3, 1, 0), "2020-01-31T00:00:00Z"),
        ({"checksum": "abc"}, (3, 1, 0), "SHA-1"),
        ({"description": ""}, (3, 1, 0), "text"),
        ({"city": 3}, (3, 1, 0), "null"),
    ],
)
def test_what_the_server_would_ignore_or_refuse_is_refused_first(
    search: dict[str, JsonValue], version: tuple[int, ...], says: str
) -> None:
    with pytest.raises(SearchError, match="search") as caught:
        check_search(search, version)
    assert says in str(caught.value)
