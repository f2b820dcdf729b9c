import errno
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import RawTestServer, unused_port
from structlog.testing import capture_logs
from yarl import URL

from mirror.errors import (
    KeyRefusedError,
    MaintenanceError,
    MirrorError,
    NotImmichError,
    PermissionMissingError,
    RequestError,
    ServerUnreachableError,
    TransferError,
    TransientError,
    UnavailableError,
    UnknownServerError,
)
from mirror.immich import refusal
from mirror.immich.client import Client, Timeouts
from mirror.immich.retry import RetryPolicy

KEY = "a-key-that-must-never-be-seen"
ID = "0ebba016-bf63-41fe-bd95-be3dd147cfc2"
ORIGINAL = f"/api/assets/{ID}/original"
BYTES = bytes(range(256)) * 40

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def replying(status: int = 200, **options: object) -> Handler:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        if "json" in options:
            return web.json_response(options["json"], status=status)
        return web.Response(status=status, **options)  # type: ignore[arg-type]  # keywords of it

    return handler


def saying(status: int, message: str) -> Handler:
    return replying(status, json={"message": message})


class Immich:
    """A server whose answers a test may exchange, and the waits of the client that asks it."""

    def __init__(self) -> None:
        self.asked: list[web.BaseRequest] = []
        self.answers: dict[str, list[Handler]] = {
            "/api/server/version": [replying(json={"major": 3, "minor": 1, "patch": 0})],
            "/api/server/config": [replying(json={"maintenanceMode": False})],
        }
        self.url = ""
        self.waits_s: list[float] = []

    def answer(self, path: str, *handlers: Handler) -> None:
        """What is answered one after the other; the last handler stays."""
        self.answers[path] = list(handlers)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)
        handlers = self.answers.get(request.path)
        if handlers is None:
            if request.path.startswith("/api"):
                return await saying(404, f"Cannot GET {request.path}")(request)
            return web.Response(text="<html></html>", content_type="text/html")
        handler = handlers.pop(0) if len(handlers) > 1 else handlers[0]
        return await handler(request)

    def client(self, url: str = "", *, allow_unknown_server: bool = False) -> Client:
        async def sleep(wait_s: float) -> None:
            self.waits_s.append(wait_s)

        return Client(
            url or self.url,
            KEY,
            account="alice",
            allow_unknown_server=allow_unknown_server,
            retry=RetryPolicy(sleep=sleep, random=lambda: 1.0),
            timeouts=Timeouts(connect_s=5, read_s=5),
        )


@pytest.fixture
async def immich() -> AsyncIterator[Immich]:
    answering = Immich()
    server = RawTestServer(answering)
    await server.start_server()
    answering.url = str(server.make_url("/")).rstrip("/")
    yield answering
    await server.close()


async def error_of(immich: Immich, *handlers: Handler, path: str = "/things") -> MirrorError:
    immich.answer(f"/api{path}", *handlers)
    async with immich.client() as client:
        with pytest.raises(MirrorError) as caught:
            await client.get(path)
    return caught.value


# -- finding the server ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/", "/photos", "/photos/123"])
async def test_the_api_is_found_from_what_people_paste(immich: Immich, path: str) -> None:
    async with immich.client(immich.url + path) as client:
        assert await client.connect() == (3, 1, 0)
        assert str(client.version) == "3.1.0"
        assert client.url == f"{immich.url}/api"


async def test_an_api_below_a_path_is_found(immich: Immich) -> None:
    for name in ("version", "config"):
        immich.answer(f"/sub/api/server/{name}", *immich.answers.pop(f"/api/server/{name}"))
    async with immich.client(f"{immich.url}/sub") as client:
        await client.connect()
        assert client.url == f"{immich.url}/sub/api"


async def test_a_web_page_instead_of_the_api_is_no_immich(immich: Immich) -> None:
    immich.answer("/api/server/version", replying(text="<html>", content_type="text/html"))
    async with immich.client() as client:
        with pytest.raises(NotImmichError, match="text/html instead of JSON"):
            await client.connect()


async def test_json_of_something_else_is_no_immich(immich: Immich) -> None:
    immich.answer("/api/server/version", replying(json={"version": "1.0"}))
    async with immich.client() as client:
        with pytest.raises(NotImmichError, match="does not answer as Immich does"):
            await client.connect()


async def test_an_unknown_major_version_is_refused_unless_allowed(immich: Immich) -> None:
    immich.answer("/api/server/version", replying(json={"major": 4, "minor": 0, "patch": 0}))
    async with immich.client() as client:
        with pytest.raises(UnknownServerError, match=r"4\.0\.0"):
            await client.connect()
    async with immich.client(allow_unknown_server=True) as client:
        assert await client.connect() == (4, 0, 0)


