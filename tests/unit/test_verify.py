"""What is damage, what is an edit, and what a run says of it all."""

from dataclasses import replace
from fractions import Fraction

import pytest

from mirror.cli.main import make_parser
from mirror.core.model import Entry, EntryKind, Row
from mirror.core.verify import Condition, Found, Verification, judge, quota
from mirror.errors import ExitCode

ROW = Row(
    asset_id="a", owner_id="me", checksum=b"1", base="x", path="x", sha1=b"1", size_bytes=5,
    mtime_ns=7,
)  # fmt: skip
SAME = Entry("x", size_bytes=5, mtime_ns=7, sha1=b"1")


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (SAME, Condition.VERIFIED),
        (replace(SAME, mtime_ns=8), Condition.VERIFIED),
        (replace(SAME, sha1=b"2"), Condition.DAMAGED),
        (replace(SAME, sha1=b"2", mtime_ns=8), Condition.DRIFTED),
        (replace(SAME, sha1=b"2", size_bytes=4), Condition.DRIFTED),
        (replace(SAME, sha1=None), Condition.UNREADABLE),
        (Entry("x", EntryKind.LINK), Condition.DRIFTED),
        (Entry("x", EntryKind.FOLDER), Condition.DRIFTED),
        (None, Condition.MISSING),
    ],
)
def test_what_lies_there_is_judged_by_the_row(entry: Entry | None, wanted: Condition):
    assert judge(ROW, entry) is wanted


def test_a_disk_that_gives_no_bytes_is_damage():
    assert judge(ROW, replace(SAME, sha1=None), medium_failed=True) is Condition.DAMAGED


@pytest.mark.parametrize("files", [0, 1, 19, 20, 21, 999])
def test_enough_samples_hold_every_file(files: int):
    assert files <= 20 * quota(Fraction(5, 100), files) < files + 20


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        ([], ExitCode.OK),
        ([Condition.REPAIRED, Condition.PROVED, Condition.REPLACED, Condition.UNPROVED], 0),
        ([Condition.MISSING], ExitCode.PARTIAL),
        ([Condition.UNREADABLE, Condition.FAILED], ExitCode.PARTIAL),
        ([Condition.MISSING, Condition.DAMAGED], ExitCode.DAMAGED),
        ([Condition.HELD, Condition.DRIFTED], ExitCode.HELD),
    ],
)
def test_the_worst_that_was_found_is_the_exit_code(conditions: list[Condition], code: int):
    report = Verification("me", "/here")
    for condition in conditions:
        report.add(Found(condition, ROW))
    assert report.exit_code == code


def test_a_repair_changes_what_is_counted():
    report = Verification("me", "/here")
    report.add(Found(Condition.DAMAGED, ROW))
    report.become(0, Found(Condition.REPAIRED, ROW))
    assert (report.counted, report.exit_code) == ({"repaired": 1}, ExitCode.OK)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--budget", "10m"], ("budget", 600)),
        (["--budget", "1h30m"], ("budget", 5400)),
        (["--budget", "90s"], ("budget", 90)),
        (["--budget", "90"], ("budget", 90)),
        (["--sample", "5%"], ("sample", Fraction(1, 20))),
        (["--sample", "0.5%"], ("sample", Fraction(1, 200))),
        (["--sample", "100%"], ("sample", 1)),
    ],
)
def test_samples_and_budgets_are_understood(args: list[str], wanted: tuple[str, object]):
    told = make_parser().parse_args(["verify", "family", *args])
    assert getattr(told, wanted[0]) == wanted[1]


@pytest.mark.parametrize(
    "args",
    [
        ["--sample", "5"], ["--sample", "0%"], ["--sample", "101%"], ["--sample", "x%"],
        ["--sample", "1/0%"], ["--budget", "0"], ["--budget", ""], ["--budget", "soon"],
        ["--budget", "m"],
    ],
)  # fmt: skip
def test_what_is_no_sample_or_budget_is_refused(
    args: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as refused:
        make_parser().parse_args(["verify", "family", *args])
    assert refused.value.code == ExitCode.USAGE
    assert "not a" in capsys.readouterr().err
