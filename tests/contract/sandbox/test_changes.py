import asyncio
import hashlib
import os
import signal
from typing import Any

import aiohttp
import pytest

from mirror.errors import UsageError
from mirror.sandbox import Sandbox, load_library, sample_library, serve
from mirror.sandbox.images import jpeg
from tests.contract.sandbox.client import Client, connected, original

PHOTO = jpeg((10, 200, 30), None, comment=b"new")


async def upload(client: Client, data: bytes = PHOTO, **fields: str) -> tuple[int, Any]:
    form = aiohttp.FormData()
    form.add_field("assetData", data, filename="from_header.jpg", content_type="image/jpeg")
    fields = {
        "fileCreatedAt": "2024-05-01T10:00:00.000Z",
        "fileModifiedAt": "2024-05-02T10:00:00.000Z",
        **fields,
    }
    for name, value in fields.items():
        form.add_field(name, value)
    return await client.json("POST", "/api/assets", key="all", data=form)


async def test_an_upload_is_listed_and_served():
    async with connected() as client:
        status, answer = await upload(client, filename="a/b.jpg", isFavorite="true")
        assert (status, answer["status"]) == (201, "created")
        _, asset = await client.json("GET", f"/api/assets/{answer['id']}")
        assert asset["originalFileName"] == "a/b.jpg"
        assert asset["fileCreatedAt"] == "2024-05-01T10:00:00.000Z"
        assert asset["fileModifiedAt"] == "2024-05-02T10:00:00.000Z"
        assert asset["isFavorite"] is True
        assert (await client.body(original(answer["id"])))[1] == PHOTO


async def test_the_same_bytes_are_a_duplicate_even_in_the_trash():
    async with connected() as client:
        _, first = await upload(client)
        assert await upload(client) == (200, {"id": first["id"], "status": "duplicate"})
        client.library.trash(first["id"])
        assert (await upload(client))[1]["id"] == first["id"]


async def test_a_live_photos_video_leaves_the_timeline_by_itself():
    async with connected() as client:
        _, video = await upload(client, b"video", filename="x.mov")
        _, still = await upload(client, livePhotoVideoId=video["id"])
        _, shown = await client.json("GET", f"/api/assets/{video['id']}")
        assert shown["visibility"] == "hidden"
        client.library.delete(still["id"])
        assert video["id"] not in client.library.assets


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"filename": "a.exe"}, "Unsupported file type .exe"), ({"fileCreatedAt": "no"}, "fileC")],
)
async def test_a_bad_upload_is_refused(fields, message):
    async with connected() as client:
        status, answer = await upload(client, **fields)
        assert status == 400
        assert message in answer["message"]


async def test_trash_restore_and_delete_for_good():
    async with connected() as client:
        asset = next(client.library.own())
        ids = {"ids": [asset.id]}
        async with client.ask("DELETE", "/api/assets", key="all", json=ids) as response:
            assert response.status == 204
        assert asset.id not in await client.ids()
        assert asset.id in await client.ids(trashedAfter="1970-01-01T00:00:00.000Z")
        answer = await client.json("POST", "/api/trash/restore/assets", key="all", json=ids)
        assert answer == (200, {"count": 1})
        assert asset.id in await client.ids()
        force = ids | {"force": True}
        async with client.ask("DELETE", "/api/assets", key="all", json=force) as response:
            assert response.status == 204
        status, answer = await client.json("GET", f"/api/assets/{asset.id}")
        assert (status, answer["message"]) == (400, "Not found or no asset.read access")


async def test_updates_move_the_stamp_and_the_month():
    async with connected() as client:
        asset = next(client.library.own())
        before = asset.updated_at
        wanted = {"dateTimeOriginal": "2001-01-01T00:00:00+14:00", "rating": 4, "isFavorite": True}
        path = f"/api/assets/{asset.id}"
        status, answer = await client.json("PUT", path, key="all", json=wanted)
        assert status == 200
        assert answer["localDateTime"] == "2001-01-01T00:00:00.000Z"
        assert answer["fileCreatedAt"] == "2000-12-31T10:00:00.000Z"
        assert (answer["exifInfo"]["timeZone"], answer["exifInfo"]["rating"]) == ("UTC+14", 4)
        assert asset.updated_at > before
        many = {"ids": [asset.id], "visibility": "locked"}
        async with client.ask("PUT", "/api/assets", key="all", json=many) as response:
            assert response.status == 204
        assert (await client.json("GET", path, key="all"))[0] == 400


async def test_an_update_that_the_sandbox_does_not_know_is_refused_loudly():
    async with connected() as client:
        path = f"/api/assets/{next(client.library.own()).id}"
        status, _ = await client.json("PUT", path, key="all", json={"latitude": 1})
        assert status == 501


async def test_albums_are_made_filled_and_emptied():
    async with connected() as client:
        first, second, *_ = client.library.own()
        wanted = {"albumName": "New", "assetIds": [first.id]}
        status, album = await client.json("POST", "/api/albums", key="all", json=wanted)
        assert (status, album["assetCount"]) == (201, 1)
        path, ids = f"/api/albums/{album['id']}/assets", {"ids": [first.id, second.id]}
        _, added = await client.json("PUT", path, key="all", json=ids)
        assert [each["success"] for each in added] == [False, True]
        stamps = (first.updated_at, second.updated_at)
        _, removed = await client.json("DELETE", path, key="all", json=ids)
        assert [each["success"] for each in removed] == [True, True]
        assert (first.updated_at, second.updated_at) == stamps
        assert await client.ids(albumIds=[album["id"]]) == []


