"""Whole listings: their time, and what a first plan takes."""

import sys
from collections.abc import Iterator

from tests.benchmarks.measuring import Bench, Row, Run, in_turn, measured, peak_row, row
from tests.benchmarks.server import served
from tests.benchmarks.tree import mirror, write_profile

_SIZE_BYTES = 16
_PAGE_MS = 33  # what Immich 3.1.0 took for a page of 1000 of 200 000


def full_listing(bench: Bench) -> Iterator[Row]:
    """From a server that takes its time for a page, as Immich does, and from one that does not."""
    files = bench.files(200_000)
    for page_ms in (_PAGE_MS, 0):
        with (
            bench.folder() as root,
            served(root, files, _SIZE_BYTES, originals=False, page_ms=page_ms) as source,
        ):

            def side(module: str, url: str = source.url, home=root, cpu_s=source.cpu_s) -> Run:
                command = [sys.executable, "-m", f"tests.benchmarks.{module}", url]
                return measured(command, home, server_cpu_s=cpu_s)

            runs = in_turn(
                {"ours": lambda: side("ours_listed"), "bare": lambda: side("keyset")},
                bench.repeats,
            )
        slow = f"{page_ms} ms a page" if page_ms else "pages at once"
        what = f"listing of {files}, {slow} / a bare keyset loop"
        yield row(what, runs["ours"], runs["bare"], 1.1 if page_ms else None)


def first_plan(bench: Bench) -> Iterator[Row]:
    """The memory of a plan where nothing is there yet."""
    for full, most_mb in ((200_000, 250), (1_000_000, 1000)):
        files = bench.files(full)
        with bench.folder() as root, served(root, files, _SIZE_BYTES, originals=False) as source:
            write_profile(source, root)
            yield peak_row(
                f"memory, first plan of {files}", [mirror("plan", source, root)], most_mb
            )
