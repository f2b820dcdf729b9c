"""An index is read whole while a run writes it, and summed up."""

import shutil
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from mirror.core.model import Row, RowState
from mirror.index import Failure, Index, Pending, Quarantined, Stored

BATCH = 40
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def a_row(number: int, **changed: object) -> Row:
    plain = Row(
        asset_id=f"asset {number}",
        owner_id="me",
        checksum=number.to_bytes(20, "big"),
        base=f"{number}.jpg",
        path=f"{number}.jpg",
        sha1=number.to_bytes(20, "big"),
        size_bytes=100,
        reason="x" * 300,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  # the fields of each test's choice


def test_a_copy_of_an_index_that_a_run_is_writing_is_a_whole_one(tmp_path: Path):
    path = tmp_path / "index.sqlite3"
    stop = threading.Event()
    begun = threading.Event()

    def write() -> None:
        with Index(path) as index:
            index._db.execute("PRAGMA wal_autocheckpoint = 200")
            for batch in count():
                rows = [a_row(number) for number in range(batch * BATCH, (batch + 1) * BATCH)]
                index.begin([Pending(row, "download") for row in rows])
                index.finish(rows)
                begun.set()
                if stop.wait(0.002):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(20)
        seen = []
        for _ in range(25):
            with Index(path, dry=True) as copy:
                assert copy._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                seen.append(copy.stored().files)
    finally:
        stop.set()
        writer.join()
    assert all(files % BATCH == 0 for files in seen)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]  # it was written meanwhile


def test_a_log_that_is_begun_anew_between_both_files_spoils_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copyfile = shutil.copyfile
    with Index(tmp_path / "index.sqlite3") as index:
        index.finish([a_row(number) for number in range(100)])

        def interrupted(source: Path, target: Path) -> None:
            copyfile(source, target)
            if source.name.endswith("-wal"):
                return
            monkeypatch.undo()
            index.finish([a_row(number) for number in range(100, 200)])
            index._db.execute("PRAGMA wal_checkpoint(RESTART)")
            index.finish([a_row(200)])

        monkeypatch.setattr(shutil, "copyfile", interrupted)
        with Index(tmp_path / "index.sqlite3", dry=True) as copy:
            assert copy._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert copy.stored().files == 201


def test_a_copy_leaves_nothing_beside_an_index_that_a_run_holds(tmp_path: Path):
    path = tmp_path / "index.sqlite3"
    with Index(path) as index:
        index.finish([a_row(1)])
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with Index(path, dry=True) as copy:
            assert copy.stored().files == 1
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_an_index_sums_up_what_it_keeps(tmp_path: Path):
    with Index(tmp_path / "index.sqlite3") as index:
        index.finish(
            [
                a_row(1, verified_at=NOON, uploaded_at=NOON.replace(year=2020)),
                a_row(2, verified_at=NOON.replace(year=2024), uploaded_at=NOON.replace(year=2021)),
                a_row(3, state=RowState.RETAINED, size_bytes=11),
            ]
        )
        index.note_failure(Failure("bad", b"\1" * 20, "", NOON))
        index.add_quarantined(Quarantined("q/1", "1", "1.jpg", None, 70, "drifted", NOON))
        stored = index.stored()
    assert stored == Stored(
        files=3,
        size_bytes=211,
        retained_files=1,
        retained_bytes=11,
        verified_files=2,
        oldest_verified_at=NOON.replace(year=2024),
        newest_uploaded_at=NOON.replace(year=2021),
        damaged=1,
        quarantined_files=1,
        quarantined_bytes=70,
    )
    assert stored.verified_share == 2 / 3


def test_an_empty_index_has_nothing_that_is_not_verified():
    with Index(None) as index:
        stored = index.stored()
    assert (stored.files, stored.verified_share, stored.oldest_verified_at) == (0, 1.0, None)


def test_sqlite_still_names_its_log_as_we_look_for_it(tmp_path: Path):
    path = tmp_path / "index.sqlite3"
    with Index(path) as index:
        index.finish([a_row(1)])
        wal = path.with_name("index.sqlite3-wal").read_bytes()
    assert wal[:4] in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"), sqlite3.sqlite_version
