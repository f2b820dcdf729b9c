"""What a plan says of each path, in rclone's words."""

from dataclasses import replace

from mirror.core.check import Mark, Why, differences
from mirror.core.model import Disk, Entry, EntryKind, Row, RowState
from mirror.core.plan import Action, Kind, Reason

ROW = Row(asset_id="a", owner_id="me", checksum=b"1", base="x.jpg", path="x.jpg", sha1=b"1")
DRIFTED = Action(
    kind=Kind.DOWNLOAD,
    reason=Reason.DRIFTED,
    path="x.jpg",
    row=ROW,
    displaces=True,
    entry=Entry("x.jpg", sha1=b"2"),
)


def told(*actions: Action, disk: Disk | None = None, known: str = "") -> list[str]:
    found = differences(actions, (), disk or Disk(), known=frozenset(known))
    return [f"{checked.mark.value} {checked.path} {checked.why.value}" for checked in found]


def test_a_file_that_cannot_be_read_is_an_error():
    assert told(DRIFTED) == ["* x.jpg drifted"]
    unread = replace(DRIFTED, entry=Entry("x.jpg"))
    assert told(unread) == ["! x.jpg unreadable"]


def test_a_link_where_a_file_was_counts_as_nothing():
    link = Entry("x.jpg", EntryKind.LINK)
    assert told(replace(DRIFTED, entry=link)) == ["+ x.jpg drifted"]
    disown = Action(kind=Kind.DISOWN, reason=Reason.DRIFTED, path="x.jpg", row=ROW)
    assert told(disown, disk=Disk(other={"a": link})) == []
    assert told(disown) == ["- x.jpg disowned"]


def test_a_replacement_under_another_path_is_missing_there_and_left_over_here():
    action = Action(kind=Kind.REPLACE, reason=Reason.CHANGED, path="y.jpg", row=ROW, displaces=True)
    assert told(action) == ["- x.jpg changed", "+ y.jpg changed"]
    assert told(action, known="a") == ["! y.jpg damaged at the source"]


def test_an_asset_without_a_name_is_an_error_where_its_file_lies():
    action = Action(kind=Kind.CONFLICT, reason=Reason.NAME_TAKEN, path="y.jpg", row=ROW)
    assert told(action) == ["! x.jpg no name is left"]


def test_a_row_with_a_new_id_matches_unless_it_moves_too():
    rebind = Action(kind=Kind.REBIND, reason=Reason.REUPLOADED, path="x.jpg", row=ROW)
    move = Action(kind=Kind.MOVE, reason=Reason.RENAMED, path="y.jpg", source="x.jpg", row=ROW)
    assert told(rebind) == ["= x.jpg same"]
    assert told(rebind, move) == ["- x.jpg moved", "+ y.jpg moved"]


def test_a_path_that_one_asset_lost_and_another_adopts_matches():
    other = replace(ROW, asset_id="b")
    adopt = Action(kind=Kind.ADOPT, reason=Reason.FOUND, path="x.jpg", row=other)
    disown = Action(kind=Kind.DISOWN, reason=Reason.DRIFTED, path="x.jpg", row=ROW)
    foreign = Disk(foreign={"x.jpg": (Entry("x.jpg"),)})
    assert told(disown, adopt, disk=foreign) == ["= x.jpg same"]


def test_what_is_gone_on_both_sides_is_no_difference():
    assert told(Action(kind=Kind.FORGET, reason=Reason.UNLISTED, path="x.jpg", row=ROW)) == []


def test_what_was_retained_before_says_why():
    row = replace(ROW, state=RowState.RETAINED, reason="trashed")
    (found,) = differences((), [row], Disk(), known=frozenset())
    assert (found.mark, found.why, found.reason) == (
        Mark.MISSING_ON_SRC, Why.RETAINED, "trashed",
    )  # fmt: skip
