"""First runs: everything comes, from nginx, and tools that do the same."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.library import asset_id
from tests.benchmarks.measuring import (
    MIRROR,
    Bench,
    Row,
    Run,
    Side,
    in_turn,
    into_empty,
    measured,
    peak_row,
    row,
)
from tests.benchmarks.server import Served, running, served
from tests.stores import free_port

_RCLONE = "rclone copy --config '' --transfers 8 --checkers 8 --http-url {url} :http: {target}"
_SHA1SUM = "find {target} -type f -print0 | xargs -0 sha1sum > {target}.sums"


def small_files(bench: Bench) -> Iterator[Row]:
    """Many small files, from memory to memory."""
    files, size_bytes = bench.files(5000), 100_000
    with bench.folder() as root, served(root, files, size_bytes) as source:
        sides = {
            "ours": _ours(source, root),
            "checked": _shell(source, root, f"{_RCLONE} && {_SHA1SUM}"),
            "alone": _shell(source, root, _RCLONE),
        }
        runs = in_turn(sides, bench.repeats)
    what = f"{files} files of 100 kB"
    yield row(f"{what} / rclone copy, then sha1sum", runs["ours"], runs["checked"], 0.95)
    yield row(f"CPU, {what} / rclone copy alone", runs["ours"], runs["alone"], 1.2, of="cpu_s")


def slow_server(bench: Bench) -> Iterator[Row]:
    """The same from a server that gives 900 files a second, as a real Immich does."""
    files, size_bytes = bench.files(5000), 100_000
    with bench.folder() as root, served(root, files, size_bytes, files_per_s=900) as source:
        sides = {"ours": _ours(source, root), "curl": _curl(source, root)}
        runs = in_turn(sides, bench.repeats)
    what = f"{files} files of 100 kB at 900 files/s / curl --parallel, unverified"
    yield row(what, runs["ours"], runs["curl"], 1.05)


def durable(bench: Bench) -> Iterator[Row]:
    """The same to a real disk, and there when the power fails."""
    files, size_bytes = bench.files(5000), 100_000
    with (
        bench.folder() as root,
        bench.folder(on_disk=True) as disk,
        served(root, files, size_bytes) as source,
    ):
        sides = {
            "ours": _ours(source, disk),
            "rclone": _shell(source, disk, f"{_RCLONE} && sync -f {{target}}"),
        }
        runs = in_turn({name: _synced(disk, side) for name, side in sides.items()}, bench.repeats)
    what = f"{files} files of 100 kB to a disk / rclone copy, then sync -f"
    yield row(what, runs["ours"], runs["rclone"], 1.1)


def large_files(bench: Bench) -> Iterator[Row]:
    """A few large files, and the memory that takes."""
    size_bytes = 50_000_000 if bench.quick else 500_000_000
    with bench.folder() as root, served(root, 4, size_bytes) as source:
        sides = {
            "ours": _ours(source, root),
            "rclone": _shell(source, root, f"{_RCLONE} && {_SHA1SUM}"),
        }
        runs = in_turn(sides, bench.repeats)
    what = f"4 files of {size_bytes // 1_000_000} MB"
    yield row(f"{what} / rclone copy, then sha1sum", runs["ours"], runs["rclone"], 0.9)
    yield peak_row(f"memory, {what}", runs["ours"], 120)


def home_server(bench: Bench) -> Iterator[Row]:
    """A line of 20 Mbit/s with 50 ms of latency."""
    files, size_bytes, bytes_per_s = bench.files(200), 250_000, 2_500_000
    with bench.folder() as root, served(root, files, size_bytes) as source:
        runs, most = [], 0
        for _ in range(1 if bench.quick else min(2, bench.repeats)):
            with _line(source, 0.05, bytes_per_s) as (slow, connections):
                runs.append(_ours(slow, root)())
            most = max(most, connections[0])
    line_s = files * size_bytes / bytes_per_s
    found = row(
        f"{files} files of 250 kB over 20 Mbit/s, 50 ms / the line's own time",
        runs,
        [Run(line_s, 0, 0)],
        1.1,
    )
    ours = f"{found.ours}, {most} connections at most"
    yield replace(found, ours=ours, peer=f"{line_s:.2f} s")


# -- sides -----------------------------------------------------------------------------------------


def _ours(source: Served, root: Path) -> Side:
    def fill(target: Path) -> Run:
        command = [
            *MIRROR, "copy", "--immich_api_url", source.url, "--immich_api_key", "key",
            "--save_to", str(target), "--threads", "8", "--min-free", "0", "-q",
        ]  # fmt: skip
        return measured(command, root, server_cpu_s=source.cpu_s)

    return into_empty(root, source.files, fill)


def _shell(source: Served, root: Path, script: str) -> Side:
    def fill(target: Path) -> Run:
        text = script.format(url=source.originals, target=target)
        return measured(["sh", "-ec", text], root, server_cpu_s=source.cpu_s)

    return into_empty(root, source.files, fill)


def _curl(source: Served, root: Path) -> Side:
    def fill(target: Path) -> Run:
        lines = (
            f'url = "{source.originals}{asset_id(number)}.jpg"\noutput = "{target}/{number}.jpg"'
            for number in range(source.files)
        )
        config = root / "curl.config"
        config.write_text("\n".join(lines))
        command = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", "8", "--config"]
        return measured([*command, str(config)], root, server_cpu_s=source.cpu_s)

    return into_empty(root, source.files, fill)


def _synced(disk: Path, side: Side) -> Side:
    """Nobody pays for what the one before has left unwritten."""

    def run() -> Run:
        subprocess.run(["sync", "-f", disk], check=True)
        return side()

    return run


@contextmanager
def _line(
    source: Served, latency_s: float, bytes_per_s: float
) -> Iterator[tuple[Served, list[int]]]:
    """The source behind a line; afterwards the list holds the most connections at once."""
    port = free_port()
    behind = source.url.rsplit(":", 1)[1]
    command = [
        sys.executable, "-m", "tests.benchmarks.proxy", "--port", str(port), "--to", behind,
        "--latency-s", str(latency_s), "--bytes-per-s", str(bytes_per_s),
    ]  # fmt: skip
    most: list[int] = []
    with running(command, port, told=most):
        yield replace(source, url=f"http://127.0.0.1:{port}"), most
