from itertools import combinations

import pytest

from mirror.core.report import Failed, Outcome, Report
from mirror.errors import (
    AccountError,
    AssetError,
    DestinationError,
    ExitCode,
    InterruptedRunError,
    LockedError,
    MirrorError,
    worst,
)

# Of several the first, as the README says.
PRECEDENCE = (130, 2, 4, 3, 6, 5, 7, 1, 8, 0)


def a_report(**changed: object) -> Report:
    return Report("family", "/srv/photos", **changed)  # type: ignore[arg-type]  # each test's own


def test_of_two_exit_codes_the_first_in_the_order_wins():
    for first, second in combinations(map(ExitCode, PRECEDENCE), 2):
        assert worst([first, second]) is first
        assert worst([second, first]) is first


def test_every_exit_code_has_its_place_and_none_is_fine():
    assert sorted(PRECEDENCE) == sorted(ExitCode)
    assert worst([]) is ExitCode.OK


def test_a_quiet_run_is_fine_and_changed_nothing():
    report = a_report(unchanged=5, outcomes={"1": Outcome.KNOWN, "2": Outcome.HELD})

    assert report.exit_code is ExitCode.OK
    assert not report.changed
    assert report.counts == {Outcome.UNCHANGED: 5, Outcome.HELD: 1, Outcome.KNOWN: 1}


def test_counts_come_in_the_order_of_outcomes_and_without_zeros():
    told = {"1": Outcome.FAILED, "2": Outcome.DOWNLOADED, "3": Outcome.DOWNLOADED}
    report = a_report(outcomes=told)

    assert list(report.counts.items()) == [(Outcome.DOWNLOADED, 2), (Outcome.FAILED, 1)]


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_leaves_the_destination_as_it_was_is_no_change(outcome: Outcome):
    quiet = {Outcome.UNCHANGED, Outcome.HELD, Outcome.POSTPONED, Outcome.KNOWN, Outcome.FAILED}

    assert a_report(outcomes={"1": outcome}).changed is (outcome not in quiet)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InterruptedRunError("stop"), 130),
        (DestinationError("full"), 4),
        (AccountError("away"), 3),
        (LockedError("busy"), 7),
        (None, 0),
    ],
)
def test_what_stopped_a_run_gives_its_exit_code(error: MirrorError | None, code: int):
    assert a_report(error=error).exit_code == code


def test_a_failed_asset_and_an_incomplete_listing_are_partial():
    failed = [Failed("a.jpg", AssetError("damaged"))]

    assert a_report(failures=failed).exit_code is ExitCode.PARTIAL
    assert a_report(complete=False).exit_code is ExitCode.PARTIAL


def test_what_waits_for_a_person_comes_before_what_failed():
    failed = [Failed("a.jpg", AssetError("damaged"))]
    report = a_report(failures=failed, holds=[("many are lost", "--allow-lost 60")])

    assert report.exit_code is ExitCode.HELD
