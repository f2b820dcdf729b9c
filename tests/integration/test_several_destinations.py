"""One mirror, two folders: each original is asked for once."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.sandbox import Sandbox, sample_library
from tests.integration.command import mirror, write_profile


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(sample_library(30)) as serving:
        yield serving


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".mirror" not in path.parts
    }


async def test_two_destinations_share_the_downloads(sandbox: Sandbox, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    second = tmp_path / "second"
    with profile.open("a") as file:
        file.write(f'[[mirrors.all.destinations]]\npath = "{second}"\nmin_free = 0\n')

    ended = await mirror(tmp_path, "sync", "family")

    first = tree(tmp_path / "photos")
    assert ended.code == 0
    assert tree(second) == first
    assert sum(request.original_of is not None for request in sandbox.requests) == len(first)
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert counts == {"downloaded": len(first), "copied": len(first)}


async def test_a_new_destination_takes_its_files_from_the_one_that_has_them(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    profile = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    await mirror(tmp_path, "sync", "family")
    sandbox.requests.clear()
    second = tmp_path / "second"
    with profile.open("a") as file:
        file.write(f'[[mirrors.all.destinations]]\npath = "{second}"\nmin_free = 0\n')

    ended = await mirror(tmp_path, "sync", "family")

    first = tree(tmp_path / "photos")
    assert ended.code == 0
    assert tree(second) == first
    assert not any(request.original_of is not None for request in sandbox.requests)
    counts = {line["destination"]: line["counts"] for line in ended.events("mirror.end")}
    assert counts == {
        str(tmp_path / "photos"): {"unchanged": len(first)},
        str(second): {"copied": len(first)},
    }


async def test_a_copy_that_is_not_what_the_index_says_is_downloaded_instead(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    profile = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    await mirror(tmp_path, "sync", "family")
    photos = tmp_path / "photos"
    path = next(iter(tree(photos)))
    stamp = (photos / path).stat()
    rotten = bytes(len((photos / path).read_bytes()))
    (photos / path).write_bytes(rotten)
    os.utime(photos / path, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    second = tmp_path / "second"
    with profile.open("a") as file:
        file.write(f'[[mirrors.all.destinations]]\npath = "{second}"\nmin_free = 0\n')

    ended = await mirror(tmp_path, "sync", "family")

    assert ended.code == 0
    assert tree(second)[path] != rotten
    told = json.loads((second / ".mirror" / "last-run.json").read_text())
    assert told["counts"]["downloaded"] == 1
