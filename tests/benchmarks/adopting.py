"""A folder that is there already: hashed, not downloaded."""

from collections.abc import Iterator

from tests.benchmarks.measuring import Bench, Row, Run, in_turn, measured, row
from tests.benchmarks.server import served
from tests.benchmarks.tree import forget, mirror, write_profile, write_tree


def adopting(bench: Bench) -> Iterator[Row]:
    """Small files, of which the start is a large part, and files as large as photos are."""
    for full, size_bytes in ((5000, 100_000), (1500, 2_000_000)):
        files = bench.files(full)
        runs = _measured(bench, files, size_bytes)
        what = f"adopting {files} files of {size_bytes // 1000} kB / find, xargs sha1sum"
        yield row(what, runs["ours"], runs["peer"], 1.2)


def _measured(bench: Bench, files: int, size_bytes: int) -> dict[str, list[Run]]:
    with bench.folder() as root, served(root, files, size_bytes, originals=False) as source:
        write_profile(source, root)
        write_tree(root / "photos", files, size_bytes)
        script = f"find {root}/photos -type f -print0 | xargs -0 sha1sum > {root}/sums"

        def ours() -> Run:
            forget(root)
            return mirror("sync", source, root)

        def peer() -> Run:
            return measured(["sh", "-ec", script], root)

        return in_turn({"ours": ours, "peer": peer}, bench.repeats)
