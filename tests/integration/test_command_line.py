"""Bad input gets what, why and what to do, its exit code, and no traceback."""

import asyncio
import os
import re
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from mirror.sandbox import Sandbox, sample_library
from mirror.sandbox.faults import Answered
from tests.integration.command import Ended, mirror, write_profile

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(sample_library(20)) as serving:
        yield serving


def refused(ended: Ended, code: int, *words: str, key: str = "") -> None:
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    assert "internal" not in ended.said
    for word in words:
        assert word in ended.said
    assert not key or key not in ended.said


def photos(home: Path) -> list[Path]:
    return [path for path in home.glob("photos/[!.]*/**/*") if path.is_file()]


async def test_a_first_sync_brings_everything_and_a_second_one_nothing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])

    first = await mirror(tmp_path, "sync", "family")
    second = await mirror(tmp_path, "sync", "family")

    assert (first.code, second.code) == (0, 0)
    assert first.events("run.end")[0]["counts"] == {"downloaded": len(photos(tmp_path))}
    assert second.events("run.end")[0]["counts"] == {"unchanged": len(photos(tmp_path))}
    assert [line["event"] for line in second.lines] == [
        "run.start", "mirror.start", "mirror.end", "run.end",
    ]  # fmt: skip


async def test_a_plan_changes_nothing_and_can_say_so_by_its_exit_code(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])

    planned = await mirror(tmp_path, "plan", "family", "--exit-code")

    assert planned.code == 1
    assert "download (new): " in planned.out
    assert not (tmp_path / "photos").exists()
    assert (await mirror(tmp_path, "plan", "family")).code == 0


async def test_a_list_names_the_paths(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])

    listed = await mirror(tmp_path, "list", "family")
    await mirror(tmp_path, "sync", "family")

    assert len(listed.out.splitlines()) == len(photos(tmp_path))


# -- the account -----------------------------------------------------------------------------------


async def test_a_wrong_key(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, "not-a-key-0123456789")

    ended = await mirror(tmp_path, "sync", "family")

    refused(ended, 3, "key-refused", "make a new key", key="not-a-key-0123456789")


async def test_a_key_that_cannot_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, "key")
    (tmp_path / "key").unlink()

    refused(await mirror(tmp_path, "sync", "family"), 3, "key-refused", str(tmp_path / "key"))


@pytest.mark.parametrize("permission", ["asset.read", "asset.download"])
async def test_a_missing_permission_is_named(
    sandbox: Sandbox, tmp_path: Path, permission: str
) -> None:
    sandbox.key("minimum").permissions.remove(permission)
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])

    ended = await mirror(tmp_path, "sync", "family")

    refused(ended, 3, "permission-missing", permission)
    assert photos(tmp_path) == []


@pytest.mark.parametrize("suffix", ["", "/", "/api", "/api/"])
async def test_the_api_is_found_with_and_without_its_path(
    sandbox: Sandbox, tmp_path: Path, suffix: str
) -> None:
    write_profile(tmp_path, sandbox.url + suffix, sandbox.api_keys["minimum"])

    assert (await mirror(tmp_path, "plan", "family")).code == 0


async def test_the_address_of_the_web_app_will_do(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, f"{sandbox.url}/photos", sandbox.api_keys["minimum"])

    assert (await mirror(tmp_path, "plan", "family")).code == 0


async def test_a_web_page_that_answers(tmp_path: Path) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>hello</html>", content_type="text/html")

    runner = web.AppRunner(web.Application())
    runner.app.router.add_route("*", "/{path:.*}", page)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    write_profile(tmp_path, f"http://127.0.0.1:{port}", "key-key-key")

    ended = await mirror(tmp_path, "sync", "family")
    await runner.cleanup()

    refused(ended, 3, "not-immich")


async def test_a_host_that_does_not_exist(tmp_path: Path) -> None:
    write_profile(tmp_path, "http://photos.invalid", "key-key-key")

    refused(await mirror(tmp_path, "sync", "family"), 3, "server-unreachable", "photos.invalid")


async def test_an_unknown_major_version_is_refused_until_it_is_allowed(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    version = b'{"major":9,"minor":0,"patch":0}'
    headers = {"Content-Type": "application/json"}
    sandbox.faults.add(Answered(200, version, headers), path="/api/server/version")
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])

    refused(await mirror(tmp_path, "plan", "family"), 3, "unknown-server", "9.0.0")
    assert (await mirror(tmp_path, "plan", "family", "--allow-unknown-server")).code == 0


async def test_maintenance(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.maintenance = True
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])

    refused(await mirror(tmp_path, "sync", "family"), 3, "maintenance")


# -- the destination -------------------------------------------------------------------------------


