"""A server, a folder, and runs between them; what must hold after every single run is held here."""

import asyncio
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.core.guard import Allowed
from mirror.core.model import Mirror
from mirror.core.report import Outcome
from mirror.destinations.identity import Known
from mirror.errors import ExitCode, InternalError, MirrorError
from mirror.immich.client import RetryPolicy, Timeouts
from mirror.run import MirrorRun
from mirror.sandbox import Library, Sandbox, sample_library
from tests.integration.mirroring import LABEL, Mirrored, content, describe, no_wait
from tests.machine import troubles
from tests.machine.dying import KilledError, dying
from tests.machine.hands import Hands, Seen, observe, sha1
from tests.machine.leaving import KEPT, Leaving, Policies
from tests.machine.memory import Memory
from tests.machine.model import LAYOUTS, SELECTIONS, TODAY, Wanted, fold, wanted

# What a run may end with, whatever the server does.
EVERYTHING = Allowed(removed=10**6, lost=10**6, scope=True, restored_server=True)
SENSIBLE = {ExitCode.OK, ExitCode.PARTIAL, ExitCode.ACCOUNT, ExitCode.HELD}


@dataclass
class Seeming:
    """What happened so far, for whoever wants to know what was tried."""

    steps: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    together: Counter[int] = field(default_factory=Counter)  # runs by how many troubles they met
    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    holds: Counter[str] = field(default_factory=Counter)  # by the way through
    policies: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    purged: int = 0
    judged: int = 0

    def told(self) -> dict[str, Any]:
        """For a file."""
        together = {f"{count} at once": runs for count, runs in sorted(self.together.items())}
        return {
            "steps": self.steps,
            "runs": sum(self.codes.values()) + self.killed,
            "killed": self.killed,
            "purged": self.purged,
            "judged_by_rclone": self.judged,
            "exit_codes": _sorted(self.codes),
            "outcomes": _sorted(self.outcomes),
            "holds": _sorted(self.holds),
            "policies": _sorted(self.policies),
            "rules": _sorted(self.rules),
            "runs_by_troubles": together,
            "troubles": _sorted(self.troubles),
        }


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items()))


