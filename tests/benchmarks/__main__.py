"""`uv run python -m tests.benchmarks`: each row ours, the peer's, the ratio, the goal."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.server import Served, library, served

_REPEATS = 3


@dataclass(frozen=True)
class Run:
    """One command, measured."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    peers: str
    ratio: float
    goal: float


def measured(command: list[str], log: Path) -> Run:
    """Run a command to its end; it must succeed."""
    begun = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(
            f"{command[:3]} ended with {process.returncode}:\n{log.read_text()[-2000:]}"
        )
    return Run(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def ours(source: Served, target: Path, log: Path) -> Run:
    """`mirror copy` into an empty folder."""
    command = [
        sys.executable, "-m", "mirror", "copy", "--immich_api_url", source.url,
        "--immich_api_key", source.key, "--save_to", str(target), "--threads", "8",
        "--min-free", "0",
    ]  # fmt: skip
    return measured(command, log)


def rclone_then_sha1sum(source: Served, target: Path, log: Path) -> Run:
    """`rclone copy` of the same files, then `sha1sum` of the tree: the same promise kept."""
    script = (
        f"rclone copy --config '' --transfers 8 --http-url {source.originals} :http: {target}"
        f" && find {target} -type f -print0 | xargs -0 sha1sum > {target}.sums"
    )
    return measured(["sh", "-ec", script], log)


Measure = Callable[[Served, Path, Path], Run]


def compared(source: Served, root: Path, sides: dict[str, Measure]) -> dict[str, list[Run]]:
    """Each side several times, the order rotated, always into a new folder on the same tmpfs."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    names = list(sides)
    for repeat in range(_REPEATS):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            target = root / f"{name}-{repeat}"
            target.mkdir()
            runs[name].append(sides[name](source, target, root / "log"))
            found = sum(len(files) for _, _, files in os.walk(target))
            if found < source.files:
                raise SystemExit(f"{name} brought {found} of {source.files} files")
            shutil.rmtree(target)
    return runs


def row(what: str, runs: dict[str, list[Run]], goal: float) -> Row:
    """Medians of the wall times, and both sides' CPU."""
    ours_s, peers_s = (statistics.median(run.wall_s for run in side) for side in runs.values())
    texts = [
        f"{statistics.median(run.wall_s for run in side):.2f} s"
        f" (CPU {statistics.median(run.cpu_s for run in side):.2f} s,"
        f" peak {max(run.peak_mb for run in side):.0f} MB)"
        for side in runs.values()
    ]
    return Row(what, texts[0], texts[1], round(ours_s / peers_s, 2), goal)


def small_files(root: Path, files: int) -> list[Row]:
    """Many files of 100 kB."""
    with served(library(files, 100_000), root) as source:
        runs = compared(source, root, {"mirror": ours, "rclone": rclone_then_sha1sum})
    return [row(f"copy of {files} files of 100 kB / rclone copy, then sha1sum", runs, 1.25)]


def large_files(root: Path, files: int, size_bytes: int) -> list[Row]:
    """A few large files, and the memory that takes."""
    with served(library(files, size_bytes), root) as source:
        runs = compared(source, root, {"mirror": ours, "rclone": rclone_then_sha1sum})
    peak_mb = max(run.peak_mb for run in runs["mirror"])
    what = f"{files} files of {size_bytes // 1_000_000} MB"
    return [
        row(f"copy of {what} / rclone copy, then sha1sum", runs, 1.25),
        Row(f"peak memory, {what}", f"{peak_mb:.0f} MB", "120 MB", round(peak_mb / 120, 2), 1.0),
    ]


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--on", type=Path, default=Path("/dev/shm"), help="a tmpfs")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--files", type=int, default=2000)
    args = parser.parse_args()
    rows: list[Row] = []
    for bench in (
        lambda root: small_files(root, args.files),
        lambda root: large_files(root, 2, 500_000_000),
    ):
        with tempfile.TemporaryDirectory(dir=args.on) as root:
            rows += bench(Path(root))
    for line in rows:
        print(f"{line.what}\n  ours {line.ours}\n  peer {line.peers}")
        print(f"  ratio {line.ratio} (goal {line.goal})")
    if args.json:
        args.json.write_text(json.dumps([asdict(line) for line in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
