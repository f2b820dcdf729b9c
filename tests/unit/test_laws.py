"""The laws of the core, each on worlds that hypothesis makes up."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

from hypothesis import event, given
from hypothesis import strategies as st

from mirror.core import checksum
from mirror.core.layout import LayoutError, compile_layout, fold
from mirror.core.model import Asset, Disk, EntryKind, NameRules, Row
from mirror.core.plan import Action, Difference, Kind, Plan, Reason, make_plan
from tests.strategies import assets, layout_texts, name_rules, worlds
from tests.world import (
    Look,
    Tree,
    World,
    carry_out,
    look,
    plan,
    plan_for,
    with_contents,
)

_GONE = {Kind.RETAIN, Kind.FORGET, Kind.REMOVE}


def _shuffle(random: Random) -> Callable[[list[Action]], list[Action]]:
    return lambda actions: random.sample(actions, len(actions))


def _conflicts(of: Plan) -> set[str]:
    return {action.asset_id for action in of.of(Kind.CONFLICT)}


def _is_held_at_times(action: Action) -> bool:
    lost = action.kind is Kind.DOWNLOAD and action.reason is Reason.LOST
    return action.displaces or lost or action.kind is Kind.REMOVE


# -- 1. fixed point --------------------------------------------------------------------------------


@given(worlds(), st.randoms(use_true_random=False))
def test_after_a_plan_was_carried_out_planning_again_gives_nothing(world, random):
    first = plan(world)
    for action in first.actions:
        event(f"{action.kind.value} {action.reason.value}")
    carry_out(world, first.actions, _shuffle(random))

    again = plan(world)

    # What had no name, or only damaged bytes, may find what another step has left behind.
    left = {*_conflicts(first), *first.known}
    assert [str(action) for action in again.actions if action.asset_id not in left] == []


@given(worlds())
def test_afterwards_every_listed_asset_has_its_bytes_at_its_path(world):
    first = plan(world)
    carry_out(world, first.actions)

    for listed in world.listed:
        asset = listed.asset
        if asset.id in {*first.known, *_conflicts(first)}:
            continue
        row = world.rows[asset.id]
        lying = world.tree.content(row.path)
        assert row.base == world.base(listed)
        if row.sha1 is None:
            assert len(lying) == len(world.content(asset))
        else:
            assert lying == world.content(asset)


@given(worlds(), st.data())
def test_what_a_guard_holds_can_be_left_out_of_a_plan(world, data):
    whole = plan(world).actions
    held = [action for action in whole if _is_held_at_times(action)]
    left_out = data.draw(st.sets(st.sampled_from(range(len(held))))) if held else set()
    waiting = {id(held[index]) for index in left_out}

    carry_out(world, [action for action in whole if id(action) not in waiting])


# -- 2. no removal without a complete listing ------------------------------------------------------


@given(worlds())
def test_without_a_complete_listing_nothing_happens_to_what_is_not_listed(world):
    world = replace(world, complete=False)
    ids = {listed.asset.id for listed in world.listed}
    look(world)  # refreshes rows
    before = {row.asset_id: row for row in world.rows.values() if row.asset_id not in ids}
    nodes = {
        row.path: node
        for row in before.values()
        if (node := world.tree.get(row.path)) is not None and node.kind is not EntryKind.FOLDER
    }

    whole = plan(world)
    carry_out(world, whole.actions)

    assert not any(action.kind in _GONE for action in whole.actions)
    assert {asset_id: world.rows.get(asset_id) for asset_id in before} == before
    assert {path: world.tree.get(path) for path in nodes} == nodes


@given(worlds())
def test_where_several_selections_share_a_destination_nothing_is_let_go(world):
    shared = replace(world, removes=False)

    assert not any(action.kind in _GONE for action in plan(shared).actions)


@given(worlds())
def test_nothing_is_removed_when_the_policy_is_to_keep(world):
    kept = replace(world, sentence=None)

    assert not any(plan(kept).of(Kind.REMOVE))


# -- 3. ownership ----------------------------------------------------------------------------------


@given(worlds())
def test_a_foreign_file_is_never_replaced_moved_or_removed(world):
    seen = look(world)
    foreign = [entry for entries in seen.disk.foreign.values() for entry in entries]
    before = {entry.path: world.tree.get(entry.path) for entry in foreign}

    carry_out(world, plan_for(world, seen).actions)

    assert {path: world.tree.get(path) for path in before} == before


@given(worlds())
def test_other_bytes_at_our_path_stay_or_are_kept_in_quarantine(world):
    seen = look(world)
    files = [entry for entry in seen.disk.other.values() if entry.kind is EntryKind.FILE]
    contents = {entry.path: world.tree.content(entry.path) for entry in files}
    links = [entry for entry in seen.disk.other.values() if entry.kind is not EntryKind.FILE]

    carry_out(world, plan_for(world, seen).actions)

    for path, content in contents.items():
        node = world.tree.get(path)
        stays = node is not None and node.content == content
        assert stays or content in world.quarantine.values()
    assert all(world.tree.get(entry.path) is not None for entry in links)


# -- 4. conservation -------------------------------------------------------------------------------


@given(worlds())
def test_every_listed_asset_is_counted_exactly_once(world):
    whole = plan(world)
    steps = [
        action.asset.id
        for action in whole.actions
        if action.asset is not None and action.kind is not Kind.REBIND
    ]
    rebound = {action.asset_id for action in whole.of(Kind.REBIND)}

    assert max(Counter(steps).values(), default=1) == 1
    assert not {*steps, *rebound} & set(whole.known)
    counted = len({*steps, *rebound}) + len(whole.known) + whole.unchanged
    assert counted == len(world.listed)


@given(worlds())
def test_every_row_that_is_not_listed_has_at_most_one_step(world):
    whole = plan(world)
    ids = {listed.asset.id for listed in world.listed}
    steps = [
        action.row.asset_id
        for action in whole.actions
        if action.row is not None and action.row.asset_id not in ids
    ]

    assert max(Counter(steps).values(), default=1) == 1


# -- 5. order-free ---------------------------------------------------------------------------------


def _in_another_order(seen: Look, random: Random) -> Look:
    disk = seen.disk
    return replace(
        seen,
        differences=random.sample(seen.differences, len(seen.differences)),
        unlisted=random.sample(seen.unlisted, len(seen.unlisted)),
        disk=replace(
            disk,
            other=dict(random.sample(sorted(disk.other.items()), len(disk.other))),
            foreign=dict(random.sample(sorted(disk.foreign.items()), len(disk.foreign))),
            holders=dict(random.sample(sorted(disk.holders.items()), len(disk.holders))),
        ),
    )


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_either_side_changes_nothing(world, random):
    seen = look(world)

    shuffled = plan_for(world, _in_another_order(seen, random))

    assert shuffled == plan_for(world, seen)


# -- 6. one owner a path ---------------------------------------------------------------------------


@given(worlds())
def test_no_two_rows_have_one_path_even_where_case_makes_no_difference(world):
    carry_out(world, plan(world).actions)

    keys = Counter(fold(row.path) for row in world.rows.values())
    assert max(keys.values(), default=1) == 1


def _paths_that_must_stay(world: World, seen: Look) -> dict[str, str]:
    """Of rows whose base is the same and whose place nobody else took."""
    disk = seen.disk
    return {
        row.asset_id: row.path
        for listed in world.listed
        if (row := world.rows.get(listed.asset.id)) is not None
        and row.base == world.base(listed)
        and row.asset_id not in disk.missing
        and row.asset_id not in disk.other
        and not _found_elsewhere(listed.asset, row, disk)
    }


def _found_elsewhere(asset: Asset, row: Row, disk: Disk) -> bool:
    """New bytes lie beside the old ones under the same name in another case."""
    wanted = checksum.content_sha1(asset)
    size = disk.sizes[asset.id]
    return any(
        entry.sha1 == wanted or (wanted is None and entry.size_bytes == size)
        for entry in disk.foreign.get(fold(row.path), ())
    )


@given(worlds(), st.data())
def test_a_path_once_given_stays_whatever_other_assets_do(world, data):
    fewer = [listed for listed in world.listed if data.draw(st.booleans())]
    world = replace(world, listed=tuple(fewer)) if data.draw(st.booleans()) else world
    must_stay = _paths_that_must_stay(world, look(world))

    carry_out(world, plan(world).actions)

    known = world.known_failures
    paths = {asset_id: world.rows[asset_id].path for asset_id in must_stay if asset_id not in known}
    assert paths == {key: path for key, path in must_stay.items() if key not in known}


@given(worlds(), st.data())
def test_paths_stay_when_the_listing_changes_after_a_run(world, data):
    carry_out(world, plan(world).actions)
    before = dict(world.rows)
    fewer = [listed for listed in world.listed if data.draw(st.booleans())]
    world = replace(world, listed=tuple(fewer), removes=True, sentence=None)

    carry_out(world, plan(world).actions)

    # A folder may be spelled as it was before, where case makes no difference.
    same = [
        listed.asset.id
        for listed in fewer
        if listed.asset.id in before and before[listed.asset.id].base == world.base(listed)
    ]
    assert {key: fold(world.rows[key].path) for key in same} == {
        key: fold(before[key].path) for key in same
    }


def _with_histories(world: World, data: st.DataObject) -> World:
    """The same assets in an empty tree of our own, after they came and went a few times."""
    world = replace(
        world,
        tree=Tree(folding=data.draw(st.booleans())),
        rows={},
        quarantine={},
        known_failures=frozenset(),
        sentence=None,
        complete=True,
        removes=True,
    )
    everything = world.listed
    for _ in range(3):
        here = [listed for listed in everything if data.draw(st.booleans())]
        world = replace(world, listed=tuple(here))
        carry_out(world, plan(world).actions)
    return world


@given(worlds(), st.data())
def test_without_its_index_every_file_is_adopted_under_its_name(world, data):
    sizes = {asset_id: number for number, asset_id in enumerate(world.contents)}
    contents = {asset_id: b"x" * size for asset_id, size in sizes.items()}
    world = _with_histories(with_contents(world, contents), data)
    before = {asset_id: row.path for asset_id, row in world.rows.items()}
    nodes = world.tree.nodes()
    world.rows.clear()

    whole = plan(world)
    carry_out(world, whole.actions)

    left = _conflicts(whole)
    assert {action.kind for action in whole.actions} <= {Kind.ADOPT, Kind.CONFLICT}
    assert world.tree.nodes() == nodes
    listed = {it.asset.id for it in world.listed} - left
    # A folder may be spelled as it was before, where case makes no difference.
    assert {it: fold(world.rows[it].path) for it in listed} == {
        it: fold(before[it]) for it in listed
    }


@given(worlds(), st.data())
def test_without_its_index_no_photo_that_is_there_twice_is_fetched(world, data):
    """Which of two with the same bytes had which name, nothing tells; both stay there."""
    inside = [it for it in world.listed if it.asset.library_id is None]
    world = _with_histories(replace(world, listed=tuple(inside)), data)
    nodes = world.tree.nodes()
    world.rows.clear()

    whole = plan(world)

    assert {action.kind for action in whole.actions} <= {Kind.ADOPT, Kind.COPY, Kind.CONFLICT}
    carry_out(world, whole.actions)
    assert world.tree.nodes().items() >= nodes.items()


@given(worlds())
def test_the_video_of_a_new_live_photo_has_its_stills_stem(world):
    whole = plan(world)
    new = {
        action.asset.id: action.path
        for action in whole.actions
        if action.asset is not None and action.row is None and action.kind is Kind.DOWNLOAD
    }
    for listed in world.listed:
        still = listed.still
        if still is None or still.id not in new or listed.asset.id not in new:
            continue
        ids = (listed.asset.id, listed.asset.id[-8:])
        video = new[listed.asset.id]
        alone = any(video.endswith(f"-{suffix}.MOV") for suffix in ids)
        assert alone or video == f"{new[still.id].rpartition('.')[0] or new[still.id]}.MOV"


# -- 7. containment --------------------------------------------------------------------------------


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return not {"", ".", ".."} & set(parts) and fold(parts[0]) != ".mirror" and "\0" not in path


@given(st.lists(assets(), max_size=3, unique_by=lambda it: it.id), layout_texts(), name_rules())
def test_no_name_the_server_sends_leads_outside_the_root(
    listed: list[Asset], text: str, names: NameRules
):
    try:
        layout = compile_layout(text, names)
    except LayoutError:
        return
    differences = [Difference(asset=asset, base=layout.path(asset)) for asset in listed]
    # Everything has to take its second or third name as well.
    taken = Disk(folders=frozenset(fold(item.base) for item in differences))

    for disk in (Disk(), taken):
        whole = make_plan(differences, [], disk, complete=True)
        assert all(_is_inside(action.path) for action in whole.actions)
        keys = [fold(action.path) for action in whole.actions if action.kind is not Kind.CONFLICT]
        assert len(set(keys)) == len(keys)
