"""Every row of the table of what is done for an asset, as text, and what went wrong once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.core.evidence import Sentence, Verdict
from mirror.core.layout import fold
from mirror.core.model import Asset, Disk, EntryKind, Listed, OnGone, Row, RowState
from mirror.core.names import candidates, id8
from mirror.core.plan import ORDER, Action, Difference, Kind, Reason, make_plan
from tests.world import (
    OURS_NS,
    UPLOADED_AT,
    Node,
    Tree,
    World,
    an_asset,
    carry_out,
    external,
    plan,
    sha1,
)

ID = "00000000-0000-4000-8000-000000000001"
SECOND_ID = "00000000-0000-4000-8000-000000000002"
OLD_ID = "00000000-0000-4000-8000-000000000009"
PHOTO, EDITED, STRANGE = b"photo", b"edited photo", b"somebody else's"


def asset(asset_id: str = ID, content: bytes = PHOTO, **changed: object) -> Asset:
    return an_asset(asset_id, content, **changed)


def row(of: Asset, path: str, content: bytes = PHOTO, **changed: object) -> Row:
    known = Row(
        asset_id=of.id,
        owner_id=of.owner_id,
        checksum=of.checksum if of.library_id else sha1(content),
        base=path,
        path=path,
        sha1=sha1(content),
        size_bytes=len(content),
        mtime_ns=OURS_NS,
        etag=sha1(content).hex(),
        file_modified_at=of.file_modified_at,
    )
    return replace(known, **changed)  # type: ignore[arg-type]  # the fields of each test's choice


def ours(content: bytes = PHOTO) -> Node:
    return Node(content=content, mtime_ns=OURS_NS)


def theirs(content: bytes = STRANGE) -> Node:
    return Node(content=content)


FOLDER, LINK = Node(EntryKind.FOLDER), Node(EntryKind.LINK)


def world(
    *listed: Asset | Listed,
    rows: tuple[Row, ...] = (),
    disk: dict[str, Node] | None = None,
    bases: dict[str, str] | None = None,
    contents: dict[str, bytes] | None = None,
    **more: object,
) -> World:
    """A world where everything wants "W.jpg" and is a photo, but for what is said."""
    items = tuple(item if isinstance(item, Listed) else Listed(item) for item in listed)
    ids = {item.asset.id for item in items} | {item.still.id for item in items if item.still}
    made = World(
        tree=Tree(),
        listed=items,
        bases=dict.fromkeys(ids, "W.jpg") | (bases or {}),
        contents=dict.fromkeys(ids, PHOTO) | (contents or {}),
        rows={known.asset_id: known for known in rows},
    )
    for path, node in (disk or {}).items():
        made.tree.put(path, node)
    return replace(made, **more)  # type: ignore[arg-type]  # the fields of each test's choice


def steps(of: World) -> list[str]:
    return [str(action) for action in plan(of).actions]


# -- listed, same checksum, at its path ------------------------------------------------------------


def test_listed_same_checksum_at_its_path_as_recorded_is_left_alone():
    it = world(asset(), rows=(row(asset(), "W.jpg"),), disk={"W.jpg": ours()})

    assert steps(it) == []
    assert plan(it).unchanged == 1


def test_listed_same_checksum_at_its_path_only_touched_is_left_alone_and_refreshed():
    it = world(asset(), rows=(row(asset(), "W.jpg"),), disk={"W.jpg": theirs(PHOTO)})

    assert steps(it) == []
    assert it.rows[ID].mtime_ns == theirs().mtime_ns


def test_listed_same_checksum_at_its_path_but_missing_is_downloaded_as_lost():
    it = world(asset(), rows=(row(asset(), "W.jpg"),))

    assert steps(it) == ["download lost: W.jpg"]


def test_listed_same_checksum_at_its_path_other_bytes_is_downloaded_and_displaces_them():
    it = world(asset(), rows=(row(asset(), "W.jpg"),), disk={"W.jpg": theirs()})

    assert steps(it) == ["download drifted: W.jpg"]
    assert [action.displaces for action in plan(it).actions] == [True]
    carry_out(it, plan(it).actions)
    assert it.tree.content("W.jpg") == PHOTO
    assert list(it.quarantine.values()) == [STRANGE]


# -- listed, same checksum, at another path --------------------------------------------------------


def test_listed_same_checksum_at_another_path_as_recorded_is_moved():
    it = world(asset(), rows=(row(asset(), "P.jpg"),), disk={"P.jpg": ours()})

    assert steps(it) == ["move renamed: W.jpg <- P.jpg"]


def test_listed_same_checksum_at_another_path_its_bytes_at_the_wanted_one_is_adopted():
    it = world(asset(), rows=(row(asset(), "P.jpg"),), disk={"W.jpg": theirs(PHOTO)})

    assert steps(it) == ["adopt found: W.jpg"]


def test_listed_same_checksum_at_another_path_and_missing_is_downloaded_as_lost():
    it = world(asset(), rows=(row(asset(), "P.jpg"),))

    assert steps(it) == ["download lost: W.jpg"]


def test_listed_same_checksum_at_another_path_other_bytes_there_are_disowned_and_stay():
    it = world(asset(), rows=(row(asset(), "P.jpg"),), disk={"P.jpg": theirs()})

    assert steps(it) == ["disown drifted: P.jpg", "download drifted: W.jpg"]
    assert not any(action.displaces for action in plan(it).actions)
    carry_out(it, plan(it).actions)
    assert it.tree.content("P.jpg") == STRANGE


# -- listed, other checksum ------------------------------------------------------------------------


def test_listed_other_checksum_the_new_bytes_at_the_wanted_path_is_adopted():
    changed = asset(content=EDITED)
    it = world(changed, rows=(row(changed, "W.jpg"),), disk={"W.jpg": theirs(EDITED)})

    assert steps(it) == ["adopt found: W.jpg"]


def test_listed_other_checksum_the_new_bytes_at_a_new_path_are_somebody_elses():
    """Adopting them would leave the earlier version behind, nobody's."""
    changed = asset(content=EDITED)
    disk = {"P.jpg": ours(), "W.jpg": theirs(EDITED)}
    it = world(changed, rows=(row(changed, "P.jpg"),), disk=disk, contents={ID: EDITED})

    assert steps(it) == ["replace changed: W-00000001.jpg"]
    carry_out(it, plan(it).actions)
    assert it.tree.get("P.jpg") is None
    assert list(it.quarantine.values()) == [PHOTO]
    assert steps(it) == []


