"""`mirror status` is honest about every mirror, whatever became of its last run."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror import settings, status_text
from mirror.last_run import LastRuns
from mirror.page import page
from mirror.page.words import Asked
from mirror.sandbox.faults import Answered
from mirror.status import Memory, Status, look
from tests.integration.command import Ended, mirror
from tests.integration.household import Household, household
from tests.integration.mirroring import whole

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Household]:
    async with household(tmp_path) as home:
        yield home


def looked_at(family: Household) -> list[Status]:
    """What one sees who asks in the environment of this test."""
    return list(look(family.profile, family.profile.mirrors, Memory.of_user()))


def lines(family: Household) -> str:
    """What `status` prints where nobody looks on."""
    asked = status_text.Asked(datetime.now(UTC))
    return "\n".join(line for one in family.look() for line in status_text.status_lines(one, asked))


async def test_a_mirror_that_ran_tells_its_success_and_what_it_keeps(family: Household):
    assert await family.codes() == [0]
    (seen,) = family.told()
    assert (seen["profile"], seen["mirror"], seen["account"]) == ("family", "all", "me")
    assert seen["destination"] == str(family.root)
    assert seen["last_run"]["counts"] == {"downloaded": 3}
    assert seen["last_run"]["exit_code"] == 0
    assert seen["last_run"]["received_bytes"] == 600
    assert seen["last_success_at"] == seen["last_run"]["ended_at"]
    assert seen["age_s"] in range(60)
    assert seen["stored"]["files"] == 3
    assert seen["stored"]["bytes"] == 600
    assert seen["stored"]["verified"]["share"] == 1
    assert seen["stored"]["quarantine"] == {"files": 0, "bytes": 0}
    assert seen["free_bytes"] > 0
    assert seen["error"] is None
    assert family.exit_code(36) == 0


async def test_a_dry_run_is_no_run(family: Household):
    await family.sync(dry=True)
    assert family.told()[0]["last_run"] is None
    assert not family.state.exists()


async def test_a_mirror_that_never_ran_has_no_success(family: Household):
    (seen,) = family.told()
    assert (seen["last_success_at"], seen["last_run"], seen["stored"]) == (None, None, None)
    assert family.exit_code() == 0
    assert family.exit_code(36) == 1


async def test_a_success_that_is_too_old_is_exit_code_1(family: Household):
    await family.sync()
    family.grow_older(hours=37)
    assert family.exit_code() == 0
    assert family.exit_code(36) == 1
    assert family.exit_code(48) == 0
    await family.sync()
    assert family.exit_code(36) == 0


async def test_a_success_in_the_future_is_none_to_rely_on(family: Household):
    await family.sync()
    family.grow_older(hours=-5)
    assert family.exit_code(36) == 1


async def test_a_run_that_fails_at_the_key_is_told_and_the_earlier_success_is_kept(
    family: Household,
):
    await family.sync()
    (before,) = family.told()
    family.use_key("a-key-that-was-revoked-0123456789")
    assert await family.codes() == [3]
    (seen,) = family.told()
    assert seen["last_run"]["exit_code"] == 3
    assert "key-refused" in seen["last_run"]["error"]
    assert seen["last_success_at"] == before["last_success_at"]
    assert seen["stored"]["files"] == 3
    assert "a-key-that-was-revoked" not in json.dumps(seen)
    # And the next success is the last one again.
    family.use_key(family.sandbox.api_keys["minimum"])
    assert await family.codes() == [0]
    (after,) = family.told()
    assert after["last_success_at"] > seen["last_run"]["ended_at"]
    assert after["last_run"]["exit_code"] == 0


async def test_a_first_run_that_fails_at_the_key_is_told(family: Household):
    family.use_key("not-a-key-0123456789")
    assert await family.codes() == [3]
    (seen,) = family.told()
    assert seen["last_run"]["exit_code"] == 3
    assert seen["last_success_at"] is None
    assert family.exit_code(36) == 1


async def test_a_nightly_run_that_fails_at_the_key_is_told_to_whoever_asks(
    family: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settings, "STATE_OF_UNITS", family.state)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state of root"))
    await family.sync()
    family.use_key("a-key-that-was-revoked-0123456789")
    assert await family.codes() == [3]
    (seen,) = looked = looked_at(family)
    assert seen.last is not None
    assert (seen.last.exit_code, seen.last_success_at is None) == (3, False)
    html = page(family.profile, looked, Asked(datetime.now(UTC), timedelta(days=3)))
    assert "no longer accepts" in html
    # A run by hand that comes later counts, and one by another mirror does not.
    LastRuns(tmp_path / "state of root").keep(replace(seen.last, mirror="family/other"))
    assert [one.last for one in looked_at(family)] == [seen.last]
    LastRuns(tmp_path / "state of root").keep(
        replace(seen.last, exit_code=4, ended_at=datetime.now(UTC))
    )
    assert [one.last.exit_code for one in looked_at(family) if one.last] == [4]


async def test_what_the_nightly_unit_remembers_and_hides_is_no_error(
    family: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    closed = tmp_path / "of units"
    closed.write_bytes(b"")  # as root, nothing else is closed
    monkeypatch.setattr(settings, "STATE_OF_UNITS", closed)
    monkeypatch.setenv("HOME", "~")  # and no home
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    await family.sync()
    (seen,) = looked_at(family)
    assert (seen.error, seen.last is None) == (None, False)


async def test_a_run_that_fails_half_way_keeps_the_success_in_the_destination_too(
    family: Household,
):
    await family.sync()
    inside, *outside = family.records()
    success = json.loads(inside.read_text())["last_success_at"]
    denied = b'{"message": "Invalid API key"}'
    family.sandbox.faults.add(Answered(401, denied), path="/api/search/metadata")
    assert await family.codes() == [3]
    kept = json.loads(inside.read_text())
    assert (kept["exit_code"], kept["last_success_at"]) == (3, success)
    for file in outside:
        file.unlink()
    (seen,) = family.told()
    assert seen["last_success_at"] == success


async def test_a_disk_that_is_not_mounted_is_exit_code_4_and_hides_no_other(family: Household):
    family.add_mirror("second")
    await family.sync()
    family.root.rename(family.home / "away")
    family.root.mkdir()
    first, second = family.told()
    assert first["error"]["code"] == "not-mounted"
    assert sum(first["last_run"]["counts"].values()) == 3  # remembered outside
    assert first["last_success_at"] is not None
    assert first["stored"] is None
    assert second["error"] is None
    assert second["stored"]["files"] == 3
    assert family.exit_code() == family.exit_code(0) == 4
    assert list(family.root.iterdir()) == []


async def test_a_disk_that_is_away_and_of_which_nothing_is_remembered_may_have_had_a_success(
    family: Household,
):
    assert "last success: never" in lines(family)
    shutil.rmtree(family.root, ignore_errors=True)
    family.root.write_bytes(b"")  # no folder
    told = lines(family)
    assert "last success: not known" in told
    assert "never" not in told
    text = page(family.profile, family.look(), Asked(datetime.now(UTC), timedelta(days=3)))
    assert "not known" in text
    assert "Whether there ever was a complete backup is not known." in text
    assert "never complete" not in text
    assert "not known" in on_a_terminal(family.home, "status").out


async def test_a_disk_that_is_still_away_is_told_once(family: Household):
    await family.sync()
    family.root.rename(family.home / "away")
    assert await family.codes() == [4]
    assert lines(family).count("has lost its marker") == 1
    # What the last run found otherwise is told, too.
    (family.home / "away").rename(family.root)
    family.use_key("not-a-key-0123456789")
    await family.sync()
    family.root.rename(family.home / "away")
    assert lines(family).count("has lost its marker") == 1
    assert lines(family).count("key-refused") == 1


async def test_a_run_that_found_no_disk_is_told(family: Household):
    await family.sync()
    family.root.rename(family.home / "away")
    assert await family.codes() == [4]
    (family.home / "away").rename(family.root)
    (seen,) = family.told()
    assert seen["last_run"]["exit_code"] == 4
    assert seen["last_success_at"] is not None


async def test_status_answers_while_a_run_holds_the_destination(family: Household):
    await family.sync()
    lock = family.root / ".mirror/lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (seen,) = family.told()
    assert seen["running"] is True
    assert seen["stored"]["files"] == 3
    lock.unlink()
    assert family.told()[0]["running"] is False


async def test_what_is_aside_is_counted(family: Household):
    await family.sync()
    next(family.root.rglob("IMG_0001.jpg")).write_bytes(b"edited")
    assert await family.codes() == [0]
    (seen,) = family.told()
    assert seen["stored"]["quarantine"] == {"files": 1, "bytes": 6}


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"mirror": 1}'])
async def test_a_record_that_cannot_be_read_is_no_record(content: bytes, family: Household):
    await family.sync()
    for file in family.records():
        file.write_bytes(content)
    (seen,) = family.told()
    assert seen["last_run"] is None
    assert seen["stored"]["files"] == 3
    assert await family.codes() == [0]
    assert family.told()[0]["last_run"]["exit_code"] == 0


async def test_what_another_mirror_keeps_is_not_taken_for_this_ones(family: Household):
    await family.sync()
    marker = family.root / ".mirror/mirror.json"
    marker.write_text(marker.read_text().replace("family/all", "family/other"))
    (seen,) = family.told()
    assert seen["error"]["code"] == "not-ours"
    assert family.exit_code() == 4


async def test_an_index_that_is_broken_is_told_with_the_rest(family: Household):
    await family.sync()
    (family.root / ".mirror/index.sqlite3").write_bytes(b"no database" * 100)
    (seen,) = family.told()
    assert seen["error"]["code"] == "index"
    assert seen["last_success_at"] is not None


async def test_a_state_folder_that_cannot_be_written_is_a_warning(
    family: Household, log: list[dict[str, Any]]
):
    await family.sync()
    folder = family.state / "last-runs"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    assert await family.codes() == [0]
    (warning,) = [line for line in log if line["event"] == "notice.failed"]
    assert warning["action"] == "record"
    assert family.told()[0]["last_run"]["counts"] == {"unchanged": 3}


# -- the command -----------------------------------------------------------------------------------


async def test_status_asks_no_server_and_leaves_no_trace(family: Household):
    await family.sync()
    before = whole(family.home)
    family.sandbox.requests.clear()
    ended = await mirror(family.home, "status")
    assert ended.code == 0
    assert "last success: 20" in ended.out
    assert "(just now)" in ended.out
    assert whole(family.home) == before
    assert family.sandbox.requests == []


async def test_what_is_held_is_told_with_its_way_through(family: Household):
    await family.sync()
    family.library.delete(*[asset.id for asset in family.library.own()])
    assert await family.codes() == [5]
    (seen,) = family.told()
    (hold,) = seen["last_run"]["holds"]
    assert hold["reason"]
    ended = await mirror(family.home, "status", "family", "all")
    assert ended.code == 0
    assert f"held: {hold['reason']}; way through: {hold['way_through']}" in ended.out
    assert "something is held (exit 5)" in ended.out


async def test_a_profile_that_is_not_right_hides_no_other(family: Household):
    await family.sync()
    family.grow_older(hours=37)
    (family.home / ".config/mirror/profiles/odd.toml").write_text("nonsense = 1\n")
    ended = await mirror(family.home, "status", "--json", "--max-age", "36h")
    assert ended.code == 2
    answer = json.loads(ended.out)
    assert (answer["v"], answer["exit_code"]) == (1, 1)
    assert answer["mirrors"][0]["too_old"] is True
    assert "nonsense" in ended.err
    late = await mirror(family.home, "status", "family", "--max-age", "36h")
    assert late.code == 1
    assert "1 day ago" in late.out
    assert "too old" in late.out


@pytest.mark.parametrize("text", ["36", "h", "1.5h", "36 hours", ""])
def test_an_age_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]):
    from mirror.cli.main import make_parser  # noqa: PLC0415 (as the command does)

    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(["status", f"--max-age={text}"])
    assert ended.value.code == 2
    assert "36h" in capsys.readouterr().err


def on_a_terminal(home: Path, *args: str, columns: int = 80) -> Ended:
    """What the command shows to a person; the escapes of colours are taken out."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "mirror", *args],
        stdin=slave, stdout=slave, stderr=slave, cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(PROJECT),
             "TERM": "xterm", "TZ": "UTC"},
    )  # fmt: skip
    os.close(slave)
    shown = b"".join(_chunks(master))
    os.close(master)
    return Ended(child.wait(), re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()), "")


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            return  # the other end is closed
        if not chunk:
            return
        yield chunk


async def test_a_person_gets_a_table_of_80_columns(family: Household):
    await family.sync()
    family.library.delete(*[asset.id for asset in family.library.own()])
    await family.sync()
    shown = on_a_terminal(family.home, "status")
    print(shown.out)
    assert shown.code == 0
    for words in ("last success", "just now", "3 files", "600 bytes", "100 %", "3 held"):
        assert words in shown.out
    assert "way through:" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
