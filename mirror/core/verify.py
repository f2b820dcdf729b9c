"""What became of files since they were verified: what is seen on the disk, judged by the row."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from mirror.core.model import Entry, EntryKind, Row
from mirror.errors import ExitCode, MirrorError, worst


class Condition(StrEnum):
    """How a file was found, or left."""

    VERIFIED = "verified"
    REPAIRED = "repaired"  # was damaged; the verified bytes are here again
    PROVED = "proved"  # its SHA-1 was not known; the server's bytes are the same
    REPLACED = "replaced"  # its SHA-1 was not known; the server's bytes are others, and here now
    UNPROVED = "unproved"  # its SHA-1 is not known: there is nothing to compare with
    HELD = "held"
    MISSING = "missing"
    DRIFTED = "drifted"  # somebody changed it: its size or time is another
    UNREADABLE = "unreadable"  # this user may not read it
    FAILED = "failed"  # nothing could be proved
    DAMAGED = "damaged"  # other bytes, or none that can be read, under the same size and time


_GOOD = frozenset(
    {
        Condition.VERIFIED,
        Condition.REPAIRED,
        Condition.PROVED,
        Condition.REPLACED,
        Condition.UNPROVED,
    }
)
_CODES = {Condition.DAMAGED: ExitCode.DAMAGED, Condition.HELD: ExitCode.HELD}


def judge(row: Row, entry: Entry | None, *, medium_failed: bool = False) -> Condition:
    """The condition of a row's file; `entry` has the SHA-1 of its bytes, where they could be read.

    A change that leaves size and time as they were is nobody's edit. `medium_failed`: the disk
    gave an error instead of bytes.
    """
    if entry is None:
        return Condition.MISSING
    if entry.kind is not EntryKind.FILE:
        return Condition.DRIFTED
    if medium_failed:
        return Condition.DAMAGED
    if entry.sha1 is None:
        return Condition.UNREADABLE
    if entry.sha1 == row.sha1:
        return Condition.VERIFIED
    is_as_recorded = (entry.size_bytes, entry.mtime_ns) == (row.size_bytes, row.mtime_ns)
    return Condition.DAMAGED if is_as_recorded else Condition.DRIFTED


def quota(share: Fraction, files: int) -> int:
    """How many files a sample is; so that enough samples hold all of them."""
    return math.ceil(share * files)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a person may want to hear of."""

    condition: Condition
    row: Row
    detail: str = ""
    entry: Entry | None = None  # what lies there


@dataclass(slots=True)
class Verification:
    """One mirror at one destination."""

    mirror: str
    destination: str
    counts: Counter[Condition] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)  # all but what is verified or unproved
    read_bytes: int = 0
    received_bytes: int = 0
    left: int = 0  # files for which the time did not suffice
    holds: list[tuple[str, str]] = field(default_factory=list)  # reason, way through
    error: MirrorError | None = None  # what stopped it, if anything did

    def add(self, found: Found) -> None:
        """Count and keep one."""
        self.counts[found.condition] += 1
        self.found.append(found)

    def become(self, place: int, after: Found) -> None:
        """What was found one way was left in another; `place` is where it is in `found`."""
        self.counts[self.found[place].condition] -= 1
        self.counts[after.condition] += 1
        self.found[place] = after

    @property
    def complete(self) -> bool:
        """Whether all that was asked for was looked at."""
        return self.left == 0 and self.error is None

    @property
    def counted(self) -> dict[str, int]:
        """How many files are in each condition; zeros left out."""
        return {each.value: self.counts[each] for each in Condition if self.counts[each]}

    @property
    def exit_code(self) -> ExitCode:
        """What this part says to the caller."""
        return worst(self._exit_codes())

    def _exit_codes(self) -> Iterator[ExitCode]:
        if self.error is not None:
            yield self.error.exit_code
        for condition in Condition:
            if condition not in _GOOD and self.counts[condition]:
                yield _CODES.get(condition, ExitCode.PARTIAL)
        if self.left:
            yield ExitCode.LIMIT
