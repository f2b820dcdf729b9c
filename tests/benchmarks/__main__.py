"""`uv run python -m tests.benchmarks`: each row ours, the peer's, the ratio, the goal."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.benchmarks import adopting, buckets, downloads, listing, starting, unchanged
from tests.benchmarks.measuring import Bench, Row

ROWS: Final[Mapping[str, Callable[[Bench], Iterator[Row]]]] = {
    "no-change": unchanged.no_change,
    "no-change-million": unchanged.no_change_million,
    "listing": listing.full_listing,
    "first-plan": listing.first_plan,
    "small-files": downloads.small_files,
    "slow-server": downloads.slow_server,
    "disk": downloads.durable,
    "large-files": downloads.large_files,
    "buckets": buckets.buckets,
    "adopting": adopting.adopting,
    "start": starting.start,
    "home-server": downloads.home_server,
}


def main() -> None:
    """Print the table as it comes, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME",
                        help=f"some of {', '.join(ROWS)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many; default: 3")
    parser.add_argument("--on", type=Path, default=Path("/dev/shm"), help="a tmpfs of 12 GB")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="a disk")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    args = parser.parse_args()
    bench = Bench(args.on, args.disk, args.quick, args.repeats)
    rows: list[Row] = []
    print("| what | ours | peer | ratio | goal | |\n|---|---|---|---|---|---|")
    for name in args.only:
        for row in ROWS[name](bench):
            rows.append(row)
            goal = "" if row.goal is None else row.goal
            told = (row.what, row.ours, row.peer, row.ratio, goal, row.verdict)
            print(f"| {' | '.join(map(str, told))} |")
            sys.stdout.flush()
    if args.json:
        kept = [asdict(row) | {"verdict": row.verdict} for row in rows]
        args.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
