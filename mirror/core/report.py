"""What became of a run: outcomes that add up."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mirror.errors import ExitCode, MirrorError, worst


class Outcome(StrEnum):
    """What became of one asset; every listed asset has exactly one."""

    UNCHANGED = "unchanged"
    DOWNLOADED = "downloaded"
    ADOPTED = "adopted"
    COPIED = "copied"
    RESTORED = "restored"
    MOVED = "moved"
    REPLACED = "replaced"
    REBOUND = "rebound"
    RETAINED = "retained"
    REMOVED = "removed"
    FORGOTTEN = "forgotten"
    DISOWNED = "disowned"
    HELD = "held"
    POSTPONED = "postponed"  # a removal that waits until nothing fails
    KNOWN = "known"  # failed before, with nothing changed since
    FAILED = "failed"


# What leaves the destination as it was.
_QUIET = frozenset(
    {Outcome.UNCHANGED, Outcome.HELD, Outcome.POSTPONED, Outcome.KNOWN, Outcome.FAILED}
)


class Summed(Protocol):
    """What every run at one destination can say in the end."""

    @property
    def mirror(self) -> str:
        """Its name."""

    @property
    def exit_code(self) -> ExitCode:
        """What it says to the caller."""

    @property
    def counted(self) -> dict[str, int]:
        """How many assets came to what, in words."""

    @property
    def received_bytes(self) -> int:
        """Over the network."""

    @property
    def complete(self) -> bool:
        """Whether all was seen that was to be seen."""

    @property
    def error(self) -> MirrorError | None:
        """What stopped it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An asset that could not be had."""

    path: str
    error: MirrorError


@dataclass(slots=True)
class Report:
    """One mirror at one destination."""

    mirror: str
    destination: str
    unchanged: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by asset id, the last one counts
    received_bytes: int = 0
    purged: int = 0  # files that left quarantine for good
    differences: int = 0  # that `check` found
    complete: bool = True  # whether the listing was
    problems: list[str] = field(default_factory=list)  # why it was not
    failures: list[Failed] = field(default_factory=list)
    holds: list[tuple[str, str]] = field(default_factory=list)  # reason, way through
    error: MirrorError | None = None  # what stopped it, if anything did
    started_at: datetime | None = None  # aware UTC; None: it never came as far as the destination
    ended_at: datetime | None = None

    def begin_anew(self) -> None:
        """Forget all but the bytes that came: everything is looked at once more."""
        fresh = Report(self.mirror, self.destination, received_bytes=self.received_bytes)
        fresh.started_at = self.started_at
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many assets had each outcome, in the order of `Outcome`; zeros left out."""
        counter = Counter(self.outcomes.values())
        counter[Outcome.UNCHANGED] += self.unchanged
        return {outcome: counter[outcome] for outcome in Outcome if counter[outcome]}

    @property
    def counted(self) -> dict[str, int]:
        """The same in words."""
        return {outcome.value: count for outcome, count in self.counts.items()}

    @property
    def changed(self) -> bool:
        """Whether anything at the destination is not as it was."""
        return any(outcome not in _QUIET for outcome in self.outcomes.values())

    @property
    def exit_code(self) -> ExitCode:
        """What this part says to the caller."""
        return worst(self._exit_codes())

    def _exit_codes(self) -> Iterator[ExitCode]:
        if self.error is not None:
            yield self.error.exit_code
        if self.holds:
            yield ExitCode.HELD
        if self.failures or self.differences or not self.complete:
            yield ExitCode.PARTIAL