async def test_maintenance_is_told_from_a_missing_server(immich: Immich) -> None:
    immich.answer("/api/server/config", replying(json={"maintenanceMode": True}))
    async with immich.client() as client:
        with pytest.raises(MaintenanceError):
            await client.connect()
        with pytest.raises(MaintenanceError):
            await client.get("/things")
        with pytest.raises(MaintenanceError):
            async with client.original(ID):
                pass
        with pytest.raises(MaintenanceError):
            await client.original_head(ID)


async def test_an_unknown_route_without_maintenance_is_no_immich(immich: Immich) -> None:
    async with immich.client() as client:
        with pytest.raises(NotImmichError, match="does not know /api/things"):
            await client.get("/things")


@pytest.mark.parametrize(
    "server", ["photos.example.org", "ftp://photos.example.org", "http://", "https://[::", ""]
)
def test_what_is_no_http_address_is_refused(server: str) -> None:
    with pytest.raises(NotImmichError):
        Client(server, KEY)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(NotImmichError) as caught:
        Client("https://me:secret@photos.example.org", KEY)
    assert "secret" not in str(caught.value)


async def test_nothing_listening_is_unreachable_after_waits_that_outlast_a_restart(
    immich: Immich,
) -> None:
    async with immich.client(f"http://127.0.0.1:{unused_port()}") as client:
        with pytest.raises(ServerUnreachableError, match="no answer from"):
            await client.connect()
    assert sum(immich.waits_s) > 40


async def test_the_shortest_waits_still_outlast_a_restart() -> None:
    waits_s: list[float] = []

    async def sleep(wait_s: float) -> None:
        waits_s.append(wait_s)

    async def fail() -> None:
        raise TransientError(ServerUnreachableError("down"))

    with pytest.raises(ServerUnreachableError):
        await RetryPolicy(sleep=sleep, random=lambda: 0.0).run(fail, method="GET", url="x")
    assert sum(waits_s) > 25


async def test_tls_to_a_plain_port_says_so(immich: Immich) -> None:
    async with immich.client(immich.url.replace("http:", "https:")) as client:
        with pytest.raises(ServerUnreachableError) as caught:
            await client.connect()
    assert "TLS failed" in caught.value.why
    assert len(immich.waits_s) == 2


# -- what is sent ----------------------------------------------------------------------------------


async def test_the_key_goes_in_its_header_and_nothing_else_is_told(immich: Immich) -> None:
    immich.answer("/api/things", replying(json={}, headers={"Set-Cookie": "immich=1"}))
    async with immich.client() as client:
        await client.get("/things", {"a": "b"})
        await client.get("/things")
    for request in immich.asked:
        assert request.headers["x-api-key"] == KEY
        assert KEY not in str(request.url)
        assert not {"Cookie", "Authorization"} & set(request.headers)
        assert "br" not in request.headers["Accept-Encoding"]


async def test_cookies_of_the_server_are_not_kept(immich: Immich) -> None:
    async def with_cookie(_request: web.BaseRequest) -> web.StreamResponse:
        response = web.json_response({})
        response.set_cookie("immich_access_token", "stray")
        return response

    immich.answer("/api/things", with_cookie)
    # aiohttp keeps no cookies of a bare address anyway.
    async with immich.client(immich.url.replace("127.0.0.1", "localhost")) as client:
        await client.get("/things")
        await client.get("/things")
    assert "Cookie" not in immich.asked[-1].headers


