import asyncio

import aiohttp
import pytest

from mirror.sandbox import sample_library
from mirror.sandbox.content import Filler
from mirror.sandbox.faults import (
    Answered,
    Corrupted,
    Reset,
    Stalled,
    Truncated,
    bad_gateway,
    json_as_image,
    redirected,
)
from tests.contract.sandbox.client import Client, connected, original

BIG = 200_000


def big_asset(client: Client) -> tuple[str, bytes]:
    content = Filler(b"big", BIG)
    asset = client.library.upload("big.mp4", content)
    return asset.id, b"".join(content.read(0, BIG))


async def received(response: aiohttp.ClientResponse, size_bytes: int) -> bytes:
    return await response.content.readexactly(size_bytes) if size_bytes else b""


@pytest.mark.parametrize("after_bytes", [0, 1, 65_536, 70_000, BIG - 1])
async def test_a_truncated_body_promises_more_than_it_brings(after_bytes):
    async with connected() as client:
        asset_id, whole = big_asset(client)
        client.sandbox.faults.add(Truncated(after_bytes), asset_id=asset_id, times=1)
        async with client.ask("GET", original(asset_id)) as response:
            assert response.headers["Content-Length"] == str(BIG)
            assert await received(response, after_bytes) == whole[:after_bytes]
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()
        assert await client.body(original(asset_id)) == (200, whole)
        first, _second = (r for r in client.sandbox.requests if r.original_of == asset_id)
        assert (first.status, first.sent_bytes) == (200, after_bytes)


@pytest.mark.parametrize("at_byte", [0, 65_535, 65_536, BIG - 1])
async def test_a_corrupted_body_differs_in_one_byte(at_byte):
    async with connected() as client:
        asset_id, whole = big_asset(client)
        client.sandbox.faults.add(Corrupted(at_byte), asset_id=asset_id)
        _, body = await client.body(original(asset_id))
        assert [n for n in range(BIG) if body[n] != whole[n]] == [at_byte]


async def test_a_stalled_body_goes_on_when_it_is_released():
    async with connected() as client:
        asset_id, whole = big_asset(client)
        stalled = Stalled(after_bytes=70_000)
        client.sandbox.faults.add(stalled, asset_id=asset_id)
        async with client.ask("GET", original(asset_id)) as response:
            assert await response.content.readexactly(70_000) == whole[:70_000]
            rest = asyncio.create_task(response.content.read())
            _, waiting = await asyncio.wait({rest}, timeout=0.05)
            assert waiting == {rest}
            stalled.released.set()
            assert await rest == whole[70_000:]


async def test_a_server_can_hang_before_it_answers_and_be_stopped_all_the_same():
    async with connected() as client:
        client.sandbox.faults.add(Stalled(), path="/api/search/*")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ids(), timeout=0.05)
        assert (await client.json("GET", "/api/server/ping"))[0] == 200


async def test_a_reset_connection_brings_no_answer():
    async with connected() as client:
        client.sandbox.faults.add(Reset(), path="/api/search/metadata", times=2)
        for _ in range(2):  # a POST: aiohttp itself repeats a GET once
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.ids()
        assert len(await client.ids()) == len(client.library.assets) - 1  # one is trashed
        assert [request.status for request in client.sandbox.requests] == [0, 0, 200]