async def test_a_destination_that_is_a_file(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    (tmp_path / "photos").write_text("not a folder")

    refused(await mirror(tmp_path, "sync", "family"), 4, "unwritable", str(tmp_path / "photos"))


async def test_a_destination_whose_disk_is_not_mounted(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    await mirror(tmp_path, "sync", "family")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    (tmp_path / "photos").mkdir()

    ended = await mirror(tmp_path, "sync", "family")

    refused(ended, 4, "not-mounted", "--new-destination")
    assert list((tmp_path / "photos").iterdir()) == []
    assert (await mirror(tmp_path, "sync", "family", "--new-destination")).code == 0


async def test_another_accounts_destination(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    await mirror(tmp_path, "sync", "family")
    (tmp_path / ".config/mirror/profiles/family.toml").rename(
        tmp_path / ".config/mirror/profiles/other.toml"
    )

    refused(await mirror(tmp_path, "sync", "other"), 4, "not-ours", "--rebind")
    assert (await mirror(tmp_path, "sync", "other", "--rebind")).code == 0


# -- the profile -----------------------------------------------------------------------------------


async def test_broken_toml_says_where(tmp_path: Path) -> None:
    path = write_profile(tmp_path, "http://127.0.0.1:1", "key")
    path.write_text('server = "http://x"\n[accounts.me\n')

    refused(await mirror(tmp_path, "sync", "family"), 2, "family.toml:2")


async def test_every_problem_of_a_profile_at_once(tmp_path: Path) -> None:
    write_profile(tmp_path, "ftp://x", "key", text='layuot = "{id}"\nfilter = { peple = ["A"] }')

    ended = await mirror(tmp_path, "profile", "check", "family")

    refused(ended, 2, "layuot", "layout", "peple", "people", "server")


async def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    write_profile(tmp_path, "http://127.0.0.1:1", "key")

    refused(await mirror(tmp_path, "sync", "famly"), 2, "family")


async def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    write_profile(tmp_path, "http://127.0.0.1:1", "key")

    refused(await mirror(tmp_path, "sync", "family", "al"), 2, "all")


async def test_an_unknown_search_field(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(
        tmp_path, sandbox.url, sandbox.api_keys["minimum"],
        text="filter = { search = { isFavourite = true } }",
    )  # fmt: skip

    refused(await mirror(tmp_path, "sync", "family"), 2, "isFavourite", "isFavorite")


async def test_an_unknown_person_lists_the_nearest(sandbox: Sandbox, tmp_path: Path) -> None:
    name = next(person.name for person in sandbox.library.people.values() if person.name)
    write_profile(
        tmp_path, sandbox.url, sandbox.api_keys["all"],
        text=f'filter = {{ people = ["{name}x"] }}',
    )  # fmt: skip

    refused(await mirror(tmp_path, "sync", "family"), 2, "unknown-name", name)


async def test_a_name_that_the_key_may_not_look_up(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(
        tmp_path, sandbox.url, sandbox.api_keys["minimum"], text='filter = { albums = ["Summer"] }'
    )

    refused(await mirror(tmp_path, "sync", "family"), 3, "permission-missing", "album.read")


# -- the command line itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("snyc",), "sync"),
        ((), "COMMAND"),
        (("sync",), "--all"),
        (("sync", "--all"), "there is no profile"),
        (("sync", "family", "--log-format", "yaml"), "yaml"),
        (("sync", "family", "--transfers", "none"), "transfers"),
        (("events",), "--schema"),
    ],
)
async def test_a_mistake_on_the_command_line(
    tmp_path: Path, args: tuple[str, ...], word: str
) -> None:
    refused(await mirror(tmp_path, *args), 2, word)


async def test_a_bad_value_in_the_environment(tmp_path: Path) -> None:
    write_profile(tmp_path, "http://127.0.0.1:1", "key")

    ended = await mirror(tmp_path, "sync", "family", MIRROR_TRANSFERS="many")

    refused(ended, 2, "MIRROR_TRANSFERS")


async def test_every_command_has_a_help_with_an_example(tmp_path: Path) -> None:
    commands = [
        ("sync",), ("plan",), ("copy",), ("list",), ("demo",), ("sandbox",), ("events",),
        ("profile", "show"), ("profile", "check"), ("profile", "schema"), ("profile",), (),
    ]  # fmt: skip
    for command in commands:
        ended = await mirror(tmp_path, *command, "--help")
        assert ended.code == 0
        assert re.search(rf"example:\n  mirror {' '.join(command[:1])}", ended.out), command


async def test_the_version(tmp_path: Path) -> None:
    ended = await mirror(tmp_path, "--version")

    assert re.fullmatch(r"mirror \d+\.\d+\.\d+\n", ended.out)


async def test_a_log_file_gets_the_same_lines(sandbox: Sandbox, tmp_path: Path) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    file = tmp_path / "logs" / "mirror.jsonl"

    ended = await mirror(tmp_path, "sync", "family", "--log-file", file)

    assert file.read_text() == ended.err


@pytest.mark.skipif(not os.environ.get("MIRROR_SLOW"), reason="MIRROR_SLOW=1: waits for a minute")
async def test_a_dead_server(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    write_profile(tmp_path, url, "key-key-key")

    refused(await mirror(tmp_path, "sync", "family"), 3, "server-unreachable", url)


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
async def test_a_run_does_not_need_anybody_to_tell(
    sandbox: Sandbox, tmp_path: Path, redirected: str
) -> None:
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    process = await asyncio.create_subprocess_shell(
        f"exec {sys.executable} -m mirror sync family --log-format json {redirected}",
        stdout=DEVNULL,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)},
    )

    assert await process.wait() == 0
    assert (await mirror(tmp_path, "sync", "family")).events("run.end")[0]["counts"] == {
        "unchanged": len(photos(tmp_path))
    }