async def test_neither_netrc_nor_a_proxy_of_the_environment_is_used(
    immich: Immich, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    immich.answer("/api/things", replying(json={}))
    async with immich.client() as client:
        await client.get("/things")
    assert "Authorization" not in immich.asked[0].headers


async def test_a_search_is_posted_as_json(immich: Immich) -> None:
    bodies = []

    async def search(request: web.BaseRequest) -> web.StreamResponse:
        bodies.append((request.method, await request.json()))
        return web.json_response({"assets": {"items": []}})

    immich.answer("/api/search/metadata", search)
    async with immich.client() as client:
        answer = await client.search({"visibility": "timeline", "personIds": ("a", "b")})
    assert bodies == [("POST", {"visibility": "timeline", "personIds": ["a", "b"]})]
    assert answer.server_date is not None
    assert abs(answer.server_date - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/assets"), ("DELETE", "/assets"), ("PUT", "/albums/1"), ("POST", "/trash/empty")],
)
async def test_nothing_that_could_change_the_server_can_be_sent(
    immich: Immich, method: str, path: str
) -> None:
    async with immich.client() as client:
        with pytest.raises(ValueError, match="could change something"):
            await client._send(method, path)
    assert not immich.asked


async def test_a_compressed_answer_is_read(immich: Immich) -> None:
    packed = gzip.compress(b'{"res":"pong"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    immich.answer("/api/things", replying(body=packed, headers=headers))
    async with immich.client() as client:
        assert (await client.get("/things")).json == {"res": "pong"}


# -- redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "wanted"),
    [
        ("https://photos.example.org/api/server/version", "https://photos.example.org"),
        ("https://example.org/immich/api/server/version", "https://example.org/immich"),
        ("https://login.example.org/?next=secret", "https://login.example.org"),
    ],
)
async def test_a_redirect_is_not_followed_and_says_what_to_write(
    immich: Immich, location: str, wanted: str
) -> None:
    immich.answer("/api/server/version", replying(301, headers={"Location": location}))
    async with immich.client() as client:
        with pytest.raises(NotImmichError, match="redirects") as caught:
            await client.connect()
    assert f'server = "{wanted}"' in caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("location", ["http://[", "mailto:someone"])
async def test_a_redirect_to_nowhere_says_so(immich: Immich, location: str) -> None:
    error = await error_of(immich, replying(302, headers={"Location": location}))
    assert isinstance(error, NotImmichError)
    assert "redirect to nowhere" in error.what


async def test_a_redirect_on_the_same_origin_is_not_followed_either(immich: Immich) -> None:
    immich.answer("/api/search/metadata", replying(302, headers={"Location": "/elsewhere"}))
    async with immich.client() as client:
        with pytest.raises(NotImmichError, match="redirects"):
            await client.search({})
    assert len(immich.asked) == 1


async def test_an_original_is_not_fetched_from_elsewhere(immich: Immich) -> None:
    immich.answer(ORIGINAL, replying(302, headers={"Location": "http://cdn.example.org/x"}))
    async with immich.client() as client:
        with pytest.raises(NotImmichError, match="redirects"):
            async with client.original(ID):
                pass


# -- refusals --------------------------------------------------------------------------------------


async def test_401_is_the_key(immich: Immich) -> None:
    error = await error_of(immich, saying(401, "Invalid API key"))
    assert isinstance(error, KeyRefusedError)
    assert KEY not in str(error)


async def test_401_for_the_locked_folder_is_not_the_key(immich: Immich) -> None:
    error = await error_of(immich, saying(401, "Elevated permission is required"))
    assert isinstance(error, RequestError)
    assert error.status == 401


async def test_403_names_the_permission(immich: Immich) -> None:
    error = await error_of(immich, saying(403, "Missing required permission: user.read"))
    assert isinstance(error, PermissionMissingError)
    assert "user.read" in error.what
    assert "user.read" in error.hint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"message":"Bad","errors":[{"path":["size"],"message":"Too big"}]}',
            "Bad; size: Too big",
        ),
        (b'{"message":["one","two"],"statusCode":400}', "one; two"),
        (b'{"message":"Not found or no asset.read access"}', "Not found or no asset.read access"),
        (b'{"errors":["odd"]}', "odd"),
        (b'{"message":{"no":"text"}}', ""),
        (b"<html>", ""),
        (b"[]", ""),
        (b"\xff", ""),
    ],
)
def test_the_servers_words_are_read_in_every_shape(body: bytes, message: str) -> None:
    assert refusal.message_of(body) == message


async def test_400_keeps_the_servers_words_and_is_not_tried_again(immich: Immich) -> None:
    error = await error_of(immich, saying(400, "Not found or no asset.read access"))
    assert isinstance(error, RequestError)
    assert (error.status, error.why) == (400, "Not found or no asset.read access")
    assert len(immich.asked) == 1


async def test_json_that_cannot_be_read_is_no_immich(immich: Immich) -> None:
    error = await error_of(immich, replying(text="{", content_type="application/json"))
    assert isinstance(error, NotImmichError)


# -- trying again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 522])
async def test_what_may_pass_is_tried_again_and_logged(immich: Immich, status: int) -> None:
    immich.answer("/api/things", replying(status), replying(json={"ok": True}))
    with capture_logs() as logs:
        async with immich.client() as client:
            assert (await client.get("/things")).json == {"ok": True}
    (line,) = logs
    assert (line["event"], line["status"], line["attempt"]) == ("request.retry", status, 1)
    assert line["account"] == "alice"
    assert KEY not in str(logs)


async def test_a_broken_connection_is_tried_again(immich: Immich) -> None:
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    immich.answer("/api/things", cut, replying(json={"ok": True}))
    async with immich.client() as client:
        assert (await client.get("/things")).json == {"ok": True}


