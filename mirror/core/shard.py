"""One of several runs that split a mirror among them, and share nothing but its destination.

An asset's shard follows from the last eight hex digits of its id (`{id8}`), so that two assets that
share those, and thus perhaps a path, are of one shard; a live photo's video goes with its still.
Pure.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from mirror.core.layout import PATH_BYTES
from mirror.core.model import Asset, Listed, Shard
from mirror.core.names import COMPONENT_BYTES, id8

_TEXT: Final = re.compile(r"([1-9]\d*)/([1-9]\d*)", re.ASCII)
_MOST: Final = 99_999
_NAME: Final = re.compile(r"([1-9]\d*)-of-([1-9]\d*)", re.ASCII)
_UUID: Final = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{4}([0-9a-f]{8})")
_HEX8: Final = re.compile(rb"(?=([0-9a-f]{8}))")
# What is longer may have been cut, and its id with it: cut names end at a letter, not at a byte.
_SURELY_WHOLE_BYTES: Final = COMPONENT_BYTES // 2
_SURELY_WHOLE_PATH_BYTES: Final = PATH_BYTES // 2
_HASHED_BYTES: Final = 8
_FIRST: Final = 1


def parse_shard(text: str) -> Shard:
    """What "3/16" says: the third of sixteen.

    Raises:
        ValueError: it says nothing of the kind; the message tells what is wrong.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"not a shard: {text!r}; write K/N, as 3/16, with K from 1 to N")
    number, count = found.groups()
    if len(count) > len(str(_MOST)):
        raise ValueError(f"there are at most {_MOST} shards, not {count[:12]}")
    if len(number) > len(count):
        raise ValueError(f"there is no shard {number[:12]} of {count}: the last is {count}/{count}")
    shard = Shard(int(number), int(count))
    if shard.number > shard.count:
        raise ValueError(
            f"there is no shard {shard.number} of {shard.count}: the last is"
            f" {shard.count}/{shard.count}"
        )
    return shard


def shard_named(name: str) -> Shard | None:
    """The shard whose `Shard.name` begins a text; None: no shard's does."""
    found = _NAME.match(name)
    return Shard(int(found[1]), int(found[2])) if found else None


def number_of(asset_id: str, count: int) -> int:
    """Which of `count` shards an asset is of, from 1.

    The first eight bytes of the SHA-1 of its `{id8}`, as a number, modulo `count`, and 1 more.
    """
    return _number(id8(asset_id).encode(), count)


def takes(shard: Shard, listed: Listed, path_of: Callable[[Asset], str]) -> bool:
    """Whether an asset is this shard's; a live photo's video is where its still is.

    `path_of` is of a layout that `{id}` or `{id8}` is in. Where a path is so long that the id may
    have been cut off, others may want it too: all of these are the first shard's.
    """
    asset = listed.still or listed.asset
    number = number_of(asset.id, shard.count)
    if shard.number not in {_FIRST, number}:
        return False
    return shard.number == (number if _tells_id(path_of(asset), asset.id) else _FIRST)


def _tells_id(path: str, asset_id: str) -> bool:
    return not _may_be_cut(path.encode("utf-8", "surrogatepass")) and id8(asset_id) in path


def _may_be_cut(path: bytes) -> bool:
    """Whether a path is anywhere near the length from which on a part of it is left out."""
    if len(path) > _SURELY_WHOLE_PATH_BYTES:
        return True
    return max(map(len, path.split(b"/"))) > _SURELY_WHOLE_BYTES


def may_hold(shard: Shard, path: bytes) -> bool:
    """Whether what lies at a path may be of an asset of this shard, whatever the layout.

    False only where ids of other shards stand in it, and none of this one. `path` is of a layout
    that `{id}` or `{id8}` is in, or of a folder, or foreign.
    """
    if _may_be_cut(path):
        return True
    numbers = {_number(digits, shard.count) for digits in _ids(path)}
    return not numbers or shard.number in numbers


def _number(digits: bytes, count: int) -> int:
    digest = hashlib.sha1(digits, usedforsecurity=False).digest()
    return int.from_bytes(digest[:_HASHED_BYTES]) % count + 1


def _ids(path: bytes) -> Iterator[bytes]:
    """Every text in a path that may be an `{id8}`, be it a date."""
    for match in _UUID.finditer(path):
        yield match[1]
    for match in _HEX8.finditer(_UUID.sub(b"/", path)):
        yield match[1]
