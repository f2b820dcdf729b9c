"""Runs without a change, and with one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from tests.benchmarks.library import first_since, taken_at
from tests.benchmarks.measuring import (
    Bench,
    Row,
    Run,
    in_turn,
    measured,
    median,
    peak_row,
    row,
    told,
)
from tests.benchmarks.server import Served, served, write_original
from tests.benchmarks.tree import mirror, write_profile, write_tree

_SIZE_BYTES = 16
_MOST_REQUESTS = 6
_FEW = 10  # a library that costs nothing but the start


def no_change(bench: Bench) -> Iterator[Row]:
    """Requests and CPU at 200 000 files."""
    files = bench.files(200_000)
    few = _runs(bench, _FEW)
    runs, requests, _ = _measured(bench, files)
    yield _requests_row(f"requests without a change, {files} files", requests, _MOST_REQUESTS)
    work = [Run(r.wall_s, r.cpu_s - median(few["ours"], "cpu_s"), r.peak_mb) for r in runs["ours"]]
    what = f"CPU without a change, {files} files, the start aside / find -printf"
    yield row(what, work, runs["find"], 4.0, of="cpu_s")


def no_change_million(bench: Bench) -> Iterator[Row]:
    """Memory at a million files, and one change among them."""
    files = bench.files(1_000_000)
    runs, requests, changed = _measured(bench, files)
    yield peak_row(f"memory without a change, {files} files", runs["ours"], 200)
    what = f"requests for one change in {files} / without a change, and the pages of its month"
    yield _requests_row(what, changed, requests + _pages_of_month(files))
    yield Row(
        f"a run without a change, {files} files / find -printf",
        told(runs["ours"]), told(runs["find"]),
        round(median(runs["ours"]) / median(runs["find"]), 3), None,
    )  # fmt: skip


def _pages_of_month(number: int) -> int:
    """Those of a listing of the month in which a new file was taken, the last of the library.

    A month on any wall clock is 26 hours longer on either side.
    """
    begun = taken_at(number).replace(day=1, hour=0, minute=0) - timedelta(hours=26)
    return -(-(number + 1 - first_since(begun)) // 1000)


def _requests_row(what: str, ours: int, most: int) -> Row:
    numbers = {"ours": float(ours), "most": float(most)}
    return Row(what, str(ours), str(most), round(ours / most, 3), 1.0, numbers)


def _runs(bench: Bench, files: int) -> dict[str, list[Run]]:
    return _measured(bench, files)[0]


def _measured(bench: Bench, files: int) -> tuple[dict[str, list[Run]], int, int]:
    """Runs without a change; the requests of the last one, and those of a run with one change."""
    with bench.folder() as root, served(root, files, _SIZE_BYTES, originals=False) as source:
        write_profile(source, root)
        write_tree(root / "photos", files, _SIZE_BYTES)
        mirror("sync", source, root)  # adopts everything
        script = f"find {root}/photos -printf '%s %T@ %p\\n' > {root}/found"
        mirror("sync", source, root)  # what the first run left to the second
        runs = in_turn(
            {
                "ours": lambda: mirror("sync", source, root),
                "find": lambda: measured(["sh", "-ec", script], root),
            },
            bench.repeats,
        )
        return runs, _requests(source, root), _requests(source, root, add=1)


def _requests(source: Served, root: Path, add: int = 0) -> int:
    for number in range(source.files, source.files + add):
        write_original(root, number, source.size_bytes)
    source.control(add)
    mirror("sync", source, root)
    asked: dict[str, int] = source.control()["asked"]
    return sum(asked.values())
