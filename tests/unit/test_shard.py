"""How a mirror is split among runs: every asset has one, whatever their number."""

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.layout import compile_layout
from mirror.core.model import Listed, NameRules, Shard
from mirror.core.names import id8
from mirror.core.shard import may_hold, number_of, parse_shard, shard_named, takes
from tests.strategies import asset_ids, assets

COUNTS = st.integers(min_value=1, max_value=64)
LAYOUTS = (
    "{id}",
    "{taken:%Y%m%d}{id8}",
    "{id8}{filename}",
    "{taken:%Y/%m}/{stem}-{id8}",
    "{original_folder}/{id}-{stem}",
)


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(1, count + 1)]


@given(asset=assets(), count=COUNTS)
def test_every_asset_is_of_one_shard(asset, count):
    assert sum(takes(shard, Listed(asset)) for shard in shards(count)) == 1


@given(still=assets(), video=assets(), count=COUNTS)
def test_a_live_photo_stays_together(still, video, count):
    own = [shard for shard in shards(count) if takes(shard, Listed(still))]

    assert [shard for shard in shards(count) if takes(shard, Listed(video, still))] == own


@given(one=st.uuids(), other=st.uuids(), count=COUNTS)
def test_assets_that_could_share_a_path_share_a_shard(one, other, count):
    twin = str(uuid.UUID(other.hex[:24] + one.hex[24:]))

    assert id8(twin) == id8(str(one))
    assert number_of(twin, count) == number_of(str(one), count)


def test_the_number_of_an_asset_never_changes():
    # Files were put there by it: another function would be another division.
    ids = [f"00000000-0000-4000-8000-0000{at:08x}" for at in range(6)]

    assert [number_of(each, 16) for each in ids] == [16, 15, 12, 9, 8, 16]


@given(
    asset=assets(),
    video_id=asset_ids(),
    count=COUNTS,
    text=st.sampled_from(LAYOUTS),
    rules=st.sampled_from(NameRules),
)
def test_a_shard_sees_what_is_its_own(asset, video_id, count, text, rules):
    layout = compile_layout(text, rules)
    own = Shard(number_of(asset.id, count), count)

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
