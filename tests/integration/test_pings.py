"""A dead man's switch hears of every run, and a switch that is dead itself stops none."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mirror import pings
from mirror.errors import ExitCode
from mirror.pings import PingError, ping_end, ping_start
from mirror.sandbox.faults import Stalled
from tests.integration.command import mirror
from tests.integration.household import Household, household
from tests.integration.mirroring import until

UUID = "0f3a5e0c-1234-4cde-8000-5ecde7b1a2c3"


@dataclass
class Switch:
    """A server that listens to pings."""

    url: str = ""
    heard: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, body
    answers: list[int] = field(default_factory=list)  # statuses of the first pings; then 200

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.heard.append((request.method, request.path_qs.removeprefix(f"/{UUID}"), body))
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.heard]


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    switch = Switch()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", switch.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    switch.url = f"http://127.0.0.1:{port}/{UUID}"
    yield switch
    await runner.cleanup()


@pytest.fixture
async def family(tmp_path: Path, switch: Switch) -> AsyncIterator[Household]:
    async with household(tmp_path) as home:
        home.add_key(f'ping = "{switch.url}"')
        yield home


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pings, "WAITS_S", (0.0,))


def warnings(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == "notice.failed"]


async def test_a_run_that_succeeds_says_when_it_began_and_that_it_did(
    family: Household, switch: Switch
):
    assert await family.codes() == [0]
    assert switch.heard == [("GET", "/start", ""), ("GET", "", "")]


async def test_a_run_that_fails_says_with_which_code_and_why(family: Household, switch: Switch):
    family.use_key("revoked-0123456789")
    assert await family.codes() == [3]
    assert switch.paths == ["/start", "/3"]
    method, _, words = switch.heard[-1]
    assert method == "POST"
    assert "all -> " in words
    assert "key-refused: the server refuses the API key" in words
    assert "hint: make a new key" in words
    assert "revoked-0123456789" not in words
    assert UUID not in words


async def test_what_is_held_is_a_failure_with_its_way_through(family: Household, switch: Switch):
    await family.sync()
    family.library.delete(*[asset.id for asset in family.library.own()])
    assert await family.codes() == [5]
    assert switch.paths == ["/start", "", "/start", "/5"]
    assert "way through: " in switch.heard[-1][2]


async def test_an_interrupted_run_says_so(family: Household, switch: Switch):
    family.sandbox.faults.add(Stalled(), path="*/original")
    task = asyncio.create_task(family.sync())
    await until(lambda: switch.paths == ["/start"])
    await until(lambda: any(r.original_of for r in family.sandbox.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert switch.paths == ["/start", "/130"]
    assert "interrupted" in switch.heard[-1][2]


async def test_a_dry_run_and_a_part_of_the_profile_say_nothing(family: Household, switch: Switch):
    await family.sync(dry=True)
    family.add_mirror("second")
    await family.sync("second")
    assert switch.heard == []


async def test_a_ping_is_tried_again(family: Household, switch: Switch, log: list[dict[str, Any]]):
    switch.answers = [500, 503, 200, 429]
    assert await family.codes() == [0]
    assert switch.paths == ["/start", "/start", "/start", "", ""]
    assert warnings(log) == []


@pytest.mark.parametrize(
    ("answers", "heard"),
    [([503] * 6, 6), ([404] * 6, 2), ([302] * 6, 2)],
    ids=["down", "unknown", "moved"],
)
async def test_a_ping_that_is_not_taken_is_a_warning(
    family: Household, switch: Switch, log: list[dict[str, Any]], answers: list[int], heard: int
):
    switch.answers = list(answers)
    assert await family.codes() == [0]
    assert len(switch.heard) == heard
    assert "/elsewhere" not in switch.paths
    begun, ended = warnings(log)
    assert begun["action"] == ended["action"] == "ping"
    assert str(answers[0]) in begun["reason"]
    assert UUID not in json.dumps(log)


async def test_a_switch_that_is_dead_fails_no_run(
    family: Household, switch: Switch, log: list[dict[str, Any]]
):
    file = family.file
    file.write_text(file.read_text().replace(switch.url, f"http://127.0.0.1:1/{UUID}"))
    assert await family.codes() == [0]
    assert all("no connection" in line["reason"] for line in warnings(log))
    assert len(warnings(log)) == 2
    assert UUID not in json.dumps(log)


async def test_a_switch_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pings, "LIMIT_S", 0.01)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes connections, and says nothing
        pytest.raises(PingError, match="not taken") as refused,
    ):
        await ping_start(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "no answer within" in refused.value.why


async def test_the_address_may_come_from_a_file(family: Household, switch: Switch):
    (family.home / "ping").write_text(switch.url + "\n")
    text = family.file.read_text()
    source = f'{{ file = "{family.home}/ping" }}'
    family.file.write_text(text.replace(f'"{switch.url}"', source))
    assert await family.codes() == [0]
    assert switch.paths == ["/start", ""]


@pytest.mark.parametrize("content", [None, "", "not a url", "ftp://example.org/x"])
async def test_an_address_that_cannot_be_read_is_a_warning(
    family: Household, switch: Switch, log: list[dict[str, Any]], content: str | None
):
    if content is not None:
        (family.home / "ping").write_text(content)
    text = family.file.read_text()
    source = f'{{ file = "{family.home}/ping" }}'
    family.file.write_text(text.replace(f'"{switch.url}"', source))
    assert await family.codes() == [0]
    (warning,) = warnings(log)
    assert "the address of the ping cannot be read" in warning["reason"]
    assert "API key" not in warning["reason"]
    assert not content or content not in json.dumps(warning)


async def test_a_query_of_the_address_is_kept(switch: Switch):
    await ping_start(f"{switch.url}?create=1")
    await ping_end(f"{switch.url}/?create=1", ExitCode.HELD, "why")
    assert switch.paths == ["/start?create=1", "/5?create=1"]


async def test_stopping_at_a_limit_is_no_failure(switch: Switch):
    await ping_end(switch.url, ExitCode.LIMIT, "")
    assert switch.heard == [("GET", "", "")]


async def test_of_too_many_words_the_last_ones_are_sent(switch: Switch):
    await ping_end(switch.url, ExitCode.PARTIAL, "ü" * 20_000 + "the end")
    body = switch.heard[0][2]
    assert body.endswith("üthe end")
    assert len(body.encode()) <= pings.MOST_BODY_BYTES


async def test_the_command_sends_the_tail_of_its_log_and_never_its_secrets(
    family: Household, switch: Switch
):
    family.use_key("revoked-0123456789")
    ended = await mirror(family.home, "sync", "family", "-vv")
    assert ended.code == 3
    words = switch.heard[-1][2]
    assert "run.start" in words
    assert "error all " in words.replace(str(family.root), "")
    assert "run.end exit code 3" in words
    shown = await mirror(family.home, "profile", "show", "family")
    assert 'ping = "https://********"' in shown.out
    for secret in (UUID, "revoked-0123456789"):
        assert secret not in ended.said + words + shown.said
    assert all(line["v"] for line in ended.lines)
