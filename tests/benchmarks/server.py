"""The sandbox for listings and a plain nginx for originals, so that the sandbox is not measured."""

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.sandbox import Library, Sandbox, sample_library
from mirror.sandbox.content import Filler

_CONFIG = """
daemon off;
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  etag on;
  default_type application/octet-stream;
  types {{ image/jpeg jpg; }}
  client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi;
  scgi_temp_path {root}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {root};
    location /originals/ {{ autoindex on; }}
    location ~ ^/api/assets/([0-9a-f-]+)/original$ {{ alias {root}/originals/$1.jpg; }}
    location /api/ {{ proxy_pass {sandbox}; proxy_buffers 64 64k; }}
    location /.well-known/ {{ proxy_pass {sandbox}; }}
  }}
}}
"""


@dataclass(frozen=True)
class Served:
    """Where a library is served."""

    url: str
    key: str
    files: int
    size_bytes: int

    @property
    def originals(self) -> str:
        """The same files as a plain listing, for tools that know no Immich."""
        return f"{self.url}/originals/"


def library(files: int, size_bytes: int) -> Library:
    """So many files of one size, a minute apart."""
    made = sample_library(0)
    began = datetime(2024, 1, 1, tzinfo=UTC)
    for number in range(files):
        content = Filler(f"{size_bytes}/{number}".encode(), size_bytes)
        taken_at = began + timedelta(minutes=number)
        made.upload(f"IMG_{number:05}.jpg", content, taken_at=taken_at)
    return made


@contextmanager
def served(made: Library, root: Path) -> Iterator[Served]:
    """Serve a library; its originals are written below `root` first."""
    originals = root / "originals"
    originals.mkdir(parents=True)
    for asset in made.assets.values():
        with (originals / f"{asset.id}.jpg").open("wb") as file:
            file.writelines(asset.content.read(0, asset.content.size_bytes))
    with _sandbox(made) as sandbox, _nginx(root, sandbox.url) as url:
        sizes = [asset.content.size_bytes for asset in made.assets.values()]
        yield Served(url, sandbox.api_keys["minimum"], len(sizes), sum(sizes))


@contextmanager
def _sandbox(made: Library) -> Iterator[Sandbox]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sandbox = Sandbox(made)
    asyncio.run_coroutine_threadsafe(sandbox.__aenter__(), loop).result()
    try:
        yield sandbox
    finally:
        asyncio.run_coroutine_threadsafe(sandbox.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _nginx(root: Path, sandbox: str) -> Iterator[str]:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if nginx is None:
        raise SystemExit("nginx is missing: apt-get install nginx-light")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root.chmod(0o755)
    config = root / "nginx.conf"
    user = "user root;\n"
    config.write_text(user + _CONFIG.format(root=root, port=port, sandbox=sandbox))
    process = subprocess.Popen([nginx, "-c", config, "-p", root], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.05)
    raise SystemExit("nginx did not start")
