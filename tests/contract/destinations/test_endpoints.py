"""What answers at the address of a store, and is none; or nothing does."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest

from mirror.core.model import Destination
from mirror.core.secret import LiteralSecret
from mirror.destinations import store as store_module
from mirror.destinations.bucket_site import BucketSite
from mirror.destinations.identity import read_marker
from mirror.errors import NotOursError, UnwritableError
from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, free_port, served

HTML = b"<!doctype html><html><body>Welcome</body></html>"


@contextmanager
def answering(body: bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A web server that has something for whatever it is asked for, and its port."""

    class Anything(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Fri, 01 Jan 2021 00:00:00 GMT")
            self.send_header("ETag", '"one"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer  # noqa: N815 (the names that are looked for)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Anything) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before a store is asked again; what lies beside one goes with the test."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    once = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
    monkeypatch.setattr(store_module, "_RETRIES", once)


def site(endpoint: str, url: str) -> BucketSite:
    return BucketSite(
        Destination(
            path=url,
            endpoint=endpoint,
            region="us-east-1",
            access_key=LiteralSecret(ACCESS_KEY),
            secret_key=LiteralSecret(SECRET_KEY),
        )
    )


@pytest.mark.parametrize("body", [HTML, b"{}", b"null", b""], ids=["html", "json", "null", "empty"])
@pytest.mark.parametrize("url", ["s3://photos", "s3://photos/alice"])
def test_a_web_server_that_has_everything_is_no_store(body: bytes, url: str):
    with answering(body) as port:
        place = site(f"http://127.0.0.1:{port}", url)

        def used() -> None:
            place.check(require_mount=False)
            with place.open() as bucket:
                read_marker(bucket)

        with pytest.raises(UnwritableError) as refused:
            used()
    assert refused.value.why == f"http://127.0.0.1:{port} does not answer as an S3 store"
    assert "endpoint" in refused.value.hint


def test_a_damaged_marker_above_is_a_destination_all_the_same(tmp_path: Path):
    with served(tmp_path) as store:
        obstore.put(store.store(), ".mirror/mirror.json", b"")
        with pytest.raises(NotOursError, match="lies inside another destination"):
            site(store.endpoint, f"s3://{BUCKET}/alice").check(require_mount=False)


def test_where_nobody_answers_the_endpoint_is_named():
    endpoint = f"http://127.0.0.1:{free_port()}"
    assert unreached(endpoint) == f"no connection to {endpoint}: Connection refused"
    assert unreached("http://store.invalid") == (
        "no connection to http://store.invalid: there is no such host"
    )


def test_a_store_whose_certificate_nobody_vouches_for_is_said_to_be(tmp_path: Path):
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with answering(b"", tls=tls) as port:
        why = unreached(f"https://127.0.0.1:{port}")
    assert why == f"no connection to https://127.0.0.1:{port}: its certificate is not trusted"


def test_a_store_that_speaks_no_tls_is_said_to_speak_none():
    with answering(b"") as port:
        why = unreached(f"https://127.0.0.1:{port}")
    assert why == f"no connection to https://127.0.0.1:{port}: it does not speak TLS"


def unreached(endpoint: str) -> str:
    """Why a store is not to be had."""
    with pytest.raises(UnwritableError) as refused:
        site(endpoint, "s3://photos/alice").check(require_mount=False)
    assert "check the endpoint" in refused.value.hint
    return refused.value.why