async def test_an_answer_in_the_servers_place_strikes_the_requests_it_should():
    async with connected() as client:
        wait = Answered(429, headers={"Retry-After": "7"})
        rule = client.sandbox.faults.add(wait, path="/api/search/*", skip=1, times=1)
        assert (await client.page(size=1))["count"] == 1
        async with client.ask("POST", "/api/search/metadata", json={}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert (await client.page(size=1))["count"] == 1
        assert rule.met == 3


async def test_a_proxys_page_a_redirect_and_json_as_an_image():
    async with connected() as client:
        asset_id, _ = big_asset(client)
        faults = client.sandbox.faults
        for effect, status, name, value in (
            (bad_gateway(), 502, "Content-Type", "text/html"),
            (redirected("http://other.invalid/"), 302, "Location", "http://other.invalid/"),
            (json_as_image(), 200, "Content-Type", "image/jpeg; charset=utf-8"),
        ):
            faults.clear()
            faults.add(effect, asset_id=asset_id)
            async with client.ask("GET", original(asset_id)) as response:
                assert (response.status, response.headers[name]) == (status, value)
        faults.clear()
        assert (await client.body(original(asset_id)))[0] == 200


async def test_in_maintenance_only_three_routes_are_left():
    async with connected() as client:
        client.sandbox.faults.maintenance = True
        asset = next(client.library.own())
        path = f"/api/assets/{asset.id}"
        assert await client.json("GET", path) == (404, {"message": f"Cannot GET {path}"})
        assert (await client.json("GET", "/.well-known/immich"))[0] == 404
        assert await client.json("GET", "/api/server/config") == (200, {"maintenanceMode": True})
        assert (await client.json("GET", "/api/server/ping"))[0] == 200
        assert (await client.json("GET", "/api/server/version"))[0] == 200


async def test_a_revoked_key_and_a_lost_permission():
    async with connected() as client:
        asset = next(client.library.own())
        client.sandbox.key("minimum").permissions.remove("asset.download")
        assert await client.json("GET", original(asset.id)) == (
            403,
            {"message": "Missing required permission: asset.download"},
        )
        client.sandbox.key("minimum").revoked = True
        assert await client.json("GET", original(asset.id)) == (401, {"message": "Invalid API key"})
        assert (await client.body(original(asset.id), key="all"))[0] == 200


async def test_listings_can_hide_repeat_and_cut_rows():
    async with connected() as client:
        whole = await client.ids(visibility="timeline")
        client.sandbox.faults.hidden = {whole[3]}
        assert await client.ids(visibility="timeline") == whole[:3] + whole[4:]
        assert (await client.json("GET", f"/api/assets/{whole[3]}"))[0] == 200
        client.sandbox.faults.clear()
        client.sandbox.faults.repeated = {whole[0]}
        assert await client.ids(visibility="timeline") == [whole[0], *whole]
        client.sandbox.faults.clear()
        client.sandbox.faults.short_pages = 2
        page = await client.page(visibility="timeline", size=10)
        assert ([row["id"] for row in page["items"]], page["nextPage"]) == (whole[:8], None)


@pytest.mark.parametrize(("version", "status"), [("3.1.0", 404), ("2.7.5", 500)])
async def test_a_lost_disk_takes_every_original_and_no_row(version, status):
    async with connected(sample_library(version=version)) as client:
        asset, other, *_ = client.library.own()
        client.sandbox.faults.lost_files = {asset.id}
        assert (await client.body(original(asset.id)))[0] == status
        assert (await client.body(original(other.id)))[0] == 200
        client.sandbox.faults.disk_lost = True
        assert (await client.body(original(other.id)))[0] == status
        assert (await client.json("GET", f"/api/assets/{other.id}"))[0] == 200


async def test_a_rule_for_one_key_leaves_the_others_alone():
    async with connected() as client:
        client.sandbox.faults.add(Answered(500), key="minimum")
        async with client.ask("GET", "/api/server/ping") as response:
            assert response.status == 500
        assert (await client.json("GET", "/api/server/ping", key="all"))[0] == 200


async def test_a_date_that_json_cannot_say_breaks_its_page_and_itself_but_not_its_original():
    async with connected() as client:
        whole = await client.ids(visibility="timeline")
        client.sandbox.faults.undatable = {whole[5]}
        search = {"visibility": "timeline", "size": 5}
        for page, status in ((1, 200), (2, 500), (3, 200)):
            body = search | {"page": page}
            assert (await client.json("POST", "/api/search/metadata", json=body))[0] == status
        assert (await client.json("GET", f"/api/assets/{whole[5]}"))[0] == 500
        assert (await client.body(original(whole[5])))[0] == 200
        assert (await client.json("GET", "/api/timeline/buckets"))[0] == 200


async def test_a_client_that_leaves_does_no_harm(caplog):
    async with connected() as client:
        asset = client.library.upload("huge.mp4", Filler(b"huge", 50_000_000))
        async with client.ask("GET", original(asset.id)) as response:
            await response.content.readexactly(1000)
            response.close()
        assert (await client.json("GET", "/api/server/ping"))[0] == 200
    (left,) = (r for r in client.sandbox.requests if r.original_of == asset.id)
    assert left.sent_bytes < 50_000_000
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
