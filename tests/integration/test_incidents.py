"""What befell others and has no better place; the table of incidents is in tests/README.md."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from mirror.core.model import OnGone
from mirror.errors import ServerUnreachableError
from mirror.immich.client import Client, RetryPolicy
from mirror.sandbox import Sandbox
from tests.integration.mirroring import (
    NOON,
    content,
    counts,
    empty,
    files,
    make_external,
    mirrored,
    no_wait,
    photos,
    sha1_of,
    tree,
)

DELETE = {"min_free_bytes": 0, "on_removed": OnGone.DELETE, "on_unmatched": OnGone.DELETE}


async def test_a_trashed_duplicate_leaves_the_other_one_alone(tmp_path: Path):
    library = empty()
    mine = library.upload("IMG_0001.jpg", content("same"), taken_at=NOON)
    twin = library.upload("IMG_0001.jpg", content("twin"), taken_at=NOON)
    twin.content = mine.content
    make_external(twin)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        assert len(files(me.root)) == 2
        library.trash(mine.id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1}
        assert list(files(me.root).values()) == [sha1_of(content("same"))]
        await me.assert_settled()


async def test_a_hundred_photos_of_one_name_and_day_all_arrive_and_stay(tmp_path: Path):
    library = empty()
    for number in range(100):
        library.upload("IMG_0001.jpg", content(number), taken_at=NOON)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        before = files(me.root)
        assert set(before.values()) == {sha1_of(content(number)) for number in range(100)}
        library.upload("img_0001.JPG", content("later"), taken_at=NOON)
        await me.synced()
        assert files(me.root).items() > before.items()
        await me.assert_settled()


async def test_what_changes_only_in_the_database_touches_no_file(tmp_path: Path):
    library = photos(3)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        before = tree(me.root)
        for asset in library.assets.values():
            library.describe(asset.id, description="the sea", rating=5)
            library.favorite(asset.id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 3}
        assert me.originals() == dict.fromkeys(library.assets, 1)
        assert tree(me.root) == before


async def test_the_client_cannot_send_what_could_change_something():
    async with Sandbox(photos(1)) as sandbox, Client(sandbox.url, "key") as client:
        for method, path in (
            ("DELETE", "/assets"),
            ("PUT", "/assets"),
            ("POST", "/assets"),
            ("POST", "/trash/empty"),
        ):
            with pytest.raises(ValueError, match="could change something"):
                await client._send(method, path)
        assert sandbox.requests == []


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    named = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*command, *named], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl (Debian: openssl)")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(own_certificate: ssl.SSLContext):
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own_certificate)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        Client(f"https://localhost:{port}", "key", retry=RetryPolicy(sleep=no_wait)) as client,
    ):
        with pytest.raises(ServerUnreachableError) as caught:
            await client.connect()
    assert "certificate" in str(caught.value)