@pytest.mark.parametrize("path", ["W.jpg", "P.jpg"])
def test_listed_other_checksum_anything_of_ours_at_its_path_is_replaced(path: str):
    changed = asset(content=EDITED)
    it = world(changed, rows=(row(changed, path),), disk={path: ours()}, contents={ID: EDITED})

    assert steps(it) == ["replace changed: W.jpg"]
    assert [action.displaces for action in plan(it).actions] == [True]
    carry_out(it, plan(it).actions)
    assert it.tree.content("W.jpg") == EDITED
    assert list(it.quarantine.values()) == [PHOTO]


def test_listed_other_checksum_and_missing_is_downloaded():
    changed = asset(content=EDITED)
    it = world(changed, rows=(row(changed, "P.jpg"),))

    assert steps(it) == ["download changed: W.jpg"]


# -- listed, failed before -------------------------------------------------------------------------


def test_listed_and_failed_before_with_nothing_changed_is_known_and_not_asked_for():
    it = world(asset(), known_failures=frozenset({ID}))

    assert steps(it) == []
    assert plan(it).known == (ID,)
    assert plan(it).unchanged == 0


# -- listed, no row --------------------------------------------------------------------------------


def test_listed_without_a_row_the_row_of_the_same_bytes_whose_id_is_gone_is_rebound():
    it = world(asset(), rows=(row(asset(OLD_ID), "W.jpg"),), disk={"W.jpg": ours()})

    assert steps(it) == ["rebind re-uploaded: W.jpg"]


def test_a_rebound_row_goes_on_as_any_other():
    it = world(asset(), rows=(row(asset(OLD_ID), "P.jpg"),), disk={"P.jpg": ours()})

    assert steps(it) == ["rebind re-uploaded: P.jpg", "move renamed: W.jpg <- P.jpg"]


