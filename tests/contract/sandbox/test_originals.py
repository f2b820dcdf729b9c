import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.sandbox import sample_library
from mirror.sandbox.content import BLOCK_BYTES, Filler
from mirror.sandbox.dialect import parse
from mirror.sandbox.originals import serve
from mirror.sandbox.refusals import Refusal
from tests.contract.sandbox.client import connected, original

BIG = 3 * BLOCK_BYTES + 5


async def test_every_checksum_is_that_of_the_bytes_served():
    async with connected() as client:
        for asset in client.library.own():
            status, body = await client.body(original(asset.id))
            assert (status, hashlib.sha1(body).digest()) == (200, asset.checksum)


async def test_a_big_original_arrives_whole_and_in_parts():
    async with connected() as client:
        asset = client.library.upload("big.mp4", Filler(b"big", BIG))
        _, whole = await client.body(original(asset.id))
        assert hashlib.sha1(whole).digest() == asset.checksum
        for start in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BIG - 1):
            headers = {"Range": f"bytes={start}-"}
            status, rest = await client.body(original(asset.id), headers=headers)
            assert (status, rest) == (206, whole[start:])


@given(
    first=st.none() | st.integers(0, 600),
    last=st.none() | st.integers(0, 600),
)
def test_a_range_is_that_part_of_the_file_or_refused(first, last):
    asset = next(sample_library(1).own())
    data = b"".join(asset.content.read(0, asset.content.size_bytes))
    text = f"{'' if first is None else first}-{'' if last is None else last}"
    headers = {"Range": f"bytes={text}"}
    if first is None and last is None:
        wanted = data
    elif first is None:
        wanted = data[-last:] if last else b""
    else:
        wanted = data[first : len(data) if last is None else last + 1]
    if not wanted:
        with pytest.raises(Refusal, match="Not Found"):
            serve(asset, parse("3.1.0"), headers, edited=False, lost=False)
        return
    reply = serve(asset, parse("3.1.0"), headers, edited=False, lost=False)
    assert b"".join(reply.blocks()) == wanted


async def test_a_resumed_download_needs_the_whole_tag():
    async with connected() as client:
        asset = next(client.library.own())
        async with client.ask("GET", original(asset.id)) as response:
            etag = response.headers["ETag"]
        for tag, expected in ((etag, 206), (etag.removeprefix("W/"), 200), ('W/"0-0"', 200)):
            headers = {"Range": "bytes=1-", "If-Range": tag}
            status, _ = await client.body(original(asset.id), headers=headers)
            assert status == expected


async def test_other_bytes_of_equal_size_and_date_have_the_same_tag():
    async with connected() as client:
        asset = next(client.library.own())
        async with client.ask("HEAD", original(asset.id)) as response:
            before = response.headers["ETag"]
        other = bytes(asset.content.size_bytes)
        client.library.replace(asset.id, other, file_modified_at=asset.file_modified_at)
        async with client.ask("GET", original(asset.id)) as response:
            assert (response.headers["ETag"], await response.read()) == (before, other)


@pytest.mark.parametrize(("version", "gone", "missing"), [("3.1.0", 404, 404), ("2.7.5", 400, 500)])
async def test_a_missing_asset_and_a_missing_file_are_told_apart_only_by_2(version, gone, missing):
    async with connected(sample_library(version=version)) as client:
        first, second, *_ = client.library.own()
        client.library.delete(first.id)
        client.library.set_offline(second.id)
        assert (await client.json("GET", original(first.id)))[0] == gone
        async with client.ask("GET", original(second.id)) as response:
            assert response.status == missing
        status, answer = await client.json("GET", f"/api/assets/{second.id}")
        assert (status, answer["isOffline"], answer["isTrashed"]) == (200, True, True)


async def test_head_says_what_get_would_send_and_sends_nothing():
    async with connected() as client:
        asset = client.library.upload("big.mov", Filler(b"x", BIG))
        async with client.ask("HEAD", original(asset.id)) as response:
            assert response.headers["Content-Length"] == str(BIG)
            assert await response.read() == b""
        await asyncio.sleep(0)  # let the server finish its line of the log
        assert client.sandbox.requests[-1].sent_bytes == 0
        assert client.sandbox.originals_sent(asset.id) == 0
