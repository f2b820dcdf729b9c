"""One mirror, several destinations: each original is asked for once."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.sandbox import Sandbox, sample_library
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import photos
from tests.servers import again
from tests.servers import served as openssh
from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, served


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


async def test_a_folder_a_bucket_and_a_server_are_fed_by_one_download(tmp_path: Path) -> None:
    library = photos(80)
    with served(tmp_path / "store") as store, openssh("openssh", tmp_path / "server") as server:
        async with Sandbox(library) as sandbox:
            profile = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
            with profile.open("a") as file:
                file.write(store.destination() + server.destination())
            keys = {"PLANTED_ACCESS_KEY": ACCESS_KEY, "PLANTED_SECRET_KEY": SECRET_KEY}

            running = asyncio.create_task(mirror(tmp_path, "sync", "family", **keys))
            while len(list((server.folder / "photos").rglob("*.jpg"))) < 30:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            server.kill()
            ended = await running

            assert ended.code == 4, ended.said
            assert "Traceback" not in ended.said
            assert "the server was lost, and is not back" in ended.said
            codes = {line["destination"]: line["exit_code"] for line in ended.events("mirror.end")}
            assert sorted(codes.values()) == [0, 0, 4]
            assert codes[server.url()] == 4
            first = tree(tmp_path / "photos")
            assert len(first) == 80
            assert 0 < len(tree(server.folder / "photos")) < 80

            with again(server):
                ended = await mirror(tmp_path, "sync", "family", **keys)
                assert ended.code == 0, ended.said
                asked = Counter(
                    request.original_of
                    for request in sandbox.requests
                    if request.original_of is not None
                )
                assert set(asked.values()) == {1}
                assert len(asked) == 80
                for remote in (f"store:{BUCKET}/photos", f"{server.remote()}photos"):
                    checked = store.rclone(
                        *("check", "--download", "--exclude", "/.mirror/**"),
                        *(str(tmp_path / "photos"), remote),
                    )
                    assert checked.returncode == 0, checked.stderr
                    assert "0 differences found" in checked.stderr
                    assert "80 matching files" in checked.stderr
