"""What a start costs, against that of the heavy packages alone."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measuring import MIRROR, Bench, Row, Run, in_turn, measured, row

_HEAVY = [sys.executable, "-c", "import aiohttp, pydantic_settings, structlog"]
_PROFILE = """server = "https://photos.example.org"
[accounts.me]
api_key = {{ env = "KEY" }}
[mirrors.photos]
[[mirrors.photos.destinations]]
path = "{path}"
"""


def start(bench: Bench) -> Iterator[Row]:
    """CPU of commands that ask no server."""
    with bench.folder() as home:
        photos = home / "photos"
        photos.mkdir()
        profile = home / "photos.toml"
        profile.write_text(_PROFILE.format(path=photos))
        commands = {
            "heavy": _HEAVY,
            "--version": [*MIRROR, "--version"],
            "status": [*MIRROR, "status", str(profile)],
        }

        def side(command: list[str], home: Path = home) -> Run:
            return measured(command, home)

        sides = {name: lambda command=command: side(command) for name, command in commands.items()}
        in_turn(sides, 1)  # what Python keeps of the sources
        runs = in_turn(sides, max(9, bench.repeats))
    for name, goal in (("--version", 0.3), ("status", 0.6)):
        what = f"CPU, mirror {name} / import aiohttp, pydantic_settings, structlog"
        yield row(what, runs[name], runs["heavy"], goal, of="cpu_s")