async def test_the_minimum_key_can_change_nothing():
    async with connected() as client:
        ids = {"ids": [next(client.library.own()).id]}
        for method, path in (
            ("DELETE", "/api/assets"),
            ("PUT", "/api/assets"),
            ("POST", "/api/assets"),
            ("POST", "/api/trash/restore/assets"),
            ("POST", "/api/albums"),
        ):
            status, answer = await client.json(method, path, json=ids)
            assert (status, answer["message"].partition(":")[0]) == (
                403,
                "Missing required permission",
            )


async def test_the_minimum_key_never_sees_partners_archived_or_locked_assets_by_id():
    async with connected() as client:
        (partner,) = client.library.partners_of(client.sandbox.owner_id)
        theirs = next(client.library.own(partner))
        path = f"/api/assets/{theirs.id}"
        assert (await client.json("GET", path))[0] == 200
        client.library.archive(theirs.id)
        assert theirs.id in await client.ids(visibility="archive")
        assert (await client.json("GET", path))[0] == 400
        album = client.library.make_album("Shared", [theirs.id], owner_id=partner)
        album.members[client.sandbox.owner_id] = "viewer"
        assert (await client.json("GET", path))[0] == 200


@pytest.mark.parametrize("header", ["Authorization", "x-immich-user-token", "Cookie"])
async def test_any_other_credential_beats_the_api_key(header):
    value = {"Authorization": "Bearer x", "Cookie": "immich_access_token=x"}.get(header, "x")
    async with connected() as client:
        answer = await client.json("GET", "/api/api-keys/me", headers={header: value})
        assert answer == (401, {"message": "Invalid user token"})


async def test_bytes_under_an_id_can_be_replaced():
    async with connected() as client:
        asset = next(client.library.own())
        client.library.replace(asset.id, b"other")
        (row,) = (await client.page(id=asset.id))["items"]
        _, body = await client.body(original(asset.id))
        assert (body, asset.checksum) == (b"other", hashlib.sha1(b"other").digest())
        assert row["id"] == asset.id


async def test_it_serves_until_it_is_told_to_stop():
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(serve(sample_library(3), ready=ready.set_result))
    told = await ready
    assert set(told) == {"url", "api_keys", "owner_id"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{told['url']}/api/api-keys/me", headers={"x-api-key": told["api_keys"]["minimum"]}
        ) as response,
    ):
        assert (await response.json())["permissions"] == ["asset.read", "asset.download"]
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, timeout=5)


async def test_a_taken_port_is_said_so():
    async with connected() as client:
        port = int(client.sandbox.url.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with Sandbox(sample_library(0), port=port):
                pass


async def test_uploads_to_2_must_name_their_device():
    async with connected(sample_library(version="2.7.5")) as client:
        status, answer = await upload(client)
        assert (status, answer["message"][0]) == (400, "deviceId must be a string")
        assert (await upload(client, deviceId="x", deviceAssetId="y"))[0] == 201
        assert len(await client.ids(deviceId="x", visibility="timeline")) == 1


async def test_a_long_json_answer_is_compressed_for_whoever_can_read_it():
    async with connected() as client:
        for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
            headers = {"Accept-Encoding": accepted}
            async with client.ask(
                "POST", "/api/search/metadata", json={}, headers=headers
            ) as response:
                assert response.headers.get("Content-Encoding") == encoding
                assert ("Content-Length" in response.headers) is (encoding is None)
                assert (await response.json())["assets"]["count"] > 50


async def test_a_library_without_keys_has_the_two_that_are_handed_out(tmp_path):
    path = tmp_path / "library.json"
    path.write_text(
        """{"server": {"major": 3, "minor": 1, "patch": 0}, "keys": {}, "partners": [],
            "users": {"ann": {"id": "67a44b89-f63c-4169-a9ee-698c754aa93a", "name": "Ann"}},
            "albums": {}, "people": {}, "tags": [], "stacks": [], "assets": []}"""
    )
    async with connected(load_library(path)) as client:
        assert await client.ids() == []
        assert set(client.sandbox.api_keys) == {"minimum", "all"}


async def test_nobody_changes_what_is_anothers():
    async with connected() as client:
        (partner,) = client.library.partners_of(client.sandbox.owner_id)
        theirs = next(client.library.own(partner))
        for method in ("DELETE", "PUT"):
            status, answer = await client.json(
                method, "/api/assets", key="all", json={"ids": [theirs.id], "isFavorite": True}
            )
            assert status == 400
            assert answer["message"].startswith("Not found or no asset.")
        assert (theirs.trashed, theirs.is_favorite) == (False, False)


def test_every_change_has_a_later_stamp_even_when_the_clock_stands_still():
    library = sample_library(1)
    frozen = library.now()
    library.clock = lambda: frozen
    first = library.upload("a.jpg", b"a").updated_at
    second = library.upload("b.jpg", b"b").updated_at
    assert frozen < first < second
