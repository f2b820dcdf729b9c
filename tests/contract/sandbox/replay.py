"""Asks the sandbox what a real server was asked, and lists where the two answers differ."""

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiohttp

from mirror.sandbox import Library, Sandbox, load_library

RECORDINGS = Path(__file__).parents[1] / "recordings"
VERSIONS = ("3.1.0", "2.7.5")

# Sent anew with every answer, or said by the recorder's connection.
_VOLATILE_HEADERS = {"date", "connection", "keep-alive", "x-correlation-id", "x-immich-cid"}
# The server's own extras that no recording kept.
_ADDED_HEADERS = _VOLATILE_HEADERS | {"server"}


@dataclass(frozen=True)
class Difference:
    """Where, what was recorded, and what the sandbox says."""

    place: str
    recorded: object
    sandbox: object


@dataclass(frozen=True)
class Answer:
    """What came back; `json` is None when the body is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


@lru_cache
def exchanges(version: str) -> dict[str, dict[str, Any]]:
    """Every recorded exchange by its name."""
    lines = (RECORDINGS / version / "exchanges.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return {each["name"]: each for each in found}


@lru_cache
def library(version: str) -> Library:
    """The recorded library, with what only the answers about albums tell."""
    loaded = load_library(RECORDINGS / version / "library.json")
    ids = {user.email.partition("@")[0]: user.id for user in loaded.users.values()}
    for album in loaded.albums.values():
        if album.name.startswith("Shared"):
            album.members = {ids["bob"]: "editor", ids["carol"]: "viewer"}
        if album.name.startswith("Carol"):
            album.members = {ids["alice"]: "viewer"}
        if album.name == "Summer 2019":
            album.has_shared_link, album.description = True, "own album"
    return loaded


@lru_cache
def replayed(version: str) -> dict[str, list[Difference]]:
    """The differences of every exchange."""
    return asyncio.run(_replay(version))


async def _replay(version: str) -> dict[str, list[Difference]]:
    held = library(version)
    async with Sandbox(held) as sandbox, aiohttp.ClientSession() as session:
        return {
            name: list(_differences(each, await _ask(sandbox, session, each["request"]), held))
            for name, each in exchanges(version).items()
        }


async def _ask(sandbox: Sandbox, session: aiohttp.ClientSession, request: dict[str, Any]) -> Answer:
    headers = {"Accept-Encoding": "identity"} | (request["headers"] or {})  # as the recorder
    if request["key"] is not None:
        headers["x-api-key"] = sandbox.api_keys.get(request["key"], "no key of this server")
    content: dict[str, Any] = {}
    if request["body"] is not None:
        content = {"json": request["body"]}
    elif request["method"] == "POST":  # the one that was no JSON
        headers["Content-Type"] = "application/json"
        content = {"data": b"{nope"}
    async with session.request(
        request["method"],
        sandbox.url + request["path"],
        params=request["query"] or None,
        headers=headers,
        allow_redirects=False,
        auto_decompress=False,
        **content,
    ) as response:
        body = await response.read()
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        return Answer(response.status, response.headers, body, parsed)


# -- comparing -------------------------------------------------------------------------------------


def _differences(exchange: dict[str, Any], answer: Answer, held: Library) -> Iterator[Difference]:
    recorded = exchange["response"]
    if recorded["status"] != answer.status:
        yield Difference("status", recorded["status"], answer.status)
    same_json = "json" in recorded and _text(recorded["json"]) == answer.body
    same_json &= (
        b'"/data/' not in answer.body
    )  # longer on the server: the recorder renamed its root
    yield from _header_differences(recorded, answer, exact=same_json)
    if "json" in recorded:
        yield from _json_differences("", recorded["json"], answer.json, _Rules(held))
    elif recorded["body"]["size"] != len(answer.body):
        yield Difference("body.size", recorded["body"]["size"], len(answer.body))


def _text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _header_differences(
    recorded: dict[str, Any], answer: Answer, *, exact: bool
) -> Iterator[Difference]:
    """Every header; length and ETag of JSON only where the JSON itself is the same, to the byte."""
    theirs = {name.lower(): value for name, value in recorded["headers"].items()}
    ours = {name.lower(): value for name, value in answer.headers.items()}
    by_body = {"content-length", "etag"} if "json" in recorded and not exact else set()
    if theirs.get("accept-ranges"):  # then the ETag is the file's, not the body's
        by_body -= {"etag"}
    for name in sorted((theirs.keys() - _VOLATILE_HEADERS) | (ours.keys() - _ADDED_HEADERS)):
        if name in by_body and (name in theirs) == (name in ours):
            continue
        if theirs.get(name) != ours.get(name):
            yield Difference(f"header {name}", theirs.get(name), ours.get(name))


@dataclass(frozen=True)
class _Rules:
    """What the recorded library cannot say, and what a real server leaves open."""

    held: Library

    @property
    def ties(self) -> bool:
        """Before 3.1 the order of equal dates is rules."""
        return not self.held.dialect.ties_by_id

    def excused(self, name: str, fields: dict[str, Any], theirs: object, ours: object) -> bool:
        """Whether a field may differ: bytes are made up, and some choices are the database's."""
        if name == "correlationId":
            return isinstance(ours, str) and len(ours) == len(str(theirs))
        if name == "checksum":
            served = base64.b64encode(self.held.assets[fields["id"]].content.sha1).decode()
            return ours == served and theirs != _path_checksum(fields["originalPath"])
        if name == "albumThumbnailAssetId":
            return ours in self.held.albums[fields["id"]].asset_ids
        return False