def test_listed_without_a_row_the_same_bytes_at_the_wanted_path_are_adopted():
    it = world(asset(), disk={"W.jpg": theirs(PHOTO)})

    assert steps(it) == ["adopt found: W.jpg"]


@pytest.mark.parametrize("name", candidates("W.jpg", ID)[1:])
def test_listed_without_a_row_the_same_bytes_at_a_collision_name_are_adopted(name: str):
    it = world(asset(), disk={"W.jpg": theirs(), name: theirs(PHOTO)})

    assert steps(it) == [f"adopt found: {name}"]


def test_listed_without_a_row_the_same_bytes_in_quarantine_are_restored():
    it = world(asset(), quarantine={".mirror/quarantine/1/old.jpg": PHOTO})

    assert steps(it) == ["restore found: W.jpg <- .mirror/quarantine/1/old.jpg"]


def test_listed_without_a_row_the_same_bytes_elsewhere_are_copied():
    it = world(asset(), disk={"elsewhere.jpg": theirs(PHOTO)})

    assert steps(it) == ["copy found: W.jpg <- elsewhere.jpg"]
    carry_out(it, plan(it).actions)
    assert it.tree.content("elsewhere.jpg") == PHOTO


def test_listed_without_a_row_is_downloaded_as_new():
    assert steps(world(asset())) == ["download new: W.jpg"]


@pytest.mark.parametrize("thing", [theirs(), FOLDER, LINK])
def test_listed_without_a_row_something_foreign_at_the_wanted_path_gives_the_next_name(
    thing: Node,
):
    it = world(asset(), disk={"W.jpg": thing})

    assert steps(it) == [f"download new: W-{id8(ID)}.jpg"]


def test_listed_without_a_row_and_without_a_name_left_is_a_conflict():
    it = world(asset(), disk=dict.fromkeys(candidates("W.jpg", ID), theirs()))

    assert steps(it) == ["conflict no name is left: W.jpg"]


# -- not listed, listing complete ------------------------------------------------------------------

QUARANTINED = Sentence(OnGone.QUARANTINE, Verdict.TRASHED)
OFFLINE = Sentence(OnGone.KEEP, Verdict.OFFLINE)


def test_not_listed_as_recorded_is_retained():
    it = world(rows=(row(asset(), "W.jpg"),), disk={"W.jpg": ours()})

    assert steps(it) == ["retain not listed any more: W.jpg"]


def test_not_listed_and_retained_already_is_left_alone():
    kept = row(asset(), "W.jpg", state=RowState.RETAINED)

    assert steps(world(rows=(kept,), disk={"W.jpg": ours()})) == []


@pytest.mark.parametrize("state", RowState)
def test_not_listed_as_recorded_is_removed_where_that_is_the_policy(state: RowState):
    known = row(asset(), "W.jpg", state=state)
    it = world(rows=(known,), disk={"W.jpg": ours()}, sentence=QUARANTINED)

    assert steps(it) == ["remove in the trash: W.jpg -> quarantine"]


def test_not_listed_and_kept_for_a_reason_is_retained_with_it():
    it = world(rows=(row(asset(), "W.jpg"),), disk={"W.jpg": ours()}, sentence=OFFLINE)

    assert steps(it) == ["retain offline on the server: W.jpg"]


def test_not_listed_and_retained_for_another_reason_is_told_the_new_one():
    kept = row(asset(), "W.jpg", state=RowState.RETAINED, reason=Verdict.TRASHED.value)
    same = replace(kept, reason=Verdict.OFFLINE.value)

    assert steps(world(rows=(kept,), disk={"W.jpg": ours()}, sentence=OFFLINE)) == [
        "retain offline on the server: W.jpg"
    ]
    assert steps(world(rows=(same,), disk={"W.jpg": ours()}, sentence=OFFLINE)) == []


def test_not_listed_and_nothing_learnt_keeps_what_was_known():
    kept = row(asset(), "W.jpg", state=RowState.RETAINED, reason=Verdict.TRASHED.value)
    unknown = Sentence(OnGone.KEEP, Verdict.UNKNOWN)

    assert steps(world(rows=(kept,), disk={"W.jpg": ours()}, sentence=unknown)) == []