@dataclass(frozen=True)
class Ran:
    """How a run ended; `run` is None when the account was not even reached."""

    code: ExitCode
    run: MirrorRun | None = None
    error: MirrorError | None = None

    def __str__(self) -> str:
        return describe(self.run) if self.run else f"{self.code!r} {self.error}"

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end with all that the server has."""
        return self.run is not None and self.error is None and self.run.report.complete

    @property
    def holds(self) -> list[tuple[str, str]]:
        """What waits for a person, and the way through."""
        return self.run.report.holds if self.run else []

    def ids(self, outcome: Outcome) -> set[str]:
        """The assets that ended so."""
        told = self.run.report.outcomes if self.run else {}
        return {asset_id for asset_id, found in told.items() if found is outcome}


class World:
    """One sample server and one tree."""

    def __init__(self, folder: Path, runner: asyncio.Runner, seeming: Seeming) -> None:
        self.folder = folder
        self.runner = runner
        self.seeming = seeming
        self.layout, self.selection = next(iter(LAYOUTS)), next(iter(SELECTIONS))
        self.made: dict[bytes, bytes] = {}  # by SHA-1: everything that ever was a file somewhere
        self.troubles: list[str] = []  # those that the next run meets
        self.suspected: set[str] = set()  # assets that may have come damaged
        self._known_ids: dict[str, set[str]] = {}
        self._same: dict[tuple[str, bytes], set[str]] = {}  # ids by owner and SHA-1
        self.asked = 0  # how many originals the last run asked for
        self.memory = Memory()
        self.time = TODAY + timedelta(hours=6)  # goes on by a second a step, and by leaps
        self.skew = timedelta()  # of the server's clock
        self.was_skewed = False
        # A clock or a database went back: until the next full listing a change may not be seen.
        self.may_be_stale = False
        self._numbers = 0

    def begin(
        self, version: str, transfers: int, policies: Policies, *, quarantine_days: int
    ) -> None:
        """Start the server."""
        self.seeming.policies[f"{policies.on_removed}, {policies.on_unmatched}"] += 1
        self.memory.policies, self.memory.quarantine_days = policies, quarantine_days
        library = sample_library(0, version=version)
        chance = random.Random(0)
        library.clock = self.now
        library.new_id = lambda: str(uuid.UUID(int=chance.getrandbits(128), version=4))
        self.sandbox = Sandbox(library)
        self.runner.run(self.sandbox.__aenter__())
        self.permissions = list(self.sandbox.key(troubles.KEY).permissions)
        self.me = Mirrored(
            self.sandbox,
            self.folder / "tree",
            Known(self.folder / "state"),
            mirror=Mirror(name="me", account="me", transfers=transfers),
            label=LABEL,
            destination={
                "min_free_bytes": 0,
                "on_removed": policies.on_removed,
                "on_unmatched": policies.on_unmatched,
                "quarantine_days": quarantine_days,
            },
            key=troubles.KEY,
            retry=RetryPolicy(attempts=4, brief_attempts=2, sleep=no_wait),
            timeouts=Timeouts(read_s=0.05),
        )
        self.hands = Hands(self.me.root)

    def end(self) -> None:
        """Stop the server."""
        self.mend()
        self.runner.run(self.sandbox.__aexit__(None, None, None))

    @property
    def library(self) -> Library:
        """What the server holds."""
        return self.sandbox.library

    def fresh(self, size_bytes: int = 0) -> bytes:
        """Bytes like no others, of few sizes."""
        self._numbers += 1
        data = content(("made", self._numbers), size_bytes or (10, 20)[self._numbers % 2])
        self.made[sha1(data)] = data
        return data

    @property
    def is_nobody(self) -> bool:
        """Whether nothing tells whose key it is: it may not ask, owns nothing, and never did."""
        marker = self.me.root / ".mirror/mirror.json"
        known = marker.exists() and json.loads(marker.read_text())["user_id"]
        return not known and all(asset.visibility == "locked" for asset in self.library.own())

    def now(self) -> datetime:
        """By this machine's clock."""
        return self.time

    def tick(self, by: timedelta = timedelta(seconds=1)) -> None:
        """Time passes everywhere."""
        self.time += by

    @property
    def clock_is_wrong(self) -> bool:
        """The server's, by more than is borne."""
        return abs(self.skew) > timedelta(days=1)

    def set_clock(self, skew: timedelta) -> None:
        """The server's clock is wrong by so much from now on."""
        self.may_be_stale = self.may_be_stale or skew < self.skew
        self.skew = skew
        self.was_skewed = self.was_skewed or bool(skew)
        self.library.clock = self.now
        self.library.jump(skew)

    def goal(self) -> list[Wanted]:
        """What the tree has to hold."""
        return wanted(self.library, self.selection, self.layout, self._ids())

    def _ids(self) -> dict[str, set[str]]:
        """A photo that is uploaded again is the same one, also when it is changed afterwards."""
        for asset in self.library.assets.values():
            same = self._same.setdefault((asset.owner_id, asset.content.sha1), set())
            same |= self._known_ids.get(asset.id, {asset.id})
            self._known_ids[asset.id] = set(same)
        return self._known_ids

    def mend(self) -> None:
        """Nothing is wrong any more."""
        troubles.mend(self.sandbox, self.permissions)
        self.troubles.clear()

    def renew_files(self, asset_ids: set[str]) -> None:
        """Somebody restores what is damaged on the server: the files get another date."""
        for asset_id in asset_ids & self.library.assets.keys():
            asset = self.library.assets[asset_id]
            asset.file_modified_at = self.library.now()
            self.library.touch(asset)

    # -- runs --------------------------------------------------------------------------------------

    def run(
        self,
        *,
        die_at: int | None = None,
        accept: bool = False,
        dry: bool = False,
        relist: bool = False,
    ) -> Ran | None:
        """One run with everything that is wrong at present; None if it was killed."""
        self._note_adoptable()
        goal, memory = self.goal(), self.memory
        gone = memory.gone(goal)
        leaving = self.leaving(goal)
        in_scope = accept or not memory.accepted or self.selection in memory.accepted
        may_vanish = set(memory.may_vanish(leaving, gone, self._latest(), in_scope=in_scope))
        doomed = {
            digest
            for held in gone.values()
            if memory.may_be_deleted(leaving, held, in_scope=in_scope)
            for digest in held.sha1s
        }
        before, bytes_before = observe(self.me.root), self.all_bytes()
        options = {"dry": dry, "relist": relist, "clock": self.now}
        ran = self._run(die_at, options | self._way_through(accept))
        self._tell(ran)
        after = observe(self.me.root)
        self.assert_safe(before, after, bytes_before, set() if self.clock_is_wrong else may_vanish)
        assert ran is None or ran.code in SENSIBLE, ran
        if not dry:
            self.hands.note_placed(after)
            memory.note_tree(goal, after)
            self.note_quarantine(doomed)
            memory.note_trash(leaving, gone, surely=ran is not None and ran.is_whole)
            self._note_scope(ran)
        return ran

    def run_unchecked(self, *, die_at: int | None = None) -> None:
        """One run after which nobody looks what became of what is not wanted any more."""
        goal = self.goal()
        leaving, gone = self.leaving(goal), self.memory.gone(goal)
        may_leave = [held for held in gone.values() if leaving.fates(held) != KEPT]
        self.run(die_at=die_at)
        for held in may_leave:
            held.certain = False

    def leaving(self, goal: list[Wanted]) -> Leaving:
        """What is said of the rest."""
        canary = any(one.asset.owner_id == self.library.owner_id for one in goal)
        gone = self.memory.gone(goal)
        return Leaving(self.library, gone, self.memory.policies, canary=canary)

    def _latest(self) -> datetime:
        """By the clock that is ahead."""
        return max(self.now(), self.library.clock())

    def note_quarantine(self, doomed: set[bytes]) -> None:
        """What lies there now, which `doomed` had to leave at once."""
        found = observe(self.me.root, ".mirror/quarantine")
        self.memory.note_quarantine(found, doomed, self._latest())

    def _note_scope(self, ran: Ran | None) -> None:
        """A run accepts what the mirror is about unless it holds something for that."""
        if ran is None:
            self.memory.accepted |= {self.selection}
        elif ran.is_whole and not any("--accept-scope" in way for _, way in ran.holds):
            self.memory.accepted = {self.selection}

    def _run(self, die_at: int | None, options: dict[str, Any]) -> Ran | None:
        selection = SELECTIONS[self.selection]
        self.me.mirror = replace(self.me.mirror, layout=self.layout, filter=selection.filter)
        if die_at is None:
            return self.runner.run(self._ran(options))
        with dying(die_at) as death:
            try:
                ran = self.runner.run(self._ran(options))
            except KilledError:
                return None
        return None if death.came else ran

    async def _ran(self, options: dict[str, Any]) -> Ran:
        try:
            run = await self.me.run(**options)
        except MirrorError as error:  # before anything was looked at
            return Ran(error.exit_code, error=error)
        stopped = run.report.error
        assert not isinstance(stopped, InternalError), stopped
        return Ran(run.report.exit_code, run, stopped)

    def _way_through(self, accept: bool) -> dict[str, Any]:  # noqa: FBT001 (its name says it)
        """Every option that lets pass what is held."""
        return {"allowed": EVERYTHING} if accept else {}

    # -- what must hold ----------------------------------------------------------------------------

    def all_bytes(self) -> dict[bytes, str]:
        """By SHA-1, where something lies that must not get lost."""
        found = {seen.sha1: path for path, seen in observe(self.me.root).items()}
        for area in ("quarantine", "moving"):
            inside = observe(self.me.root, f".mirror/{area}")
            found |= {seen.sha1: f".mirror/{area}/{path}" for path, seen in inside.items()}
        return found

    def assert_safe(
        self,
        before: dict[str, Seen],
        after: dict[str, Seen],
        bytes_before: dict[bytes, str],
        may_vanish: set[bytes],
    ) -> None:
        """Nothing was lost, nobody's own was touched, nothing strange came."""
        lost = bytes_before.keys() - self.all_bytes().keys() - may_vanish
        assert not lost, f"lost: {[bytes_before[digest] for digest in lost]}"
        for path, theirs in self.hands.theirs.items():
            assert not theirs.must_stay or after.get(path) == before[path], f"touched: {path}"
        strange = {path for path, seen in after.items() if seen.sha1 not in {*self.made, b""}}
        assert not strange, f"no original has these bytes: {strange}"

    def _note_adoptable(self) -> None:
        """Files of somebody's that a run may take for the mirror's: the bytes and names of one."""
        names = {
            (key, one.sha1)
            for selection in SELECTIONS
            for one in wanted(self.library, selection, self.layout, self._ids())
            for key in one.keys
        }
        for path, theirs in self.hands.theirs.items():
            named = (fold(path), theirs.seen.sha1)
            theirs.perhaps_adopted |= named in names or named in self.hands.placed

    def _tell(self, ran: Ran | None) -> None:
        if troubles.DAMAGING & {name.partition(" ")[0] for name in self.troubles}:
            self.suspected |= set(self.me.originals())
        self.asked = self.me.originals().total()
        self.sandbox.requests.clear()
        seeming = self.seeming
        seeming.troubles.update(self.troubles)
        seeming.together[len(set(self.troubles))] += 1
        if ran is None:
            seeming.killed += 1
            return
        seeming.codes[ran.code.name] += 1
        if ran.run is not None:
            seeming.outcomes.update(outcome.value for outcome in ran.run.report.counts)
            seeming.holds.update(way.rstrip(" 0123456789") for _, way in ran.holds)
            seeming.purged += ran.run.report.purged
