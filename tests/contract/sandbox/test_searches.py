from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mirror.sandbox import sample_library
from tests.contract.sandbox.client import Client, connected
from tests.contract.sandbox.replay import VERSIONS, library

TIED = datetime(2020, 1, 1, tzinfo=UTC)


def tied_library(version: str, count: int = 40) -> Any:
    library = sample_library(0, version=version)
    for number in range(count):
        library.upload(f"{number}.jpg", str(number).encode(), taken_at=TIED)
    return library


async def by_pages(client: Client, size: int) -> list[str]:
    found: list[str] = []
    page: int | None = 1
    while page is not None:
        answer = await client.page(visibility="timeline", size=size, page=page)
        found += [row["id"] for row in answer["items"]]
        page = int(answer["nextPage"]) if answer["nextPage"] else None
    return found


async def test_pages_of_equal_dates_lose_rows_on_2_and_not_on_3():
    async with connected(tied_library("3.1.0")) as client:
        found = await by_pages(client, 15)
        assert set(found) == set(client.library.assets)
    async with connected(tied_library("2.7.5")) as client:
        found = await by_pages(client, 15)
        assert len(found) == 40
        assert set(found) < set(client.library.assets)
        assert found == await by_pages(client, 15)  # and the same ones each time


async def test_an_upper_bound_in_milliseconds_misses_a_row_that_has_microseconds():
    library = sample_library(1)
    asset = next(library.own())
    asset.created_at = datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    async with connected(library) as client:
        shown = (await client.page())["items"][0]["createdAt"]
        assert shown == "2024-01-01T00:00:00.123Z"
        assert await client.ids(createdAfter=shown) == [asset.id]
        assert await client.ids(createdBefore=shown) == []
        assert await client.ids(createdBefore="2024-01-01T00:00:00.124Z") == [asset.id]


async def test_without_visibility_3_finds_all_but_the_locked_and_2_only_the_timeline():
    for version, wanted in (("3.1.0", {"timeline", "archive", "hidden"}), ("2.7.5", {"timeline"})):
        async with connected(sample_library(version=version)) as client:
            client.library.lock(next(client.library.own()).id)
            rows = (await client.page(size=1000))["items"]
            assert {row["visibility"] for row in rows} == wanted


async def test_a_partner_in_the_timeline_is_found_and_an_unsharing_one_is_not():
    async with connected() as client:
        me = client.sandbox.owner_id
        (partner,) = client.library.partners_of(me)
        owners = {row["ownerId"] for row in (await client.page(size=1000))["items"]}
        assert owners == {me, partner}
        client.library.unshare(partner, me)
        owners = {row["ownerId"] for row in (await client.page(size=1000))["items"]}
        assert owners == {me}


async def test_people_and_albums_are_anded_and_a_tag_brings_its_children():
    library = sample_library(0)
    both, one, none = (library.upload(f"{n}.jpg", n.encode()).id for n in "abc")
    ann = library.make_person("Ann", both, one)
    bert = library.make_person("Bert", both)
    tag = library.tag("Travel/Japan", one)
    async with connected(library) as client:
        assert set(await client.ids(personIds=[ann.id])) == {both, one}
        assert await client.ids(personIds=[ann.id, bert.id]) == [both]
        assert await client.ids(personIds=[ann.id, ann.id]) == []
        assert await client.ids(tagIds=[tag.parent_id]) == [one]
        assert set(await client.ids(tagIds=None)) == {both, none}
        album = library.make_album("A", [none])
        assert await client.ids(albumIds=[album.id]) == [none]
        assert set(await client.ids(isNotInAlbum=True)) == {both, one}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"originalFileName": "CAF"}, True),
        ({"originalFileName": "c_f"}, True),
        ({"originalFileName": "c%jpg"}, True),
        ({"originalFileName": "café!"}, False),
        ({"city": "Paris"}, True),
        ({"city": "paris"}, False),
        ({"city": None}, False),
        ({"state": None}, True),
        ({"make": ""}, False),
        ({"rating": 3}, True),
        ({"rating": None}, False),
        ({"description": "SUMMER"}, True),
        ({"type": "VIDEO"}, False),
        ({"isMotion": False}, True),
        ({"isOffline": False}, True),
        ({"checksum": "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"}, True),
        ({"checksum": "hvfkN/qlp/zhXR3cuerq6jd2Z7g="}, True),
        ({"checksum": "nonsense"}, False),
        ({"originalPath": "/data/upload"}, True),
        ({"libraryId": None}, True),
        ({"unheardOf": 1}, True),
        ({"deviceId": "other"}, True),
        ({"trashedAfter": "1970-01-01T00:00:00.000Z"}, False),
        ({"takenAfter": "2020-01-01T01:00:00.000+01:00"}, True),
        ({"takenBefore": "2019-12-31T23:59:59.999Z"}, False),
    ],
)
async def test_each_field_selects_as_the_server_does(fields, found):
    library = sample_library(0)
    asset = library.upload("Café.jpg", b"a", taken_at=TIED)
    library.describe(asset.id, city="Paris", rating=3, description="a summer's day")
    async with connected(library) as client:
        assert await client.ids(**fields) == ([asset.id] if found else [])