def _json_differences(place: str, theirs: Any, ours: Any, rules: _Rules) -> Iterator[Difference]:
    if type(theirs) is not type(ours) and not _both_numbers(theirs, ours):
        yield Difference(place, theirs, ours)
    elif isinstance(theirs, dict):
        yield from _object_differences(place, theirs, ours, rules)
    elif isinstance(theirs, list):
        yield from _list_differences(place, theirs, ours, rules)
    elif _cut(theirs) != _cut(ours):
        yield Difference(place, theirs, ours)


def _path_checksum(path: str) -> str:
    """What an external library says instead of a content checksum: that must be the same."""
    return base64.b64encode(hashlib.sha1(f"path:{path}".encode()).digest()).decode()


def _id_of(row: dict[str, Any]) -> str:
    return str(row["id"])


def _both_numbers(theirs: object, ours: object) -> bool:
    """JSON has one kind."""
    kinds = {type(theirs), type(ours)}
    return kinds == {int, float}


def _cut(value: object) -> object:
    """Microseconds were not recorded."""
    if isinstance(value, str) and len(value) > 22 and value[10:11] == "T" and value[4:5] == "-":
        seconds, dot, rest = value.partition(".")
        digits = rest.removesuffix("+00:00").removesuffix("Z")
        return f"{seconds}{dot}{digits.ljust(3, '0')[:3]}{rest[len(digits) :]}"
    return value


def _object_differences(
    place: str, theirs: dict[str, Any], ours: dict[str, Any], rules: _Rules
) -> Iterator[Difference]:
    """The same fields, in the same order."""
    if list(theirs) != list(ours):
        yield Difference(f"{place} fields", list(theirs), list(ours))
    for name in theirs.keys() & ours.keys():
        if rules.excused(name, theirs, theirs[name], ours[name]):
            continue
        yield from _json_differences(f"{place}.{name}", theirs[name], ours[name], rules)


def _list_differences(
    place: str, theirs: list[Any], ours: list[Any], rules: _Rules
) -> Iterator[Difference]:
    if len(theirs) != len(ours):
        yield Difference(f"{place} length", len(theirs), len(ours))
    if re.fullmatch(r"\[\d+\].assets", place):  # a stack's members: the primary, then any order
        theirs, ours = (rows[:1] + sorted(rows[1:], key=_id_of) for rows in (theirs, ours))
    if place.endswith("assets.items") and rules.ties:
        yield from _tied_differences(place, theirs, ours, rules)
        return
    for number, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        yield from _json_differences(f"{place}[{number}]", one, other, rules)


def _tied_differences(
    place: str, theirs: list[Any], ours: list[Any], rules: _Rules
) -> Iterator[Difference]:
    """The dates in the same order. Of those at one date the same rows, in any order.

    At the edges of a page even the choice among the tied is undefined: there each row need only be
    one of the library's at that date.
    """
    dates = [row["fileCreatedAt"] for row in theirs]
    if dates != [row["fileCreatedAt"] for row in ours]:
        yield Difference(f"{place} dates", dates, [row["fileCreatedAt"] for row in ours])
        return
    edges = {dates[0], dates[-1]} if dates else set()
    by_id = {row["id"]: row for row in ours}
    recorded_ids = {row["id"] for row in theirs}
    for row in theirs:
        if row["id"] in by_id:
            yield from _json_differences(f"{place}[*]", row, by_id[row["id"]], rules)
        elif row["fileCreatedAt"] not in edges or row["id"] not in rules.held.assets:
            yield Difference(f"{place} row", row["id"], None)
    for row in ours:
        if row["id"] not in recorded_ids and row["fileCreatedAt"] not in edges:
            yield Difference(f"{place} row", None, row["id"])
    repeated = [each for each, count in Counter(row["id"] for row in ours).items() if count > 1]
    if repeated:
        yield Difference(f"{place} repeated", [], repeated)
