"""Commands measured in turn, and the rows of the table."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PROJECT = Path(__file__).parents[2]
MIRROR: Final = (sys.executable, "-m", "mirror")


@dataclass(frozen=True)
class Run:
    """One command, measured; the peak is that of its largest process."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    server_cpu_s: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table. A goal is the most that the ratio may be; None: it is only told."""

    what: str
    ours: str
    peer: str
    ratio: float
    goal: float | None
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        if self.goal is None:
            return ""
        return "met" if self.ratio <= self.goal else "missed"


@dataclass(frozen=True)
class Bench:
    """Where and how large."""

    memory: Path  # on a tmpfs
    disk: Path  # on a real disk
    quick: bool
    repeats: int

    def files(self, full: int) -> int:
        """So many, or a tenth of them."""
        return max(1, full // 10) if self.quick else full

    @contextmanager
    def folder(self, *, on_disk: bool = False) -> Iterator[Path]:
        """An empty folder, gone afterwards."""
        where = self.disk if on_disk else self.memory
        with tempfile.TemporaryDirectory(prefix="mirror-bench-", dir=where) as made:
            yield Path(made)


def environment(home: Path) -> dict[str, str]:
    """What commands see: nothing of our own; bytecode is kept as in an installation."""
    pycache = Path(tempfile.gettempdir(), f"mirror-bench-{os.getuid()}-bytecode")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(_PROJECT),
        "PYTHONPYCACHEPREFIX": str(pycache),
    }


def measured(
    command: list[str], home: Path, *, server_cpu_s: Callable[[], float] = lambda: 0.0
) -> Run:
    """Run a command to its end; it must succeed."""
    begun, served = time.monotonic(), server_cpu_s()
    log = home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=home, env=environment(home)
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{command} ended with {process.returncode}:\n{tail}")
    return Run(
        time.monotonic() - begun,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        server_cpu_s() - served,
    )


Side = Callable[[], Run]


def in_turn(sides: Mapping[str, Side], repeats: int) -> dict[str, list[Run]]:
    """Each side several times, each time another one first."""
    names = list(sides)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            runs[name].append(sides[name]())
    return runs


def into_empty(root: Path, files: int, fill: Callable[[Path], Run]) -> Side:
    """A side that fills an empty folder, and must have brought everything."""

    def run() -> Run:
        target = Path(tempfile.mkdtemp(dir=root))
        done = fill(target)
        found = sum(len(names) for _, _, names in os.walk(target))
        if found < files:
            raise SystemExit(f"only {found} of {files} files came")
        shutil.rmtree(target)
        return done

    return run


def median(runs: list[Run], what: str = "wall_s") -> float:
    """The median of one number."""
    numbers: list[float] = [getattr(run, what) for run in runs]
    return statistics.median(numbers)


def told(runs: list[Run]) -> str:
    """Medians for people."""
    text = f"{median(runs):.2f} s, CPU {median(runs, 'cpu_s'):.2f} s"
    server_s = median(runs, "server_cpu_s")
    return text + (f" (server {server_s:.2f} s)" if server_s else "")


def row(
    what: str, ours: list[Run], peer: list[Run], goal: float | None, *, of: str = "wall_s"
) -> Row:
    """Ours against the peer's, by the medians of one number."""
    ratio = median(ours, of) / median(peer, of)
    return Row(
        what,
        told(ours),
        told(peer),
        round(ratio, 3),
        goal,
        {"ours": median(ours, of), "peer": median(peer, of)},
    )


def peak_row(what: str, ours: list[Run], most_mb: float) -> Row:
    """The peak of memory against a limit."""
    peak_mb = max(run.peak_mb for run in ours)
    return Row(
        what, f"{peak_mb:.0f} MB", f"{most_mb:.0f} MB", round(peak_mb / most_mb, 3), 1.0,
        {"peak_mb": peak_mb},
    )  # fmt: skip