async def test_an_empty_text_means_unset_before_3():
    library = sample_library(0, version="2.7.5")
    asset = library.upload("a.jpg", b"a")
    async with connected(library) as client:
        assert await client.ids(make="", visibility="timeline") == [asset.id]


async def test_a_field_that_the_sandbox_cannot_evaluate_is_refused_loudly():
    async with connected() as client:
        status, answer = await client.json("POST", "/api/search/metadata", json={"ocr": "x"})
        assert (status, "ocr" in answer["message"]) == (501, True)


async def test_asking_for_exif_hides_what_has_none_yet():
    async with connected() as client:
        asset = next(client.library.own())
        asset.exif = None
        assert asset.id in await client.ids()
        assert asset.id not in await client.ids(withExif=True)


@pytest.mark.parametrize("version", ["3.1.0", "2.7.5"])
async def test_buckets_count_own_assets_by_the_month_of_the_wall_clock(version):
    async with connected(sample_library(120, version=version)) as client:
        _, buckets = await client.json("GET", "/api/timeline/buckets?visibility=timeline")
        rows = (await client.page(visibility="timeline", size=1000))["items"]
        months: dict[str, int] = {}
        for row in rows:
            if row["ownerId"] == client.sandbox.owner_id:
                month = row["localDateTime"][:7] + "-01"
                months[month] = months.get(month, 0) + 1
        assert {each["timeBucket"]: each["count"] for each in buckets} == months
        month = buckets[0]["timeBucket"]
        _, columns = await client.json("GET", f"/api/timeline/bucket?timeBucket={month}")
        assert len(columns["id"]) >= months[month]


async def test_a_year_before_100_is_shown_in_another_century_but_not_in_buckets():
    library = sample_library(0)
    library.upload("old.jpg", b"a", taken_at=datetime(44, 3, 15, tzinfo=UTC))
    async with connected(library) as client:
        assert (await client.page())["items"][0]["fileCreatedAt"] == "2044-03-15T00:00:00.000Z"
        _, buckets = await client.json("GET", "/api/timeline/buckets")
        assert buckets == [{"timeBucket": "0044-03-01", "count": 1}]


async def test_buckets_of_a_stranger_are_refused_and_of_a_partner_are_not():
    async with connected() as client:
        (partner,) = client.library.partners_of(client.sandbox.owner_id)
        path = "/api/timeline/buckets?userId="
        assert (await client.json("GET", path + partner))[0] == 200
        client.library.unshare(partner, client.sandbox.owner_id)
        status, answer = await client.json("GET", path + partner)
        assert (status, answer["message"]) == (400, "Not found or no timeline.read access")


async def test_the_newest_stamp_seen_brings_its_row_again():
    async with connected() as client:
        asset = next(client.library.own())
        client.library.favorite(asset.id)
        status, answer = await client.json("GET", f"/api/assets/{asset.id}")
        assert status == 200
        after = answer["updatedAt"]
        assert await client.ids(updatedAfter=after, withDeleted=True) == [asset.id]


async def test_the_date_header_is_the_librarys_clock():
    library = sample_library(1)
    library.clock = lambda: TIED + timedelta(days=1)
    async with connected(library) as client, client.ask("GET", "/api/server/ping") as response:
        assert response.headers["Date"] == "Thu, 02 Jan 2020 00:00:00 GMT"


async def test_a_partner_outside_the_timeline_is_not_listed_but_can_be_read():
    async with connected() as client:
        me = client.sandbox.owner_id
        (partner,) = client.library.partners_of(me)
        theirs = next(client.library.own(partner))
        client.library.share(partner, me, in_timeline=False)
        assert theirs.id not in await client.ids()
        assert (await client.json("GET", f"/api/assets/{theirs.id}"))[0] == 200