async def test_a_500_that_stays_is_given_up_soon_with_its_correlation_id(immich: Immich) -> None:
    headers = {"X-Correlation-ID": "8e0r39ti", "Content-Type": "application/json"}
    error = await error_of(immich, replying(500, body=b'{"message":"oh"}', headers=headers))
    assert isinstance(error, RequestError)
    assert error.status == 500
    assert error.why == "oh (correlation id 8e0r39ti)"
    assert len(immich.asked) == 3


async def test_a_gateway_that_stays_down_is_asked_for_longer(immich: Immich) -> None:
    error = await error_of(immich, replying(502, text="<html>"))
    assert isinstance(error, RequestError)
    assert len(immich.asked) == 10


@pytest.mark.parametrize(
    ("retry_after", "shortest_s", "longest_s"),
    [
        ("7", 7, 7),
        ("soon", 0.5, 0.5),
        ("-5", 0.5, 0.5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.5, 0.5),
    ],
)
async def test_retry_after_is_honoured(
    immich: Immich, retry_after: str, shortest_s: float, longest_s: float
) -> None:
    busy = replying(429, headers={"Retry-After": retry_after})
    immich.answer("/api/things", busy, replying(json={}))
    async with immich.client() as client:
        await client.get("/things")
    assert shortest_s <= immich.waits_s[0] <= longest_s


async def test_a_retry_after_that_is_a_date_is_honoured(immich: Immich) -> None:
    then = datetime.now(UTC) + timedelta(seconds=50)
    busy = replying(429, headers={"Retry-After": format_datetime(then, usegmt=True)})
    immich.answer("/api/things", busy, replying(json={}))
    async with immich.client() as client:
        await client.get("/things")
    assert 1 < immich.waits_s[0] <= 50


async def test_a_retry_after_beyond_all_patience_is_not_waited_for(immich: Immich) -> None:
    error = await error_of(immich, replying(503, headers={"Retry-After": "86400"}))
    assert isinstance(error, RequestError)
    assert immich.waits_s == []


