"""What was in the tree and in quarantine, and what the mirror may know of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.core.model import OnGone
from tests.machine.hands import Seen
from tests.machine.leaving import Held, Leaving, Policies
from tests.machine.model import Wanted, fold


@dataclass(frozen=True)
class Aside:
    """A file in quarantine."""

    sha1: bytes
    since: datetime  # by the server's clock when it was first seen there
    doomed: bool  # it may have been put there only to be deleted


class Memory:
    """Of one tree, from its first run on."""

    def __init__(self) -> None:
        self.policies = Policies()
        self.quarantine_days = 30
        self.held: dict[str, Held] = {}
        self.asides: dict[str, Aside] = {}  # by path
        self.accepted: set[str] = set()  # what the mirror may be about by its own notes; none: any

    def gone(self, goal: Iterable[Wanted]) -> dict[str, Held]:
        """What is held and not wanted."""
        shown = {one.asset.id for one in goal}
        return {key: held for key, held in self.held.items() if key not in shown}

    # -- around a run ------------------------------------------------------------------------------

    def may_vanish(
        self, leaving: Leaving, gone: dict[str, Held], now: datetime, *, in_scope: bool
    ) -> Iterator[bytes]:
        """SHA-1 of what a run may delete for good while the clocks agree."""
        for aside in self.asides.values():
            days = timedelta(days=self.quarantine_days)
            if aside.doomed or now - aside.since >= days - timedelta(minutes=5):
                yield aside.sha1
        for held in gone.values():
            if self.may_be_deleted(leaving, held, in_scope=in_scope):
                yield from held.sha1s

    def may_be_deleted(self, leaving: Leaving, held: Held, *, in_scope: bool) -> bool:
        """Whether there is a reading of what happened under which its file is deleted."""
        if OnGone.DELETE not in leaving.fates(held):
            return False
        by_scope = leaving.verdicts(held) <= {"unmatched", "unshared"}
        return in_scope or not by_scope

    def note_tree(self, goal: Iterable[Wanted], after: dict[str, Seen]) -> None:
        """What a run may have brought."""
        lying = {(fold(path), seen.sha1) for path, seen in after.items()}
        for one in goal:
            if any((key, one.sha1) in lying for key in one.keys):
                asset = one.asset
                new = Held(asset.id, asset.owner_id, set(), still_id=one.still_id, certain=False)
                self.held.setdefault(asset.id, new).sha1s.add(one.sha1)

    def note_quarantine(self, found: dict[str, Seen], doomed: set[bytes], now: datetime) -> None:
        """What lies there after a run; `doomed` is what that run might delete."""
        for path, seen in found.items():
            self.asides.setdefault(path, Aside(seen.sha1, now, seen.sha1 in doomed))
        self.asides = {path: self.asides[path] for path in found}

    def note_trash(self, leaving: Leaving, gone: dict[str, Held], *, surely: bool) -> None:
        """A run asked, or may have asked, about all that is gone."""
        if self.policies.keep_all:
            return
        for held in self.held.values():
            if held.asset_id not in gone:
                held.seen_trashed = {False} if surely else held.seen_trashed | {False}
            elif "trashed" in leaving.verdicts(held):
                sure = surely and leaving.verdicts(held) == {"trashed"} and held.certain
                held.seen_trashed = {True} if sure else held.seen_trashed | {True}