async def test_an_albums_search_lifts_the_owner_scope_only_on_3():
    for version, found in (("3.1.0", 1), ("2.7.5", 0)):
        async with connected(sample_library(version=version)) as client:
            me = client.sandbox.owner_id
            (partner,) = client.library.partners_of(me)
            theirs = next(client.library.own(partner))
            album = client.library.make_album("Theirs", [theirs.id], owner_id=partner)
            album.members[me] = "viewer"
            client.library.unshare(partner, me)
            assert len(await client.ids(albumIds=[album.id])) == found
            body = {"albumIds": [album.id]}
            answer = await client.json("POST", "/api/search/statistics", key="all", json=body)
            assert answer == (200, {"total": 0})


async def test_people_are_shown_to_the_owner_alone():
    async with connected() as client:
        (partner,) = client.library.partners_of(client.sandbox.owner_id)
        theirs = next(client.library.own(partner))
        client.library.make_person("Zoe", theirs.id, owner_id=partner)
        _, answer = await client.json("GET", f"/api/assets/{theirs.id}")
        assert answer["people"] == []
        mine = next(client.library.own())
        client.library.make_person("Zoe", mine.id)
        _, answer = await client.json("GET", f"/api/assets/{mine.id}")
        assert "Zoe" in {person["name"] for person in answer["people"]}


async def test_people_come_in_pages():
    library = sample_library(0)
    names = [f"P{number}" for number in range(5)]
    for name in names:
        library.make_person(name, library.upload(f"{name}.jpg", name.encode()).id)
    async with connected(library) as client:
        found = []
        for number in (1, 2, 3):
            path = f"/api/people?size=2&page={number}"
            _, answer = await client.json("GET", path, key="all")
            found += [person["name"] for person in answer["people"]]
            assert answer["hasNextPage"] is (number < 3)
        assert found == names
        assert (await client.json("GET", "/api/people?size=1001", key="all"))[0] == 400


async def test_counts_agree_with_the_listing():
    async with connected(sample_library(200)) as client:
        rows = await client.page(visibility="timeline", size=1000)
        own = [row for row in rows["items"] if row["ownerId"] == client.sandbox.owner_id]
        fields = {"visibility": "timeline"}
        answer = await client.json("POST", "/api/search/statistics", key="all", json=fields)
        assert answer == (200, {"total": len(rows["items"])})
        path = "/api/assets/statistics?visibility=timeline"
        _, counts = await client.json("GET", path, key="all")
        assert counts["total"] == len(own) == counts["images"] + counts["videos"]


async def test_downloads_are_counted_with_the_videos_of_live_photos():
    async with connected() as client:
        still = client.library.named("IMG_5000.HEIC")
        video = client.library.named("IMG_5000.MOV")
        body = {"assetIds": [still.id]}
        status, answer = await client.json("POST", "/api/download/info", json=body)
        size = still.content.size_bytes + video.content.size_bytes
        ids = [still.id, video.id]
        assert (status, answer) == (
            201,
            {"totalSize": size, "archives": [{"size": size, "assetIds": ids}]},
        )


@pytest.mark.parametrize(
    "query",
    ["visibility=everything", "withPartners=1", "isFavorite=yes", "withPartners=true"],
)
async def test_a_timeline_query_that_makes_no_sense_is_refused(query):
    async with connected(sample_library(0)) as client:
        assert (await client.json("GET", f"/api/timeline/buckets?{query}"))[0] == 400


async def test_the_locked_folder_is_a_401_that_does_not_mean_the_key():
    async with connected(sample_library(0)) as client:
        locked = (401, {"message": "Elevated permission is required"})
        assert await client.json("GET", "/api/timeline/buckets?visibility=locked") == locked
        body = {"visibility": "locked"}
        assert await client.json("POST", "/api/search/metadata", json=body) == locked


async def test_an_unchanged_json_answer_is_a_304():
    async with connected() as client:
        path = "/api/timeline/buckets"
        async with client.ask("GET", path) as response:
            headers = {"If-None-Match": response.headers["ETag"]}
        async with client.ask("GET", path, headers=headers) as response:
            assert (response.status, await response.read()) == (304, b"")
        client.library.trash(next(client.library.own()).id)
        async with client.ask("GET", path, headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize("version", VERSIONS)
async def test_rows_are_not_found_at_their_own_milliseconds(version):
    """As measured: 60 of 60 rows missed themselves by createdAt on 3.1.0, none by fileCreatedAt."""
    async with connected(library(version)) as client:
        rows = (await client.page(visibility="timeline", size=60))["items"]
        lost = 0
        for row in rows:
            created, taken = row["createdAt"], row["fileCreatedAt"]
            query = {"id": row["id"], "visibility": "timeline"}
            found = await client.ids(**query, createdAfter=created, createdBefore=created)
            lost += row["id"] not in found
            assert await client.ids(**query, takenAfter=taken, takenBefore=taken) == [row["id"]]
        assert lost > 55
