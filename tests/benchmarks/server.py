"""A server of a library: listings from a process that answers at once, originals from nginx."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.library import asset_id, content
from tests.stores import free_port

_PROJECT = Path(__file__).parents[2]
_CONFIG = """
user root;
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
  keepalive_requests 1000000;
  limit_req_zone $server_port zone=all:1m rate={files_per_s}r/s;
  server {{
    listen 127.0.0.1:{port};
    root {root};
    location /originals/ {{ autoindex on; {limit} }}
    location ~ ^/api/assets/([0-9a-f-]+)/original$ {{ alias {root}/originals/$1.jpg; {limit} }}
    location /api/ {{ proxy_pass http://127.0.0.1:{listing}; proxy_buffers 64 64k; }}
  }}
}}
"""
_MOST_FILES_PER_S = 1_000_000


@dataclass(frozen=True)
class Served:
    """Where a library is served."""

    url: str
    files: int
    size_bytes: int  # of each
    listing_port: int
    processes: tuple[int, ...]

    @property
    def originals(self) -> str:
        """The same files as a plain listing, for tools that know no Immich."""
        return f"{self.url}/originals/"

    def control(self, add: int = 0) -> dict[str, Any]:
        """The requests since the last time, by path; and so many files more from now on."""
        url = f"http://127.0.0.1:{self.listing_port}/control?add={add}"
        with urllib.request.urlopen(url) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def cpu_s(self) -> float:
        """What the server has used so far: user and system time."""
        return sum(map(cpu_s, self.processes))


def write_original(root: Path, number: int, size_bytes: int) -> None:
    """One file where nginx looks for it."""
    with (root / "originals" / f"{asset_id(number)}.jpg").open("wb") as file:
        file.writelines(content(number, size_bytes))


@contextmanager
def served(
    root: Path,
    files: int,
    size_bytes: int,
    *,
    originals: bool = True,
    files_per_s: int = 0,
    page_ms: int = 0,
) -> Iterator[Served]:
    """Serve so many files of one size; their originals are written below `root` first."""
    (root / "originals").mkdir(parents=True, exist_ok=True)
    if originals:
        for number in range(files):
            write_original(root, number, size_bytes)
    with ExitStack() as stack:
        listing, port = free_port(), free_port()
        immich: list[object] = ["--files", files, "--size-bytes", size_bytes, "--port", listing]
        immich += ["--page-ms", page_ms]
        command = [sys.executable, "-m", "tests.benchmarks.immich", *map(str, immich)]
        answering = stack.enter_context(running(command, listing))
        limit = "limit_req zone=all burst=1000;" if files_per_s else ""
        root.chmod(0o755)
        (root / "nginx.conf").write_text(
            _CONFIG.format(
                root=root,
                port=port,
                listing=listing,
                limit=limit,
                files_per_s=files_per_s or _MOST_FILES_PER_S,
            )
        )
        nginx = [_nginx(), "-c", str(root / "nginx.conf"), "-p", str(root)]
        sending = stack.enter_context(running(nginx, port))
        processes = (answering, sending, *_children(sending))
        yield Served(f"http://127.0.0.1:{port}", files, size_bytes, listing, processes)


@contextmanager
def running(command: list[str], port: int, *, told: list[int] | None = None) -> Iterator[int]:
    """A server while it is needed, from when it takes connections; its process id.

    `told` gets the numbers that it prints, in the end.
    """
    process = subprocess.Popen(
        command, cwd=_PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield process.pid
    finally:
        process.terminate()
        out, _ = process.communicate()
        if told is not None:
            told += map(int, out.split())


def _nginx() -> str:
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if found is None:
        raise SystemExit("nginx is missing: apt-get install nginx-light")
    return found


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not start")


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def cpu_s(pid: int) -> float:
    """What a process has used so far: user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