def test_listed_again_after_it_was_seen_in_the_trash_is_no_longer_proved_removed():
    known = row(asset(), "W.jpg", seen_trashed_at=UPLOADED_AT)
    it = world(asset(), rows=(known,), disk={"W.jpg": ours()})

    assert steps(it) == ["adopt listed again: W.jpg"]


@pytest.mark.parametrize("sentence", [None, QUARANTINED])
def test_not_listed_and_missing_is_forgotten(sentence: Sentence | None):
    it = world(rows=(row(asset(), "W.jpg"),), sentence=sentence)

    assert steps(it) == ["forget not listed any more: W.jpg"]


@pytest.mark.parametrize("sentence", [None, QUARANTINED])
def test_not_listed_with_other_bytes_is_disowned_and_stays(sentence: Sentence | None):
    it = world(rows=(row(asset(), "W.jpg"),), disk={"W.jpg": theirs()}, sentence=sentence)

    assert steps(it) == ["disown drifted: W.jpg"]


# -- not listed, listing incomplete, or no row -----------------------------------------------------


@pytest.mark.parametrize("node", [ours(), theirs(), None])
def test_not_listed_while_the_listing_is_incomplete_nothing_is_done(node: Node | None):
    it = world(
        rows=(row(asset(), "W.jpg"),),
        disk={"W.jpg": node} if node else {},
        complete=False,
        sentence=QUARANTINED,
    )

    assert steps(it) == []


@pytest.mark.parametrize("node", [ours(), None])
def test_not_listed_where_several_selections_share_a_destination_nothing_is_done(
    node: Node | None,
):
    it = world(
        rows=(row(asset(), "W.jpg"),),
        disk={"W.jpg": node} if node else {},
        removes=False,
        sentence=QUARANTINED,
    )

    assert steps(it) == []


def test_what_has_no_row_and_is_not_listed_is_left_alone():
    assert steps(world(disk={"foreign.jpg": theirs()}, sentence=QUARANTINED)) == []


# -- listed again ----------------------------------------------------------------------------------


def test_a_retained_row_that_is_listed_again_is_adopted():
    kept = row(asset(), "W.jpg", state=RowState.RETAINED)

    assert steps(world(asset(), rows=(kept,), disk={"W.jpg": ours()})) == [
        "adopt listed again: W.jpg"
    ]


def test_a_retained_row_that_is_listed_again_under_another_name_is_moved():
    kept = row(asset(), "P.jpg", state=RowState.RETAINED)
    it = world(asset(), rows=(kept,), disk={"P.jpg": ours()})

    assert steps(it) == ["move renamed: W.jpg <- P.jpg"]
    carry_out(it, plan(it).actions)
    assert it.rows[ID].state is RowState.PUBLISHED


def test_a_retained_row_that_is_listed_again_with_other_bytes_is_replaced():
    changed = asset(content=EDITED)
    kept = row(changed, "W.jpg", state=RowState.RETAINED)

    assert steps(world(changed, rows=(kept,), disk={"W.jpg": ours()})) == ["replace changed: W.jpg"]


def test_a_retained_row_that_is_listed_again_without_its_file_is_downloaded():
    kept = row(asset(), "W.jpg", state=RowState.RETAINED)

    assert steps(world(asset(), rows=(kept,))) == ["download lost: W.jpg"]


# -- re-uploads ------------------------------------------------------------------------------------


def test_a_row_whose_own_id_is_listed_is_never_rebound():
    it = world(
        asset(),
        asset(OLD_ID),
        rows=(row(asset(OLD_ID), "W.jpg"),),
        disk={"W.jpg": ours()},
        bases={ID: "new.jpg"},
    )

    assert steps(it) == ["copy found: new.jpg <- W.jpg"]


def test_nothing_is_rebound_while_the_listing_is_incomplete():
    it = world(asset(), rows=(row(asset(OLD_ID), "P.jpg"),), disk={"P.jpg": ours()}, complete=False)

    assert steps(it) == ["copy found: W.jpg <- P.jpg"]