def _key() -> ConnectionKey:
    return ConnectionKey("photos.example.org", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "says", "brief"),
    [
        (
            aiohttp.ClientConnectorDNSError(_key(), socket.gaierror(-2, "Name not known")),
            "photos.example.org is not known",
            True,
        ),
        (
            aiohttp.ClientConnectorCertificateError(
                _key(), ssl.SSLCertVerificationError("self-signed certificate")
            ),
            "the certificate does not verify: ",
            True,
        ),
        (
            aiohttp.ClientConnectorError(_key(), OSError(errno.ECONNREFUSED, "refused")),
            "the connection failed",
            False,
        ),
        (aiohttp.ConnectionTimeoutError(), "took too long", False),
        (aiohttp.ServerDisconnectedError(), "the connection broke", False),
        (aiohttp.ClientPayloadError("cut"), "the connection broke: cut", False),
    ],
)
def test_broken_connections_are_told_apart(
    error: BaseException,
    says: str,
    brief: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    broken = refusal.of_connection(error, URL("https://photos.example.org"))
    assert says in broken.why
    assert broken.brief is brief
    assert broken.outcome.hint


# -- originals -------------------------------------------------------------------------------------


def media(status: int = 200, body: bytes = BYTES, **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replying(status, body=body, headers={"Content-Type": "image/jpeg"} | named)


async def fetch_error(immich: Immich, handler: Handler, *, offset: int = 0) -> MirrorError:
    immich.answer(ORIGINAL, handler)
    async with immich.client() as client:
        with pytest.raises(MirrorError) as caught:
            async with client.original(ID, offset=offset) as original:
                await original.read()
    return caught.value


async def test_an_original_comes_whole(immich: Immich) -> None:
    immich.answer(ORIGINAL, media(ETag='W/"2800-1"'))
    async with immich.client() as client, client.original(ID) as original:
        assert (original.status, original.offset) == (200, 0)
        assert (original.size_bytes, original.etag) == (len(BYTES), 'W/"2800-1"')
        assert original.content_type == "image/jpeg"
        assert await original.read() == BYTES
    assert immich.asked[0].headers["Accept-Encoding"] == "identity"
    assert "Range" not in immich.asked[0].headers


async def test_one_connection_serves_originals_one_after_the_other(immich: Immich) -> None:
    immich.answer(ORIGINAL, media())
    ports = set()
    async with immich.client() as client:
        for _ in range(3):
            async with client.original(ID) as original:
                async for _piece in original.chunks(1000):
                    pass
            transport = immich.asked[-1].transport
            if transport is not None:
                ports.add(transport.get_extra_info("peername")[1])
    assert len(ports) == 1


async def test_an_original_comes_in_pieces(immich: Immich) -> None:
    immich.answer(ORIGINAL, media())
    async with immich.client() as client, client.original(ID) as original:
        pieces = [piece async for piece in original.chunks(1000)]
    assert b"".join(pieces) == BYTES
    assert all(len(piece) >= 1000 for piece in pieces[:-1])


async def test_the_rest_of_a_file_is_asked_for_with_its_tag(immich: Immich) -> None:
    immich.answer(
        ORIGINAL, media(206, BYTES[100:], Content_Range=f"bytes 100-{len(BYTES) - 1}/{len(BYTES)}")
    )
    async with (
        immich.client() as client,
        client.original(ID, offset=100, etag='W/"2800-1"') as original,
    ):
        assert (original.offset, original.size_bytes) == (100, len(BYTES))
        assert await original.read() == BYTES[100:]
    assert immich.asked[0].headers["Range"] == "bytes=100-"
    assert immich.asked[0].headers["If-Range"] == 'W/"2800-1"'


async def test_a_server_that_ignores_the_range_grants_the_start(immich: Immich) -> None:
    immich.answer(ORIGINAL, media())
    async with immich.client() as client, client.original(ID, offset=100) as original:
        assert (original.status, original.offset, original.size_bytes) == (200, 0, len(BYTES))


@pytest.mark.parametrize("content_range", ["bytes 0-9/100", "bytes */100", "100", ""])
async def test_another_part_than_asked_for_is_refused(immich: Immich, content_range: str) -> None:
    error = await fetch_error(immich, media(206, Content_Range=content_range), offset=100)
    assert isinstance(error, TransferError)


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
async def test_a_page_instead_of_a_photo_is_refused(immich: Immich, content_type: str) -> None:
    error = await fetch_error(immich, replying(text="{}", content_type=content_type))
    assert isinstance(error, TransferError)


async def test_a_compressed_original_is_refused(immich: Immich) -> None:
    error = await fetch_error(immich, media(body=gzip.compress(b"x"), Content_Encoding="gzip"))
    assert isinstance(error, TransferError)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (saying(400, "Not found or no asset.download access"), UnavailableError),
        (saying(404, "Not Found"), UnavailableError),
        (media(404, b'{"message":"Not Found"}'), UnavailableError),
        (saying(500, "Internal server error"), UnavailableError),
        (saying(401, "Elevated permission is required"), UnavailableError),
        (saying(401, "Invalid API key"), KeyRefusedError),
        (saying(403, "Missing required permission: asset.download"), PermissionMissingError),
        (saying(404, "Cannot GET /api/assets/x/original"), NotImmichError),
        (replying(429), TransientError),
        (replying(502), TransientError),
        (replying(503, headers={"Retry-After": "3"}), TransientError),
        (replying(504), TransientError),
    ],
)
async def test_a_refused_original_is_the_assets_or_the_accounts(
    immich: Immich, handler: Handler, kind: type[MirrorError]
) -> None:
    error = await fetch_error(immich, handler)
    assert type(error) is kind
    assert immich.waits_s == []


async def test_a_cut_body_is_transient_and_what_came_is_not_lost(immich: Immich) -> None:
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        response.content_length = len(BYTES)
        await response.prepare(request)
        await response.write(BYTES[:3000])
        if request.transport is not None:
            request.transport.close()
        return response

    immich.answer(ORIGINAL, cut)
    came = []

    async def fetch(client: Client) -> None:
        async with client.original(ID) as original:
            async for piece in original.chunks(1 << 20):
                came.append(piece)  # noqa: PERF401 (a comprehension would lose them)

    async with immich.client() as client:
        with pytest.raises(TransientError):
            await fetch(client)
    assert b"".join(came) == BYTES[:3000]
    error = await fetch_error(immich, cut)
    assert isinstance(error, TransientError)


async def test_size_and_tag_can_be_had_without_the_bytes(immich: Immich) -> None:
    immich.answer(ORIGINAL, replying(502), media(ETag='W/"2800-1"'))
    async with immich.client() as client:
        head = await client.original_head(ID)
    assert (head.size_bytes, head.etag) == (len(BYTES), 'W/"2800-1"')
    assert {request.method for request in immich.asked} == {"HEAD"}


async def test_the_head_of_a_lost_original_is_the_assets_affair(immich: Immich) -> None:
    immich.answer(ORIGINAL, saying(404, "Not Found"))
    async with immich.client() as client:
        with pytest.raises(UnavailableError):
            await client.original_head(ID)
