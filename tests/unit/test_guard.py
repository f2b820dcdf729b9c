from dataclasses import replace
from typing import Any

import pytest

from mirror.core.evidence import Sentence, Verdict
from mirror.core.guard import Allowed, Circumstances, Doubt, guard
from mirror.core.model import Destination, Limit, OnGone, Row
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


def removed(
    count: int, verdict: Verdict = Verdict.TRASHED, *, owner: str = "me", left_window: bool = False
) -> list[Action]:
    row = Row(asset_id="1", owner_id=owner, checksum=b"", base="", path="")
    sentence = Sentence(OnGone.QUARANTINE, verdict, left_window)
    return [
        Action(kind=Kind.REMOVE, reason=verdict, path=f"gone {number}", row=row, sentence=sentence)
        for number in range(count)
    ]


def knowing(
    *, listed: int = 1, rows: int = 1000, allowed: Allowed | None = None, **more: Any
) -> Circumstances:
    return Circumstances(listed=listed, rows=rows, allowed=allowed or Allowed(), **more)


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
    going, holds = guard(plan, destination, knowing(rows=rows, allowed=allowed or Allowed()))
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


def test_files_that_left_a_moving_window_do_not_count_against_the_limit():
    aged = removed(500, Verdict.UNMATCHED, left_window=True)
    assert held(aged) == {}
    assert held(aged + removed(51)) == {"removals": 51}


@pytest.mark.parametrize("verdict", [Verdict.UNMATCHED, Verdict.UNSHARED])
def test_what_another_filter_no_longer_selects_waits_until_the_filter_is_accepted(verdict: Verdict):
    plan = Plan((*removed(1, verdict), *removed(2)))

    going, (hold,) = guard(plan, DESTINATION, knowing(scope_changed=True))

    assert going.actions == tuple(removed(2))
    assert hold.way_through == "--accept-scope"
    assert hold.of_scope
    accepted = knowing(scope_changed=True, allowed=Allowed(scope=True))
    assert guard(plan, DESTINATION, accepted) == (plan, ())


def test_the_files_of_an_owner_of_whom_nothing_is_left_wait():
    plan = Plan((*removed(1, Verdict.UNMATCHED, owner="mum"), *removed(1, Verdict.UNMATCHED)))
    gone = frozenset({"mum"})

    going, (hold,) = guard(plan, DESTINATION, knowing(vanished_owners=gone))

    assert [action.row and action.row.owner_id for action in going.actions] == ["me"]
    assert hold.way_through == "--accept-scope"
    allowed = Allowed(scope=True)
    assert guard(plan, DESTINATION, knowing(vanished_owners=gone, allowed=allowed)) == (plan, ())


def test_a_doubt_holds_the_smallest_removal_and_where_it_says_so_replacements():
    doubt = Doubt(what="a doubt", reason="why", way_through="how")
    plan = Plan((*removed(1), *replaced(1), *lost(1)))

    going, (hold,) = guard(plan, DESTINATION, knowing(doubts=(doubt,)))
    assert going.actions == (*replaced(1), *lost(1))
    assert (hold.what, hold.way_through) == ("a doubt", "how")

    graver = replace(doubt, of_replacements=True)
    going, _ = guard(plan, DESTINATION, knowing(doubts=(graver,)))
    assert going.actions == tuple(lost(1))


def test_a_doubt_about_nothing_is_no_hold():
    doubt = Doubt(what="a doubt", reason="why", way_through="how", of_replacements=True)
    plan = Plan((*lost(1), *others()))
    assert guard(plan, DESTINATION, knowing(doubts=(doubt,))) == (plan, ())


def test_what_takes_nothing_away_is_never_held():
    assert held(others(), rows=1) == {}


def test_what_is_held_leaves_the_rest_of_the_plan_as_it_is():
    rest = others()
    plan = Plan((*rest, *lost(51)), unchanged=7, known=("known",), complete=False)

    going, (hold,) = guard(plan, DESTINATION, knowing())

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
    _, (hold,) = guard(Plan(tuple(lost(60))), DESTINATION, knowing())

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

    going, (hold,) = guard(plan, DESTINATION, knowing(listed=0, rows=3))

    assert going.actions == ()
    assert hold.actions == plan.actions
    assert hold.way_through == "--allow-removed 3"


def test_an_empty_listing_is_let_through_when_all_of_it_is_allowed():
    plan = Plan((Action(kind=Kind.RETAIN, reason=Reason.UNLISTED, path="a"),))

    allowed = Allowed(removed=1)
    assert guard(plan, DESTINATION, knowing(listed=0, rows=1, allowed=allowed)) == (plan, ())