def test_another_owners_row_is_not_rebound():
    somebody = row(asset(OLD_ID), "P.jpg", owner_id="somebody")
    it = world(asset(), rows=(somebody,), disk={"P.jpg": ours()})

    assert steps(it) == ["copy found: W.jpg <- P.jpg", "retain not listed any more: P.jpg"]


def test_of_several_rows_of_the_same_bytes_each_goes_to_one_asset():
    rows = tuple(row(asset(f"{OLD_ID[:-1]}{end}"), f"P{end}.jpg") for end in "78")
    it = world(asset(), rows=rows, disk={"P7.jpg": ours(), "P8.jpg": ours()})

    assert steps(it) == [
        "rebind re-uploaded: P7.jpg",
        "move renamed: W.jpg <- P7.jpg",
        "retain not listed any more: P8.jpg",
    ]


def test_a_row_whose_file_is_not_as_recorded_is_not_rebound():
    it = world(asset(), rows=(row(asset(OLD_ID), "P.jpg"),), disk={"P.jpg": theirs()})

    assert steps(it) == ["disown drifted: P.jpg", "download new: W.jpg"]


def test_a_rebound_row_may_change_the_case_of_its_name():
    it = world(asset(), rows=(row(asset(OLD_ID), "w.JPG"),), disk={"w.JPG": ours()})

    assert steps(it) == ["rebind re-uploaded: w.JPG", "move renamed: W.jpg <- w.JPG"]


def test_the_place_of_a_rebound_row_that_moves_is_free():
    it = world(
        asset(),
        asset(SECOND_ID, EDITED),
        rows=(row(asset(OLD_ID), "P.jpg"),),
        disk={"P.jpg": ours()},
        bases={SECOND_ID: "P.jpg"},
        contents={SECOND_ID: EDITED},
    )

    assert steps(it) == [
        "rebind re-uploaded: P.jpg",
        "move renamed: W.jpg <- P.jpg",
        "download new: P.jpg",
    ]


def test_an_external_file_is_rebound_only_while_its_time_is_the_same():
    old = row(external(asset(OLD_ID)), "W.jpg", checksum=external(asset()).checksum)
    disk = {"W.jpg": ours()}
    same, later = external(asset()), replace(external(asset()), file_modified_at=None)

    assert steps(world(same, rows=(old,), disk=disk)) == ["rebind re-uploaded: W.jpg"]
    assert steps(world(later, rows=(old,), disk=disk))[0] == f"download new: W-{id8(ID)}.jpg"


# -- external libraries ----------------------------------------------------------------------------


def test_an_external_asset_adopts_a_file_of_its_size_as_unproved():
    it = world(external(asset()), disk={"W.jpg": theirs(b"12345")})

    assert steps(it) == ["adopt unproved: W.jpg"]
    carry_out(it, plan(it).actions)
    assert it.rows[ID].sha1 is None
    assert steps(it) == []


def test_an_external_asset_with_another_size_takes_the_next_name():
    it = world(external(asset()), disk={"W.jpg": theirs(b"1234")})

    assert steps(it) == [f"download new: W-{id8(ID)}.jpg"]


def test_an_external_file_with_another_etag_is_replaced():
    known = row(external(asset()), "W.jpg", etag="old", file_modified_at=None)

    assert steps(world(external(asset()), rows=(known,), disk={"W.jpg": ours()})) == [
        "replace changed: W.jpg"
    ]


def test_a_rotten_external_file_of_the_same_size_is_not_adopted_for_its_size():
    it = world(
        external(asset()), rows=(row(external(asset()), "W.jpg"),), disk={"W.jpg": theirs(b"12345")}
    )

    assert steps(it) == ["download drifted: W.jpg"]


def test_a_lost_external_file_is_adopted_only_with_the_bytes_that_it_had():
    lost = row(external(asset()), "P.jpg")
    it = world(external(asset()), rows=(lost,), disk={"W.jpg": theirs(PHOTO)})
    other = world(external(asset()), rows=(lost,), disk={"W.jpg": theirs(b"12345")})

    assert steps(it) == ["adopt found: W.jpg"]
    assert steps(other) == [f"download lost: W-{id8(ID)}.jpg"]


