"""A profile of one mirror, and a tree that holds what it wants."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.library import content, path
from tests.benchmarks.measuring import MIRROR, Run, measured
from tests.benchmarks.server import Served

_PROFILE = """server = "{url}"
[accounts.me]
api_key = {{ file = "{home}/key" }}
[mirrors.photos]
[[mirrors.photos.destinations]]
{destination}
min_free = 0
"""


def write_profile(source: Served, home: Path, *, destination: str = "") -> None:
    """A profile that mirrors everything into `home/photos`, or another destination."""
    key = home / "key"
    key.write_text("key\n")
    key.chmod(0o600)
    (home / "photos.toml").write_text(
        _PROFILE.format(
            url=source.url, home=home, destination=destination or f'path = "{home}/photos"'
        )
    )


def mirror(
    command: str,
    source: Served,
    home: Path,
    *,
    server_cpu_s: Callable[[], float] | None = None,
) -> Run:
    """Run a command on that profile, without a word about single files."""
    told = [*MIRROR, command, str(home / "photos.toml"), "-q"]
    return measured(told, home, server_cpu_s=server_cpu_s or source.cpu_s)


def forget(home: Path) -> None:
    """Whatever a run remembers; the files stay."""
    for folder in (home / "photos/.mirror", home / ".local"):
        shutil.rmtree(folder, ignore_errors=True)


def write_tree(photos: Path, files: int, size_bytes: int) -> None:
    """The files of a library under the names that the default layout gives them."""
    folder = ""
    for number in range(files):
        place = path(number)
        if place.rpartition("/")[0] != folder:
            folder = place.rpartition("/")[0]
            (photos / folder).mkdir(parents=True)
        descriptor = os.open(photos / place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for block in content(number, size_bytes):
            os.write(descriptor, block)
        os.close(descriptor)
