import pytest

from mirror.core.guard import Allowed, guard
from mirror.core.model import Destination, Limit, Row
from mirror.core.plan import Action, Kind, Plan, Reason

DESTINATION = Destination(path="/srv/photos")
GENEROUS = Limit(count=1000, share=1.0)


def lost(count: int) -> list[Action]:
    return [
        Action(kind=Kind.DOWNLOAD, reason=Reason.LOST, path=f"lost {number}")
        for number in range(count)
    ]


def replaced(count: int) -> list[Action]:
    return [
        Action(kind=Kind.REPLACE, reason=Reason.CHANGED, path=f"new {number}", displaces=True)
        for number in range(count)
    ]


def drifted(count: int) -> list[Action]:
    return [
        Action(kind=Kind.DOWNLOAD, reason=Reason.DRIFTED, path=f"odd {number}", displaces=True)
        for number in range(count)
    ]


def removed(count: int) -> list[Action]:
    row = Row(asset_id="1", owner_id="me", checksum=b"", base="", path="")
    return [
        Action(kind=Kind.REMOVE, reason=Reason.UNLISTED, path=f"gone {number}", row=row)
        for number in range(count)
    ]


def others() -> list[Action]:
    pairs = [
        (Kind.DOWNLOAD, Reason.NEW), (Kind.DOWNLOAD, Reason.CHANGED), (Kind.ADOPT, Reason.FOUND),
        (Kind.MOVE, Reason.RENAMED), (Kind.RETAIN, Reason.UNLISTED),
        (Kind.FORGET, Reason.UNLISTED), (Kind.DISOWN, Reason.DRIFTED),
    ]  # fmt: skip
    return [
        Action(kind=kind, reason=reason, path=f"{kind} {number}")
        for kind, reason in pairs
        for number in range(500)
    ]


def held(
    actions: list[Action],
    *,
    rows: int = 1000,
    destination: Destination = DESTINATION,
    allowed: Allowed | None = None,
) -> dict[str, int]:
    """How many actions are held, by what is said of them."""
    plan = Plan(tuple(actions))
    going, holds = guard(plan, destination, listed=1, rows=rows, allowed=allowed or Allowed())
    assert len(going.actions) + sum(len(hold.actions) for hold in holds) == len(actions)
    return {hold.what: len(hold.actions) for hold in holds}


@pytest.mark.parametrize(
    ("rows", "count", "is_held"),
    [
        (10, 10, False),  # up to ten are never held, even all of them
        (11, 11, True),
        (1000, 50, False),  # the share is exactly reached
        (1000, 51, True),
        (100_000, 100, False),  # the count is exactly reached
        (100_000, 101, True),
    ],
)
@pytest.mark.parametrize(
    ("what", "made"),
    [("lost files", lost), ("replacements", replaced), ("replacements", drifted)],
)
def test_more_than_ten_and_more_than_count_or_share_are_held(what, made, rows, count, is_held):
    assert held(made(count), rows=rows) == ({what: count} if is_held else {})


def test_replacements_and_drift_count_together():
    assert held(replaced(30) + drifted(30)) == {"replacements": 60}


def test_lost_files_and_replacements_count_each_for_itself():
    assert held(replaced(40) + lost(40)) == {}
    assert held(replaced(51) + lost(51)) == {"replacements": 51, "lost files": 51}


def test_removals_of_a_fifth_of_a_tree_are_held():
    assert held(removed(200))["removals"] == 200


def test_what_takes_nothing_away_is_never_held():
    assert held(others(), rows=1) == {}


def test_what_is_held_leaves_the_rest_of_the_plan_as_it_is():
    rest = others()
    plan = Plan((*rest, *lost(51)), unchanged=7, known=("known",), complete=False)

    going, (hold,) = guard(plan, DESTINATION, listed=1, rows=1000, allowed=Allowed())

    assert going == Plan(tuple(rest), unchanged=7, known=("known",), complete=False)
    assert list(hold.actions) == lost(51)


def test_the_limits_are_the_destinations_own():
    loose_on_lost = Destination(path="/srv", max_lost=GENEROUS)
    loose_on_removed = Destination(path="/srv", max_removed=GENEROUS)
    both = replaced(500) + lost(500)

    assert held(both, destination=loose_on_lost) == {"replacements": 500}
    assert held(both, destination=loose_on_removed) == {"lost files": 500}


@pytest.mark.parametrize(
    ("allowed", "what"),
    [(Allowed(removed=60), "lost files"), (Allowed(lost=60), "replacements")],
)
def test_as_many_as_a_person_allowed_go_through(allowed: Allowed, what: str):
    assert held(replaced(60) + lost(60), allowed=allowed) == {what: 60}


def test_one_more_than_allowed_holds_all_of_them():
    assert held(lost(61), allowed=Allowed(lost=60)) == {"lost files": 61}


def test_a_hold_tells_its_numbers_and_the_way_through():
    _, (hold,) = guard(Plan(tuple(lost(60))), DESTINATION, listed=1, rows=1000, allowed=Allowed())

    assert hold.reason == (
        "60 of 1000 files vanished from the disk; the limit is 100 files or 5% of them"
    )
    assert hold.way_through == "--allow-lost 60"


def test_an_empty_listing_over_files_that_are_here_is_held_as_a_whole():
    plan = Plan(
        (
            *removed(1),
            Action(kind=Kind.RETAIN, reason=Reason.UNLISTED, path="a"),
            Action(kind=Kind.FORGET, reason=Reason.UNLISTED, path="b"),
        )
    )

    going, (hold,) = guard(plan, DESTINATION, listed=0, rows=3, allowed=Allowed())

    assert going.actions == ()
    assert hold.actions == plan.actions
    assert hold.way_through == "--allow-removed 3"


def test_an_empty_listing_is_let_through_when_all_of_it_is_allowed():
    plan = Plan((Action(kind=Kind.RETAIN, reason=Reason.UNLISTED, path="a"),))

    assert guard(plan, DESTINATION, listed=0, rows=1, allowed=Allowed(removed=1)) == (plan, ())
