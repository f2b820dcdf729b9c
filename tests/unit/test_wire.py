from datetime import UTC, datetime

import pytest

from mirror.core.checksum import of_path
from mirror.core.model import AssetType, Visibility
from mirror.errors import NotImmichError
from mirror.immich import wire

# Rows as Immich 3.1.0 and 2.7.5 answered them, ids and checksum aside.
ROW: dict[str, object] = {
    "id": "0ebba016-bf63-41fe-bd95-be3dd147cfc2",
    "createdAt": "2026-11-23T04:39:08.777Z",
    "ownerId": "67a44b89-f63c-4169-a9ee-698c754aa93a",
    "libraryId": None,
    "type": "IMAGE",
    "originalPath": "/data/upload/e58fb07c-8870-44da-87ae-48b703f9c781.jpg",
    "originalFileName": "odd_date_y1900.jpg",
    "originalMimeType": "image/jpeg",
    "thumbhash": "V2kGFYyAd4fYiHiIiIiIh3X/B4iG",
    "fileCreatedAt": "1900-01-01T00:00:00.000Z",
    "fileModifiedAt": "2023-06-01T10:00:00.000Z",
    "localDateTime": "1900-01-01T02:00:00.000Z",
    "updatedAt": "2026-11-23T04:39:23.598Z",
    "isFavorite": False,
    "isArchived": False,
    "isTrashed": False,
    "visibility": "timeline",
    "duration": None,
    "livePhotoVideoId": None,
    "people": [],
    "checksum": "vysk0um17zpBpBWVEOJGVu5EcfE=",
    "isOffline": False,
    "hasMetadata": True,
    "duplicateId": None,
    "resized": True,
    "width": 320,
    "height": 240,
    "isEdited": False,
}
OLD = {"deviceAssetId": "a", "deviceId": "b", "duration": "0:00:00.00000", "unassignedFaces": []}
EXIF = {
    "make": "Google",
    "model": None,
    "exifImageWidth": 320,
    "fileSizeInByte": 19636,
    "dateTimeOriginal": "1900-01-01T00:00:00+00:00",
    "lensModel": "",
    "description": "",
    "rating": 3,
}


@pytest.mark.parametrize("row", [ROW, ROW | OLD], ids=["3.1.0", "2.7.5"])
def test_a_row_becomes_an_asset(row: wire.Row) -> None:
    asset = wire.parse_asset(row)
    assert asset.id == row["id"]
    assert asset.type is AssetType.IMAGE
    assert asset.visibility is Visibility.TIMELINE
    assert asset.taken_at == datetime(1900, 1, 1, tzinfo=UTC)
    assert asset.taken_local == datetime(1900, 1, 1, 2)  # noqa: DTZ001 (a wall clock)
    assert asset.uploaded_at == datetime(2026, 11, 23, 4, 39, 8, 777_000, tzinfo=UTC)
    assert asset.exif is None
    assert len(asset.checksum) == 20


def test_exif_comes_along_and_empty_texts_are_unset() -> None:
    exif = wire.parse_asset(ROW | {"exifInfo": EXIF}).exif
    assert exif is not None
    assert (exif.make, exif.size_bytes, exif.rating) == ("Google", 19636, 3)
    assert (exif.model, exif.lens_model, exif.description) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-05-01T10:00:00.123Z", datetime(2020, 5, 1, 10, 0, 0, 123_000, tzinfo=UTC)),
        ("2020-05-01T10:00:00.123456+00:00", datetime(2020, 5, 1, 10, 0, 0, 123_456, tzinfo=UTC)),
        ("2020-05-01T10:00:00+02:00", datetime(2020, 5, 1, 8, tzinfo=UTC)),
        ("1900-01-01T00:00:00", datetime(1900, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00.000Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("+095405-03-01T00:00:00.000Z", None),
        ("-000044-03-01T00:00:00.000Z", None),
        ("0000-12-30T00:00:00.000Z", None),
        ("infinity", None),
        (None, None),
        (5, None),
    ],
)
def test_dates_are_read_or_unknown_and_never_an_error(text: object, time: datetime | None) -> None:
    assert wire.instant(text) == time


def test_an_asset_with_an_impossible_date_is_still_an_asset() -> None:
    asset = wire.parse_asset(ROW | {"fileCreatedAt": "+012024-01-01T00:00:00.000Z"})
    assert asset.taken_at is None


def test_exif_of_other_types_is_unset() -> None:
    odd = {"make": 7, "fileSizeInByte": "large", "rating": [], "city": {}}
    exif = wire.parse_asset(ROW | {"exifInfo": odd}).exif
    assert exif is not None
    assert (exif.make, exif.size_bytes, exif.rating, exif.city) == (None, None, None, None)


def test_an_unknown_type_is_other() -> None:
    assert wire.parse_asset(ROW | {"type": "HOLOGRAM"}).type is AssetType.OTHER


def test_a_checksum_may_be_hex() -> None:
    asset = wire.parse_asset(ROW | {"checksum": of_path("x").hex()})
    assert asset.checksum == of_path("x")


@pytest.mark.parametrize(
    "key",
    [
        "id",
        "ownerId",
        "type",
        "visibility",
        "originalFileName",
        "originalPath",
        "checksum",
        "fileCreatedAt",
        "localDateTime",
        "createdAt",
        "updatedAt",
    ],
)
def test_a_row_without_what_every_version_sends_is_refused_and_the_field_named(key: str) -> None:
    row = {name: value for name, value in ROW.items() if name != key}
    with pytest.raises(NotImmichError, match="not understood") as caught:
        wire.parse_asset(row)
    assert f"no '{key}'" in caught.value.why


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../etc/passwd"},
        {"ownerId": "me"},
        {"livePhotoVideoId": "a/b"},
        {"checksum": "short"},
        {"checksum": None},
        {"originalFileName": 7},
        {"createdAt": "infinity"},
        {"visibility": "locked"},
        {"exifInfo": []},
    ],
)
def test_a_value_that_could_do_harm_or_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(NotImmichError, match="not understood"):
        wire.parse_asset(ROW | change)


def test_a_list_is_found_by_its_path() -> None:
    assert wire.rows({"assets": {"items": [ROW]}}, "assets", "items") == [ROW]


@pytest.mark.parametrize("answer", [None, [], {"assets": None}, {"assets": {"items": [1]}}])
def test_an_answer_without_its_list_says_what_it_lacks(answer: object) -> None:
    with pytest.raises(NotImmichError, match=r"lacks .*assets\.items"):
        wire.rows(answer, "assets", "items")


def test_a_member_of_another_type_is_missing() -> None:
    assert wire.member({"count": 3}, "count", int) == 3
    with pytest.raises(NotImmichError, match="lacks 'count'"):
        wire.member({"count": "3"}, "count", int)


def test_a_column_holds_texts_only() -> None:
    assert wire.column({"id": ["a", "b"]}, "id") == ["a", "b"]
    with pytest.raises(NotImmichError, match="texts in 'id'"):
        wire.column({"id": ["a", None]}, "id")