# -- live photos -----------------------------------------------------------------------------------

STILL, VIDEO = asset(), asset(SECOND_ID, b"video")
PAIR = (STILL, Listed(VIDEO, STILL))
PAIR_CONTENTS = {SECOND_ID: b"video"}


def test_a_live_photo_is_named_as_a_unit():
    it = world(*PAIR, bases={ID: "W.HEIC"}, disk={"W.MOV": theirs()})

    assert steps(it) == [f"download new: W-{id8(ID)}.HEIC", f"download new: W-{id8(ID)}.MOV"]


@pytest.mark.parametrize("changed", ["still", "video"])
def test_where_one_half_of_a_live_photo_changed_the_other_stays(changed: str):
    rows = (row(STILL, "W.HEIC"), row(VIDEO, "W.MOV", b"video"))
    index, path = (0, "W.HEIC") if changed == "still" else (1, "W.MOV")
    stale = replace(rows[index], checksum=sha1(b"old"), sha1=sha1(b"photo"))
    rows = (stale, rows[1]) if index == 0 else (rows[0], replace(stale, sha1=sha1(b"video")))
    disk = {"W.HEIC": ours(), "W.MOV": ours(b"video")}
    it = world(*PAIR, rows=rows, disk=disk, bases={ID: "W.HEIC"}, contents=PAIR_CONTENTS)

    assert steps(it) == [f"replace changed: {path}"]


def test_a_lost_video_keeps_its_path_and_a_new_one_takes_its_stills_suffix():
    path = f"W-{id8(ID)}.HEIC"
    still = row(STILL, path, base="W.HEIC")
    it = world(*PAIR, rows=(still,), disk={path: ours()}, bases={ID: "W.HEIC"})

    assert steps(it) == [f"download new: W-{id8(ID)}.MOV"]


def test_both_halves_of_a_live_photo_move_together():
    rows = (row(STILL, "P.HEIC"), row(VIDEO, "P.MOV", b"video"))
    disk = {"P.HEIC": ours(), "P.MOV": ours(b"video"), "W.MOV": theirs()}
    it = world(*PAIR, rows=rows, disk=disk, bases={ID: "W.HEIC"}, contents=PAIR_CONTENTS)

    assert steps(it) == [
        f"move renamed: W-{id8(ID)}.HEIC <- P.HEIC",
        f"move renamed: W-{id8(ID)}.MOV <- P.MOV",
    ]


# -- what stands in the way ------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [FOLDER, LINK])
def test_a_folder_or_link_in_place_of_a_file_stays_and_the_file_gets_the_next_name(thing: Node):
    it = world(asset(), rows=(row(asset(), "W.jpg"),), disk={"W.jpg": thing})

    assert steps(it)[-1].endswith(f": W-{id8(ID)}.jpg")
    carry_out(it, plan(it).actions)
    assert it.tree.get("W.jpg") == thing
    assert steps(it) == []


def test_a_file_where_a_lost_files_folder_was_leaves_no_name():
    lost = row(asset(), "d/W.jpg")
    it = world(asset(), rows=(lost,), bases={ID: "d/W.jpg"}, disk={"d": theirs()})

    assert steps(it) == ["conflict no name is left: d/W.jpg"]


def test_a_file_that_only_shares_its_folded_name_with_a_lost_one_is_never_displaced():
    it = world(asset(), rows=(row(asset(), "W.jpg"),), disk={"w.JPG": theirs()})

    assert steps(it) == ["disown drifted: W.jpg", f"download drifted: W-{id8(ID)}.jpg"]


def test_of_two_files_whose_names_differ_by_case_the_one_with_the_bytes_is_adopted():
    it = world(asset(), disk={"W.jpg": theirs(), "w.JPG": theirs(PHOTO)})

    assert steps(it) == ["adopt found: w.JPG"]
    carry_out(it, plan(it).actions)
    assert steps(it) == []


@pytest.mark.parametrize("state", RowState)
def test_the_path_of_a_row_that_is_not_listed_is_not_free(state: RowState):
    gone = row(asset(OLD_ID, EDITED), "W.jpg", EDITED, state=state)
    it = world(asset(), rows=(gone,), disk={"W.jpg": ours(EDITED)})

    assert steps(it)[0] == f"download new: W-{id8(ID)}.jpg"


