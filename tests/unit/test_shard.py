"""How a mirror is split among runs: every asset has one, whatever their number."""

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.layout import Layout, compile_layout
from mirror.core.model import Listed, NameRules, Shard
from mirror.core.names import id8
from mirror.core.shard import may_hold, number_of, parse_shard, shard_named, takes
from tests.strategies import asset_ids, assets
from tests.world import an_asset

COUNTS = st.integers(min_value=1, max_value=64)
LAYOUTS = (
    "{id}",
    "{taken:%Y%m%d}{id8}",
    "{id8}{filename}",
    "{taken:%Y/%m}/{stem}-{id8}",
    "{original_folder}/{id}-{stem}",
    "{id8}/{original_folder}/{stem}",
)
COMPILED = st.builds(compile_layout, st.sampled_from(LAYOUTS), st.sampled_from(NameRules))


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(1, count + 1)]


def whose(layout: Layout, listed: Listed, count: int) -> list[Shard]:
    return [shard for shard in shards(count) if takes(shard, listed, layout.path)]


@given(asset=assets(), count=COUNTS, layout=COMPILED)
def test_every_asset_is_of_one_shard(asset, count, layout):
    assert len(whose(layout, Listed(asset), count)) == 1


@given(still=assets(), video=assets(), count=COUNTS, layout=COMPILED)
def test_a_live_photo_stays_together(still, video, count, layout):
    own = whose(layout, Listed(still), count)

    assert whose(layout, Listed(video, still), count) == own


@given(
    asset=assets(),
    other_id=asset_ids(),
    lengths=st.tuples(st.sampled_from([9, 150, 249, 300]), st.sampled_from([0, 420, 900])),
    layout=COMPILED,
)
def test_assets_of_one_path_are_of_one_shard(asset, other_id, lengths, layout):
    # Of a name that is too long the end is cut, and of a path the beginning: the id with it.
    name, folder = "a" * lengths[0], "/".join(["b" * 59] * (lengths[1] // 60))
    one = replace(asset, original_file_name=name, original_path=f"{folder}/{name}")
    other = replace(one, id=other_id)

    if layout.path(one) == layout.path(other):
        assert whose(layout, Listed(one), 64) == whose(layout, Listed(other), 64)


def test_an_asset_whose_id_is_cut_off_its_name_is_the_first_shards():
    asset = an_asset(str(uuid.UUID(int=0xDEADBEEF)), original_file_name=f"{'a' * 260}.jpg")
    layout = compile_layout("{stem}-{id8}", NameRules.PORTABLE)

    assert id8(asset.id) not in layout.path(asset)
    assert whose(layout, Listed(asset), 64) == [Shard(1, 64)]


@given(one=st.uuids(), other=st.uuids(), count=COUNTS)
def test_assets_that_could_share_a_path_share_a_shard(one, other, count):
    twin = str(uuid.UUID(other.hex[:24] + one.hex[24:]))

    assert id8(twin) == id8(str(one))
    assert number_of(twin, count) == number_of(str(one), count)


def test_the_number_of_an_asset_never_changes():
    # Files were put there by it: another function would be another division.
    ids = [f"00000000-0000-4000-8000-0000{at:08x}" for at in range(6)]

    assert [number_of(each, 16) for each in ids] == [16, 15, 12, 9, 8, 16]


@given(asset=assets(), video_id=asset_ids(), count=COUNTS, layout=COMPILED)
def test_a_shard_sees_what_is_its_own(asset, video_id, count, layout):
    (own,) = whose(layout, Listed(asset), count)

    assert may_hold(own, layout.path(asset).encode())
    assert may_hold(own, layout.video_path(asset, replace(asset, id=video_id)).encode())


def test_a_shard_does_not_see_what_can_only_be_anothers():
    step = 0x9E3779B97F4A7C15F39CC0605CEDC835
    ids = [str(uuid.UUID(int=at * step % 2**128)) for at in range(64)]

    seen = {each for each in ids if may_hold(Shard(3, 16), f"2024/05/{each}.jpg".encode())}

    assert seen == {each for each in ids if number_of(each, 16) == 3}
    assert 0 < len(seen) < 16


@pytest.mark.parametrize("text", ["1/1", "3/16", "16/16"])
def test_a_shard_is_said_as_a_fraction(text):
    shard = parse_shard(text)

    assert str(shard) == text
    assert shard_named(f"{shard.name}-0b3e") == shard


@pytest.mark.parametrize(
    "text", ["", "3", "0/16", "17/16", "3/0", "-1/4", "1.5/4", " 1/4", "03/16", "3/16/", "\u0663/4"]
)
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="shard"):
        parse_shard(text)


def test_the_name_of_a_whole_runs_lease_is_no_shard():
    assert shard_named("0b3e7c1e-0000-4000-8000-000000000000") is None
    assert shard_named("3e-of-16") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1/100000", "there are at most 99999 shards, not 100000"),
        ("1/" + "9" * 5000, "there are at most 99999 shards"),
        ("100000/3", "there is no shard 100000 of 3"),
        ("-1/3", "write K/N"),
        ("0/3", "write K/N"),
        ("3", "write K/N"),
    ],
)
def test_what_is_wrong_with_a_shard_is_said(text: str, why: str):
    with pytest.raises(ValueError, match=why):
        parse_shard(text)
