"""The whole program, read-only, against MIRROR_LIVE_URL with MIRROR_LIVE_KEY."""

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest

from mirror.core.layout import fold
from tests.integration.command import Ended, mirror, write_profile

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (os.environ.get("MIRROR_LIVE_URL") and os.environ.get("MIRROR_LIVE_KEY")),
        reason="MIRROR_LIVE_URL and MIRROR_LIVE_KEY name no server",
    ),
]


@pytest.fixture
def server() -> tuple[str, str]:
    return os.environ["MIRROR_LIVE_URL"], os.environ["MIRROR_LIVE_KEY"]


def tree(root: Path) -> dict[str, str]:
    """SHA-1 by path of everything but our own state."""
    return {
        str(path.relative_to(root)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".mirror" not in path.relative_to(root).parts
    }


def failed_ids(ended: Ended) -> set[str]:
    """Assets whose originals the server itself lacks: real libraries have some."""
    lines = ended.events("asset.failed")
    assert {line["error.code"] for line in lines} <= {"unavailable", "checksum-mismatch"}
    return {line["asset_id"] for line in lines}


async def test_a_profile_mirrors_what_it_lists_and_a_second_run_changes_nothing(
    server: tuple[str, str], tmp_path: Path
) -> None:
    write_profile(tmp_path, *server, text='filter = { visibility = ["timeline", "archive"] }')
    photos = tmp_path / "photos"

    listed = await mirror(tmp_path, "list", "family", "--json")
    planned = await mirror(tmp_path, "plan", "family", "--json")
    first = await mirror(tmp_path, "sync", "family")
    before = tree(photos)
    second = await mirror(tmp_path, "sync", "family")

    lost = failed_ids(first)
    assets = {item["id"]: item for item in map(json.loads, listed.out.splitlines())}
    (plan,) = json.loads(planned.out)
    assert (listed.code, planned.code) == (0, 0), listed.said + planned.said
    assert first.code == (1 if lost else 0), first.said
    assert {action["asset_id"] for action in plan["actions"]} == assets.keys()
    assert len(before) == len(assets) - len(lost)
    assert len({fold(path) for path in before}) == len(before)
    contents = set(before.values())
    for asset_id, item in assets.items():
        external = item["library_id"] is not None
        assert asset_id in lost or external or item["checksum"] in contents, item
    assert tree(photos) == before
    assert second.code == first.code
    assert not second.events("asset.downloaded")
    judge = await asyncio.create_subprocess_exec(
        "sha1sum", "--check", "--quiet", ".mirror/SHA1SUMS", cwd=photos
    )
    assert await judge.wait() == 0


async def test_copy_brings_the_timeline_and_adopts_it_without_an_index(
    server: tuple[str, str], tmp_path: Path
) -> None:
    url, key = server
    photos = tmp_path / "photos"
    options = ("copy", "--immich_api_url", url, "--save_to", photos)

    first = await mirror(tmp_path, *options, IMMICH_API_KEY=key)
    before = tree(photos)
    for state in (photos / ".mirror").glob("index*"):
        state.unlink()
    again = await mirror(tmp_path, *options, IMMICH_API_KEY=key)

    lost = failed_ids(first)
    assert first.code == (1 if lost else 0), first.said
    assert tree(photos) == before
    assert not again.events("asset.downloaded")


async def test_a_key_is_never_shown(server: tuple[str, str], tmp_path: Path) -> None:
    url, key = server
    write_profile(tmp_path, url, key)

    for command in (("sync", "family", "-vv"), ("profile", "show", "family"), ("plan", "family")):
        ended = await mirror(tmp_path, *command)
        assert key not in ended.said
