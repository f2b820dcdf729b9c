"""The sandbox answers as real servers did: every recorded exchange of both releases, replayed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.contract.sandbox.replay import VERSIONS, Difference, exchanges, replayed

# Exchanges that no mirror makes.
LEFT_OUT = {
    ("2.7.5", "sync-stream"): "asks for a type of 3.x, so the answer is a list of 2.7.5's types; "
    "a mirror never opens a stream, which refuses every API key anyway",
}


@dataclass(frozen=True)
class Excuse:
    """A difference that the recorded library makes unavoidable: where, and why."""

    exchange: str
    place: str
    reason: str


_CAROL = "carol's album holds three assets that the recorded library does not describe"
EXCUSES = (
    Excuse("key-.*", r"\.id", "the library names keys and their permissions, not their ids"),
    Excuse("key-.*|me-all", r"\.(createdAt|updatedAt)", "nor when they or users were changed"),
    Excuse("albums?[-:].*", r"(\[\d+\])?\.(createdAt|updatedAt)", "nor albums"),
    Excuse("tags-.*", r"\[\d+\]\.(createdAt|updatedAt)", "nor the parents of tags"),
    Excuse(
        "albums?[-:].*|partners-.*",
        r"\[\d+\]\.profileChangedAt|.*\.user\.profileChangedAt",
        "nor carol's profile, of whom no asset is recorded",
    ),
    Excuse("albums-.*", r"\[2\] fields|\[2\]\.assetCount|\[2\]\.albumThumbnailAssetId", _CAROL),
    Excuse(
        "original-edited-true",
        r"header content-length|header etag|body\.size",
        "the edited rendition is the server's own JPEG, its size was not recorded",
    ),
)
CASES = [(version, name) for version in VERSIONS for name in exchanges(version)]


def excuse_for(name: str, difference: Difference) -> Excuse | None:
    for excuse in EXCUSES:
        if re.fullmatch(excuse.exchange, name) and re.fullmatch(excuse.place, difference.place):
            return excuse
    return None


def unexcused(version: str, name: str) -> Iterator[Difference]:
    for difference in replayed(version)[name]:
        if excuse_for(name, difference) is None:
            yield difference


@pytest.mark.parametrize(("version", "name"), CASES)
def test_the_sandbox_answers_as_the_recorded_server_did(version: str, name: str) -> None:
    if (version, name) in LEFT_OUT:
        assert replayed(version)[name], "it answers as recorded: take it out of the table"
        return
    assert list(unexcused(version, name)) == []


def test_what_is_left_out_names_recorded_exchanges() -> None:
    assert set(LEFT_OUT) <= set(CASES)


def test_every_excuse_is_still_needed() -> None:
    used = {
        excuse_for(name, difference)
        for version, name in CASES
        for difference in replayed(version)[name]
    }
    assert set(EXCUSES) <= used


@pytest.mark.parametrize("version", VERSIONS)
def test_nearly_every_recorded_exchange_is_the_same_without_excuse(version: str) -> None:
    same = [name for name, differences in replayed(version).items() if not differences]
    assert len(same) > 0.9 * len(exchanges(version))
    assert {"search-timeline-1000", "search-page-asc-3", "original-range-at-end"} <= set(same)
