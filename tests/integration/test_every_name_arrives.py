"""Bad names through whole runs and a real folder: inside, unique, and there to stay."""

from pathlib import Path
from random import Random

import pytest

from mirror.core.layout import fold
from mirror.core.model import Limit, Mirror, NameRules, OnGone
from mirror.index import Index
from mirror.sandbox import Library
from mirror.sandbox.records import StoredAsset
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    counts,
    empty,
    files,
    mirrored,
    names_in,
    wanted,
)
from tests.strategies import RECORDED_NAMES, many_hostile_names

_SEED = 5
# No server sends half of a surrogate pair: its database holds UTF-8.
_NAMES = [
    name.encode("utf-8", "replace").decode()
    for name in (*RECORDED_NAMES, *many_hostile_names(_SEED, 140))
]


def upload(library: Library, numbers: range) -> list[str]:
    """Photos under bad names, each third one with a video; the ids of all."""
    return [one.id for number in numbers for one in _uploaded(library, number)]


def _uploaded(library: Library, number: int) -> list[StoredAsset]:
    still = _named(library, number, _NAMES[number])
    if number % 3:
        return [still]
    video = _named(library, number + 10_000, _NAMES[-number])
    library.link_live_photo(still.id, video.id)
    return [still, video]


def _named(library: Library, number: int, name: str) -> StoredAsset:
    asset = library.upload("x.jpg", content(number), taken_at=NOON)
    library.rename(asset.id, name)
    return asset


def paths(me: Mirrored) -> dict[str, str]:
    """Where each asset lies, checked against the disk."""
    with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
        rows = list(index.all_rows())
    lying = files(me.root)
    assert {row.path: row.sha1 for row in rows} == lying
    assert len({fold(path) for path in lying}) == len(rows)
    for row in rows:
        assert row.sha1 == me.library.assets[row.asset_id].content.sha1
    return {row.asset_id: row.path for row in rows}


def outside(folder: Path) -> set[str]:
    """Everything but the tree."""
    tree = folder / "a/b/tree"
    return {str(path) for path in folder.rglob("*") if not path.is_relative_to(tree)}


@pytest.mark.parametrize("rules", list(NameRules))
async def test_bad_names_stay_inside_and_stay_what_they_are(tmp_path: Path, rules: NameRules):
    half = len(_NAMES) // 2
    library = empty()
    mirror = Mirror(name="me", account="me", names=rules)
    async with mirrored(tmp_path / "a/b", library, mirror=mirror) as me:
        me.destination |= {"on_removed": OnGone.DELETE, "max_removed": Limit(1000, 1.0)}
        upload(library, range(half))
        await me.synced()
        around, first = outside(tmp_path), paths(me)
        assert names_in(me.root) == {".mirror", "2020"}

        upload(library, range(half, len(_NAMES)))
        await me.synced()
        everything = paths(me)
        assert everything.items() >= first.items()

        gone = Random(_SEED).sample([one.id for one in wanted(library)], half)
        library.trash(*gone)
        await me.synced()
        rest = paths(me)
        assert rest.items() <= everything.items()
        assert set(rest) == {one.id for one in wanted(library)}

        (me.root / ".mirror/index.sqlite3").unlink()
        me.sandbox.requests.clear()
        assert counts(await me.synced()) == {"adopted": len(rest)}
        assert paths(me) == rest
        assert me.originals() == {}

        library.restore(*gone)
        await me.synced()
        assert paths(me).items() >= rest.items()
        assert set(paths(me)) == {one.id for one in wanted(library)}
        assert names_in(me.root) == {".mirror", "2020"}
        assert outside(tmp_path) == around
        await me.assert_settled()
