"""Names for a whole plan at once; what becomes of an asset with its name stands in test_plan."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.core.allocate import Claim, allocate, ancestors, names_of
from mirror.core.layout import fold
from mirror.core.model import Asset, Disk, Entry, EntryKind, Row
from mirror.core.names import candidates, id8
from tests.world import UPLOADED_AT, an_asset

# The last two have the same short id.
FIRST, SECOND, THIRD, FOURTH = (
    an_asset(asset_id)
    for asset_id in (
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-000000000002",
        "10000000-0000-4000-8000-00000000000f",
        "20000000-0000-4000-8000-00000000000f",
    )
)


def claim(asset: Asset, base: str = "a.jpg", **more: object) -> Claim:
    return replace(Claim(asset=asset, base=base), **more)  # type: ignore[arg-type]  # each test's


def given(claims: Iterable[Claim], disk: Disk | None = None, **stills: Row) -> list[str | None]:
    """The path of each claim, in their order."""
    claims = list(claims)
    still_rows = {row.asset_id: row for row in stills.values()}
    paths = allocate(claims, disk or Disk(), still_rows)
    assert allocate(claims[::-1], disk or Disk(), still_rows) == paths
    return [paths[it.asset.id] for it in claims]


def row_of(asset: Asset, path: str, base: str = "a.jpg") -> Row:
    return Row(
        asset_id=asset.id, owner_id=asset.owner_id, checksum=asset.checksum, base=base, path=path
    )


def held_by(*rows: Row) -> dict[str, str]:
    return {fold(row.path): row.asset_id for row in rows}


def lying(*entries: Entry) -> Disk:
    return Disk(foreign={fold(entry.path): (entry,) for entry in entries})


def test_names_come_in_the_order_base_short_id_id():
    paths = given(claim(asset) for asset in (FIRST, SECOND, THIRD, FOURTH))

    assert paths == ["a.jpg", "a-00000002.jpg", "a-0000000f.jpg", f"a-{FOURTH.id}.jpg"]


def test_the_oldest_upload_comes_first_then_the_smallest_id():
    older = replace(SECOND, uploaded_at=UPLOADED_AT - timedelta(days=1))

    assert given([claim(FIRST), claim(older), claim(THIRD)]) == [
        "a-00000001.jpg",
        "a.jpg",
        "a-0000000f.jpg",
    ]


@pytest.mark.parametrize("twin", ["A.jpg", "a.JPG"])
def test_names_that_differ_only_by_case_are_one(twin: str):
    assert given([claim(FIRST), claim(SECOND, twin)])[1] == candidates(twin, SECOND.id)[1]


def test_names_that_differ_only_by_normal_form_are_one():
    paths = given([claim(FIRST, "é.jpg"), claim(SECOND, "e\u0301.jpg")])

    assert paths[1] == "e\u0301-00000002.jpg"


def test_whose_bytes_lie_there_comes_before_who_was_first():
    entry = Entry("a.jpg")
    mine = claim(SECOND, is_mine=lambda found: found == entry)

    assert given([claim(FIRST), mine], lying(entry)) == ["a-00000001.jpg", "a.jpg"]


def test_bytes_at_any_of_its_names_are_found():
    name = f"a-{FIRST.id}.jpg"
    mine = claim(FIRST, is_mine=lambda entry: entry.path == name)

    assert given([mine], lying(Entry(name))) == [name]


@pytest.mark.parametrize("kind", [EntryKind.FILE, EntryKind.LINK, EntryKind.OTHER])
def test_what_is_foreign_takes_a_name(kind: EntryKind):
    assert given([claim(FIRST)], lying(Entry("A.JPG", kind))) == ["a-00000001.jpg"]


def test_a_folder_takes_a_name():
    assert given([claim(FIRST)], Disk(folders=frozenset({"a.jpg"}))) == ["a-00000001.jpg"]


def test_a_name_that_this_plan_makes_a_folder_is_taken():
    assert given([claim(FIRST, "a/b.jpg"), claim(SECOND, "a")]) == ["a/b.jpg", "a-00000002"]


def test_a_name_below_a_file_of_this_plan_is_none():
    assert given([claim(FIRST, "a"), claim(SECOND, "a/b.jpg")]) == ["a", None]


def test_a_name_below_a_foreign_file_is_none():
    assert given([claim(FIRST, "a/b.jpg")], lying(Entry("A"))) == [None]


def test_the_path_of_a_row_whose_file_is_missing_may_become_a_folder():
    row = row_of(SECOND, "a")
    disk = Disk(holders=held_by(row), missing=frozenset({SECOND.id}))

    assert given([claim(FIRST, "a/b.jpg")], disk) == ["a/b.jpg"]
    assert given([claim(FIRST, "a/b.jpg")], replace(disk, missing=frozenset())) == [None]


def test_a_file_moves_below_its_own_old_name_unless_other_bytes_lie_there():
    row = row_of(FIRST, "a", base="a")
    disk = Disk(holders=held_by(row))
    mover = claim(FIRST, "a/b.jpg", row=row)

    assert given([mover], disk) == ["a/b.jpg"]
    assert given([mover], replace(disk, other={FIRST.id: Entry("a")})) == [None]


def test_of_two_lost_files_one_below_the_other_the_older_keeps_its_path():
    rows = row_of(FIRST, "a/b.jpg", base="a/b.jpg"), row_of(SECOND, "a", base="a")
    lost = [claim(FIRST, "a/b.jpg", row=rows[0]), claim(SECOND, "a", row=rows[1])]
    disk = Disk(holders=held_by(*rows), missing=frozenset({FIRST.id, SECOND.id}))

    assert given(lost, disk) == ["a/b.jpg", "a-00000002"]


def test_a_row_keeps_its_path_before_anyone_else_chooses():
    row = row_of(SECOND, "a.jpg")

    paths = given([claim(FIRST), claim(SECOND, row=row)], Disk(holders=held_by(row)))

    assert paths == ["a-00000001.jpg", "a.jpg"]


def test_a_row_keeps_a_suffix_that_it_no_longer_needs():
    row = row_of(FIRST, "a-00000001.jpg")

    assert given([claim(FIRST, row=row)], Disk(holders=held_by(row))) == ["a-00000001.jpg"]


def test_the_path_of_a_row_that_agrees_is_taken():
    assert given([claim(FIRST)], Disk(holders=held_by(row_of(SECOND, "a.jpg")))) == [
        "a-00000001.jpg"
    ]


def test_an_intact_file_that_moves_gives_its_name_away():
    row = row_of(SECOND, "a.jpg", base="old.jpg")
    mover = claim(SECOND, "new.jpg", row=row, intact=True)

    assert given([claim(FIRST), mover], Disk(holders=held_by(row))) == ["a.jpg", "new.jpg"]


def test_two_intact_files_exchange_their_names():
    rows = row_of(FIRST, "a.jpg"), row_of(SECOND, "b.jpg", base="b.jpg")
    movers = [
        claim(FIRST, "b.jpg", row=rows[0], intact=True),
        claim(SECOND, "a.jpg", row=rows[1], intact=True),
    ]

    assert given(movers, Disk(holders=held_by(*rows))) == ["b.jpg", "a.jpg"]


def test_a_live_photo_takes_the_first_suffix_that_is_free_for_both():
    pair = [claim(FIRST, "a.HEIC"), claim(SECOND, "a.MOV", still=FIRST)]

    assert given(pair, lying(Entry("a.mov"))) == ["a-00000001.HEIC", "a-00000001.MOV"]


def test_a_live_photo_of_which_one_half_lies_at_its_name_is_completed_there():
    video = claim(SECOND, "a.MOV", still=FIRST, is_mine=lambda entry: "00000001" in entry.path)

    paths = given([claim(FIRST, "a.HEIC"), video], lying(Entry("a-00000001.MOV")))

    assert paths == ["a-00000001.HEIC", "a-00000001.MOV"]


def test_where_bytes_lie_at_two_names_and_one_does_not_do_the_other_is_taken():
    still = claim(FIRST, "a.HEIC", is_mine=lambda entry: entry.path.endswith("HEIC"))
    video = claim(SECOND, "a.MOV", still=FIRST)
    disk = lying(Entry("a.HEIC"), Entry("a.MOV"), Entry("a-00000001.HEIC"))

    assert given([still, video], disk) == ["a-00000001.HEIC", "a-00000001.MOV"]


def test_a_video_follows_the_suffix_of_a_still_that_agrees():
    still = row_of(FIRST, "a-00000001.HEIC", base="a.HEIC")

    paths = given([claim(SECOND, "a.MOV", still=FIRST)], still=still)

    assert paths == ["a-00000001.MOV"]


def test_a_video_follows_the_suffix_of_a_still_that_is_written_again():
    still = row_of(FIRST, "a-00000001.HEIC", base="a.HEIC")
    video = claim(SECOND, "a.MOV", still=FIRST)

    paths = given([claim(FIRST, "a.HEIC", row=still), video], Disk(holders=held_by(still)))

    assert paths == ["a-00000001.HEIC", "a-00000001.MOV"]


def test_a_live_photo_without_a_common_name_is_named_one_by_one():
    names = [Entry(name) for name in candidates("a.MOV", FIRST.id)]
    pair = [claim(FIRST, "a.HEIC"), claim(SECOND, "a.MOV", still=FIRST)]

    assert given(pair, lying(*names)) == ["a.HEIC", f"a-{id8(SECOND.id)}.MOV"]


def test_every_name_that_may_be_given_is_told():
    told = names_of("a.MOV", FIRST.id, SECOND.id)

    assert told == (*candidates("a.MOV", FIRST.id), *candidates("a.MOV", SECOND.id))


def test_the_folders_above_a_key_come_nearest_first():
    assert list(ancestors("a/b/c")) == ["a/b", "a"]
    assert list(ancestors("a")) == []
