"""Every name of the recorded libraries and ten thousand bad ones: inside, unique, there to stay."""

import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from mirror.core.allocate import ancestors
from mirror.core.layout import Layout, compile_layout, fold
from mirror.core.model import Asset, Disk, Entry, NameRules, Row
from mirror.core.names import COMPONENT_BYTES
from mirror.core.plan import Difference, Kind, make_plan
from tests.strategies import RECORDED_NAMES, many_hostile_names
from tests.world import UPLOADED_AT, an_asset

_RECORDINGS = Path(__file__).parents[1] / "contract/recordings"
_NAME = re.compile(r'"originalFileName": *("(?:[^"\\]|\\.)*")')
_SEED = 20_240_501
_GENERATED = 10_000


@cache
def _recorded_names() -> list[str]:
    """What the recorded servers called their assets, in every answer that has a name."""
    texts = (file.read_text("utf-8") for file in _RECORDINGS.glob("*/*.json*"))
    found = {json.loads(name) for text in texts for name in _NAME.findall(text)}
    return sorted(found.union(RECORDED_NAMES))


@cache
def _assets() -> tuple[Asset, ...]:
    """All of them taken on two days, and uploaded in no order."""
    random = Random(_SEED)
    names = [*_recorded_names(), *many_hostile_names(_SEED, _GENERATED)]
    return tuple(
        an_asset(
            str(UUID(int=random.getrandbits(128), version=4)),
            str(number).encode(),
            original_file_name=name,
            uploaded_at=UPLOADED_AT + timedelta(seconds=random.randrange(1000)),
            taken_local=UPLOADED_AT.replace(tzinfo=None) + timedelta(days=random.randrange(2)),
        )
        for number, name in enumerate(names)
    )


@dataclass
class _Names:
    """A destination, as far as names go: who has which, as an index remembers it."""

    layout: Layout
    rows: dict[str, Row] = field(default_factory=dict)

    def sync(self, listed: Iterable[Asset], lying: Collection[Entry] = ()) -> set[Kind]:
        """Name what has no name yet, beside the files that lie there; what was done for that."""
        new = [
            Difference(asset=asset, base=self.layout.path(asset))
            for asset in listed
            if asset.id not in self.rows
        ]
        keys = {fold(row.path): row.asset_id for row in self.rows.values()}
        disk = Disk(
            holders=keys,
            folders=frozenset(above for key in keys for above in ancestors(key)),
            foreign={fold(entry.path): (entry,) for entry in lying},
        )
        whole = make_plan(new, [], disk, complete=True)
        for action in whole.actions:
            assert action.asset is not None
            self.rows[action.asset.id] = _row(action.asset, action.base, action.path)
        return {action.kind for action in whole.actions}

    def paths(self) -> dict[str, str]:
        """The path of each asset."""
        return {row.asset_id: row.path for row in self.rows.values()}

    def files(self) -> list[Entry]:
        """What lies on the disk."""
        return [Entry(row.path, sha1=row.checksum) for row in self.rows.values()]


def _row(asset: Asset, base: str, path: str) -> Row:
    return Row(
        asset_id=asset.id, owner_id=asset.owner_id, checksum=asset.checksum, base=base, path=path
    )


def _is_contained(path: str) -> bool:
    parts = path.split("/")
    return (
        parts[:3] in (["2024", "01", "01"], ["2024", "01", "02"])
        and len(parts) == 4
        and parts[3] not in {"", ".", ".."}
        and fold(parts[3]).rstrip(" .") not in {".mirror", ".immich"}
        and "\0" not in path
        and len(parts[3].encode()) <= COMPONENT_BYTES  # nor is there a surrogate left
        and unicodedata.is_normalized("NFC", path)
    )


def _assert_good(names: _Names, count: int) -> None:
    paths = names.paths().values()
    assert [path for path in paths if not _is_contained(path)] == []
    assert len({fold(path) for path in paths}) == count


def test_there_are_as_many_names_as_it_says():
    assert len(_recorded_names()) > 400
    assert len(set(many_hostile_names(_SEED, _GENERATED))) > _GENERATED / 2


@pytest.mark.parametrize("rules", list(NameRules))
def test_every_name_is_contained_unique_and_stays(rules: NameRules):
    names, assets = _Names(compile_layout("{taken:%Y/%m/%d}/{filename}", rules)), _assets()
    early = assets[::2]

    names.sync(early)
    _assert_good(names, len(early))
    first = names.paths()

    # Others come, some of them uploaded earlier and of the very same name.
    names.sync(assets)
    _assert_good(names, len(assets))
    assert names.paths().items() >= first.items()

    # Some of either go, and their names become free.
    for asset in Random(_SEED).sample(assets, len(assets) // 3):
        del names.rows[asset.id]
    stayed = [asset for asset in assets if asset.id in names.rows]
    rest = names.paths()
    assert names.sync(stayed) == set()

    # The index is lost.
    files = names.files()
    names.rows.clear()
    assert names.sync(stayed, files) == {Kind.ADOPT}
    assert names.paths() == rest

    # And those who went come back beside the others.
    names.sync(assets)
    _assert_good(names, len(assets))
    assert names.paths().items() >= rest.items()