def test_the_path_of_a_row_that_is_forgotten_is_free():
    it = world(asset(), rows=(row(asset(OLD_ID, EDITED), "W.jpg", EDITED),))

    assert steps(it) == ["forget not listed any more: W.jpg", "download new: W.jpg"]


@pytest.mark.parametrize(
    ("content", "node"), [(EDITED, ours()), (PHOTO, None)], ids=["replaced", "lost"]
)
def test_a_row_that_waits_for_its_bytes_gives_its_place_to_nobody(
    content: bytes, node: Node | None
):
    waiting = asset(content=content)
    it = world(
        waiting,
        asset(SECOND_ID, STRANGE),
        rows=(row(waiting, "P.jpg"),),
        disk={"P.jpg": node} if node else {},
        bases={SECOND_ID: "P.jpg"},
    )

    assert f"download new: P-{id8(SECOND_ID)}.jpg" in steps(it)


def test_bytes_beside_a_file_that_moves_are_not_adopted_under_its_name():
    it = world(
        asset(),
        asset(SECOND_ID, EDITED),
        rows=(row(asset(), "P.jpg"),),
        disk={"P.jpg": ours(), "p.JPG": theirs(EDITED)},
        bases={SECOND_ID: "P.jpg"},
        contents={SECOND_ID: EDITED},
    )

    assert steps(it) == [
        "move renamed: W.jpg <- P.jpg",
        f"copy found: P-{id8(SECOND_ID)}.jpg <- p.JPG",
    ]


def test_a_mover_without_a_name_gives_its_place_to_nobody():
    it = world(
        asset(),
        asset(SECOND_ID, EDITED),
        rows=(row(asset(), "P.jpg"),),
        disk={"P.jpg": ours(), **dict.fromkeys(candidates("W.jpg", ID), theirs())},
        bases={SECOND_ID: "P.jpg"},
    )

    assert steps(it) == [
        f"download new: P-{id8(SECOND_ID)}.jpg",
        "conflict no name is left: W.jpg",
    ]


def test_a_name_that_became_the_one_already_given_only_changes_the_row():
    given = f"W-{id8(ID)}.jpg"
    known = row(asset(), given, base="W.jpg")
    it = world(asset(), rows=(known,), disk={given: ours()}, bases={ID: given})

    assert steps(it) == [f"adopt renamed: {given}"]
    carry_out(it, plan(it).actions)
    assert it.rows[ID].base == given
    assert steps(it) == []


def test_a_file_where_a_folder_is_wanted_is_free_once_it_has_moved():
    it = world(
        asset(),
        asset(SECOND_ID, EDITED),
        rows=(row(asset(), "d"),),
        disk={"d": ours()},
        bases={SECOND_ID: "d/new.jpg"},
        contents={SECOND_ID: EDITED},
    )

    assert steps(it) == ["move renamed: W.jpg <- d", "download new: d/new.jpg"]
    carry_out(it, plan(it).actions)


def test_the_older_upload_gets_the_plain_name():
    younger = asset(uploaded_at=UPLOADED_AT + timedelta(days=1))
    it = world(younger, asset(SECOND_ID, EDITED))

    assert steps(it) == [f"download new: W-{id8(ID)}.jpg", "download new: W.jpg"]


# -- the plan --------------------------------------------------------------------------------------


def test_every_kind_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted(Kind)


def test_a_difference_that_needs_nothing_is_counted_as_unchanged():
    known = row(external(asset()), "W.jpg")
    item = Difference(asset=external(asset()), base="W.jpg", row=known)

    whole = make_plan(
        [item],
        [],
        Disk(holders={fold("W.jpg"): ID}),
        complete=True,
        unchanged=3,
    )

    assert not whole.changes
    assert whole.unchanged == 4


def test_an_action_without_an_asset_is_told_by_its_row():
    let_go = Action(
        kind=Kind.RETAIN, reason=Reason.UNLISTED, path="W.jpg", row=row(asset(), "W.jpg")
    )

    assert let_go.asset_id == ID
