import hashlib
from typing import Any, cast

import pytest

from mirror.core.layout import compile_layout
from mirror.core.model import Entry, EntryKind, NameRules
from mirror.errors import InterruptedRunError
from mirror.index import Index
from mirror.survey import Surveyor

FILES = 300


class Lying:
    """A folder in which each file holds its own name."""

    root = None

    def __init__(self, *, stops_at: int | None = None, unreadable: str = "") -> None:
        self.hashed: list[str] = []
        self._stops_at = stops_at
        self._unreadable = unreadable

    def told_sha1(self, path: str) -> None:
        """A file system keeps none."""

    def sha1(self, path: str) -> bytes:
        self.hashed.append(path)
        if self._stops_at is not None and len(self.hashed) >= self._stops_at:
            raise InterruptedRunError("the run was interrupted")
        if path == self._unreadable:
            raise PermissionError(path)
        return hashlib.sha1(path.encode()).digest()


def entries() -> list[Entry]:
    return [Entry(f"{number}.jpg", EntryKind.FILE, 10, number) for number in range(FILES)]


def surveyor(folder: Lying, index: Index) -> Surveyor:
    layout = compile_layout("{filename}", NameRules.PORTABLE)
    return Surveyor(cast("Any", None), cast("Any", folder), index, layout, trusts_times=True)


async def test_each_file_gets_the_hash_of_its_own_bytes_in_whatever_order_they_are_read():
    folder = Lying(unreadable="7.jpg")
    with Index(None) as index:
        hashed = await surveyor(folder, index)._hash_foreign(entries())
    assert [entry.path for entry in hashed] == [entry.path for entry in entries()]
    assert hashed[7].sha1 is None
    for entry in hashed[:7] + hashed[8:]:
        assert entry.sha1 == hashlib.sha1(entry.path.encode()).digest()
    assert sorted(folder.hashed) == sorted(entry.path for entry in entries())


async def test_what_was_hashed_before_and_looks_the_same_is_not_read_again():
    with Index(None) as index:
        first = await surveyor(Lying(), index)._hash_foreign(entries())
        again = Lying()
        assert await surveyor(again, index)._hash_foreign(entries()) == first
    assert again.hashed == []


async def test_a_run_that_is_stopped_begins_to_read_no_other_file():
    folder = Lying(stops_at=20)
    with Index(None) as index, pytest.raises(InterruptedRunError):
        await surveyor(folder, index)._hash_foreign(entries())
    assert len(folder.hashed) < FILES
