"""After a run without faults the tree equals the model, and the next run is a no-op."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mirror.core.model import OnGone
from mirror.core.report import Outcome
from mirror.errors import ExitCode
from tests.integration.mirroring import own_state, tree
from tests.machine.hands import Seen, observe
from tests.machine.leaving import KEPT, Held, Leaving
from tests.machine.model import Wanted, fold
from tests.machine.world import Ran, World

NEVER_HELD = 10  # up to so many changes no limit is asked


class Checker:
    """Judges what lies there after a good run by what lay there after the last one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = world.memory
        self.restless: set[str] = set()  # assets that may have got another path since
        self.unsettled = False  # all of them may
        self.server_changed = False  # it was restored, or installed anew

    def forget(self) -> None:
        """The index is lost: what is not wanted any more is somebody's own from now on."""
        self.world.hands.disown_everything()
        self.memory.held.clear()
        self.memory.accepted.clear()
        self.unsettled = True

    def check(self) -> None:
        """Mend everything, run, compare, and run once more."""
        world = self.world
        world.mend()
        quarantine_before = {aside.sha1 for aside in self.memory.asides.values()}
        ran = self._run_well()
        goal = world.goal()
        after = observe(world.me.root)
        owned = self._read_manifest(after, ran)
        self._check_theirs(after, owned)
        if world.is_nobody:
            return
        places = _matched(goal, owned)
        missing = [one for one in goal if one.asset.id not in places]
        excused = [one for one in missing if self._is_excused(one, after)]
        assert missing == excused, f"missing: {[one.names[0] for one in missing]} {ran}"
        assert ran.code is ExitCode.OK or excused, ran
        self._check_rest(goal, owned, places, {one.asset.id for one in excused})
        self._check_stable(places, goal)
        if not excused:
            self._check_deleted(goal, quarantine_before)
            assert not self._work_files()
        self._remember(goal, owned, places)
        if not excused:
            self._check_no_op()

    def _work_files(self) -> list[Path]:
        state = self.world.me.root / ".mirror"
        return [*(state / "partial").iterdir(), *(state / "moving").iterdir()]

    # -- runs --------------------------------------------------------------------------------------

    def _run_well(self) -> Ran:
        may_hold = self._may_hold()
        ran = self._ran()
        if ran.code is ExitCode.HELD:
            assert may_hold, ran.holds
            self.world.set_clock(timedelta())
            ran = self._ran(accept=True)
        known = ran.ids(Outcome.KNOWN)
        assert known <= self.world.suspected, ran
        if known:  # the server's copy was restored: its date, and so its ETag, is another
            self.world.renew_files(known)
            ran = self._ran(accept=True)
            assert not ran.ids(Outcome.KNOWN), ran
        self.world.suspected.clear()
        self.world.may_be_stale = self.server_changed = False
        return ran

    def _may_hold(self) -> bool:
        """Whether there is anything that a person has to answer."""
        world, goal = self.world, self.world.goal()
        gone = self.memory.gone(goal)
        if not goal or len(self.memory.held) > NEVER_HELD or world.is_nobody:
            return True
        if self.server_changed or world.was_skewed:
            return True
        if self.memory.policies.keep_all:
            return False
        leaving = world.leaving(goal)
        owners = {one.asset.owner_id for one in goal}
        return (
            bool(self.memory.accepted - {world.selection})
            or any(held.owner_id not in owners for held in gone.values())
            or any("gone" in leaving.verdicts(held) for held in gone.values())
        )

    def _ran(self, *, accept: bool = False) -> Ran:
        ran = self.world.run(accept=accept, relist=self.world.may_be_stale)
        assert ran is not None
        return ran

    def _check_no_op(self) -> None:
        world = self.world
        before, inside = tree(world.me.root), own_state(world.me.root)
        ran = self._ran()
        assert ran.code is ExitCode.OK, ran
        assert ran.run is not None
        assert ran.run.plan.actions == (), [str(action) for action in ran.run.plan.actions]
        assert world.asked == 0, "an original was asked for"
        assert tree(world.me.root) == before
        assert own_state(world.me.root) == inside

    # -- what lies there ---------------------------------------------------------------------------

    def _read_manifest(self, after: dict[str, Seen], ran: Ran) -> dict[str, bytes]:
        """SHA1SUMS, each line of which must be true."""
        file = self.world.me.root / ".mirror/SHA1SUMS"
        lines = file.read_text().splitlines() if file.exists() else []
        owned = {path: bytes.fromhex(digest) for digest, _, path in map(_parted, lines)}
        false = {path for path, digest in owned.items() if _sha1(after.get(path)) != digest}
        # What was lost or damaged here, and is not to be had any more, is told by `sha1sum -c`.
        told = {path for path in false if owned[path] in self.world.hands.disturbed}
        assert not false - told, f"SHA1SUMS is not true of {false}"
        assert not told or ran.code is ExitCode.PARTIAL, f"SHA1SUMS is not true of {false}"
        assert len({fold(path) for path in owned}) == len(owned), owned
        return {path: digest for path, digest in owned.items() if path not in told}

    def _is_excused(self, one: Wanted, after: dict[str, Seen]) -> bool:
        return one.asset.id in self.world.library.erased or _has_no_name(
            one, after, self.world.me.root
        )

    def _check_rest(
        self,
        goal: list[Wanted],
        owned: dict[str, bytes],
        places: dict[str, str],
        excused: set[str],
    ) -> None:
        """What is the mirror's and not wanted is what had to be kept."""
        rest = {path: owned[path] for path in owned.keys() - set(places.values())}
        leaving = self.world.leaving(goal)
        may = list(self._may_keep(goal, excused, leaving))
        must = [held for held in may if self._is_sure(held) and leaving.fates(held) == KEPT]
        for_each = {held.asset_id: _with(rest, held.sha1s) for held in must}
        lost = for_each.keys() - _pairs(for_each).keys()
        assert not lost, f"not kept: {[self.memory.held[asset_id] for asset_id in lost]}"
        of_each = {
            path: {held.asset_id for held in may if digest in held.sha1s}
            for path, digest in rest.items()
        }
        surplus = of_each.keys() - _pairs(of_each).keys()
        assert not surplus, f"not removed: {surplus}"

    def _may_keep(self, goal: list[Wanted], excused: set[str], leaving: Leaving) -> Iterator[Held]:
        certain = {held.asset_id for held in self.memory.held.values() if held.certain}
        new = {(one.asset.owner_id, one.sha1) for one in goal if one.asset.id not in certain}
        for held in self.memory.held.values():
            if held.asset_id in excused:
                yield held  # what the server has now is not to be had, and ours stays
            elif held.asset_id in {one.asset.id for one in goal}:
                continue
            # A row without its asset is given to the same photo under another id.
            given = self._was_there(held) and any((held.owner_id, one) in new for one in held.sha1s)
            if not given and (excused or OnGone.KEEP in leaving.fates(held)):
                yield held

    def _is_sure(self, held: Held) -> bool:
        """Whether its file is there and its own: no run since may have given it to another id."""
        perhaps_given = any(
            other.owner_id == held.owner_id and other.sha1s & held.sha1s
            for other in self.memory.held.values()
            if not other.certain
        )
        return self._was_there(held) and not perhaps_given

    def _was_there(self, held: Held) -> bool:
        return held.certain and held.sha1s.isdisjoint(self.world.hands.disturbed)

    def _check_deleted(self, goal: list[Wanted], quarantine_before: set[bytes]) -> None:
        """What had to be deleted is not just in quarantine."""
        leaving = self.world.leaving(goal)
        lying = {aside.sha1 for aside in self.memory.asides.values()}
        for held in self.memory.gone(goal).values():
            if leaving.fates(held) == {OnGone.DELETE} and self._is_sure(held):
                left = held.sha1s & lying - quarantine_before
                assert not left, f"not deleted: {held}"

    def _check_theirs(self, after: dict[str, Seen], owned: dict[str, bytes]) -> None:
        """Every other file in the tree is somebody's own."""
        hands = self.world.hands
        for path in [path for path in hands.theirs if path in owned or path not in after]:
            theirs = hands.theirs.pop(path)
            assert not theirs.must_stay, f"taken: {path}"
        for path, theirs in hands.theirs.items():
            theirs.in_the_place_of_ours = theirs.perhaps_adopted = False
            assert after[path] == theirs.seen, f"changed: {path}"
        unexplained = after.keys() - owned.keys() - hands.theirs.keys()
        assert not unexplained, f"nobody's: {unexplained}"

    def _check_stable(self, places: dict[str, str], goal: list[Wanted]) -> None:
        """A path once given stays with its asset."""
        if self.unsettled:
            return
        for one in goal:
            held = self.memory.held.get(one.asset.id)
            if held is None or one.asset.id in self.restless or one.asset.id not in places:
                continue
            if held.certain and held.sha1s == {one.sha1} and self._is_sure(held):
                assert places[one.asset.id] == held.path, f"{held.path} -> {places[one.asset.id]}"

    def _remember(
        self, goal: list[Wanted], owned: dict[str, bytes], places: dict[str, str]
    ) -> None:
        by_id = {one.asset.id: one for one in goal}
        rest = {path: owned[path] for path in owned.keys() - set(places.values())}
        left = [held for held in self.memory.held.values() if held.asset_id not in places]
        self.memory.held = {
            asset_id: self._held(by_id[asset_id], path) for asset_id, path in places.items()
        }
        fitting = {
            path: {held.asset_id for held in left if digest in held.sha1s}
            for path, digest in rest.items()
        }
        by_left = {held.asset_id: held for held in left}
        for path, asset_id in _pairs(fitting).items():
            self.memory.held[asset_id] = replace(
                by_left[asset_id], sha1s={rest[path]}, path=path, certain=True
            )
        self.world.hands.disturbed.clear()
        self.restless.clear()
        self.unsettled = False

    def _held(self, one: Wanted, path: str) -> Held:
        return Held(one.asset.id, one.asset.owner_id, {one.sha1}, path, one.still_id)


def _parted(line: str) -> tuple[str, str, str]:
    assert not line.startswith("\\"), line
    return line[:40], line[40:42], line[42:]


def _sha1(seen: Seen | None) -> bytes | None:
    return seen.sha1 if seen else None


def _with(rest: dict[str, bytes], digests: set[bytes]) -> set[str]:
    return {path for path, digest in rest.items() if digest in digests}


def _pairs(fitting: dict[str, set[str]]) -> dict[str, str]:
    """As many keys as can have a value of their own, each with it."""
    taken: dict[str, str] = {}

    def seat(key: str, tried: set[str]) -> bool:
        for value in sorted(fitting[key] - tried):
            tried.add(value)
            if value not in taken or seat(taken[value], tried):
                taken[value] = key
                return True
        return False

    for key in sorted(fitting):
        seat(key, set())
    return {key: value for value, key in taken.items()}


def _matched(goal: list[Wanted], owned: dict[str, bytes]) -> dict[str, str]:
    """By asset id, the file that is the asset's: its bytes at one of its names, each for one."""
    return _pairs(
        {
            one.asset.id: {path for path in _with(owned, {one.sha1}) if fold(path) in one.keys}
            for one in goal
        }
    )


def _has_no_name(one: Wanted, after: dict[str, Seen], root: Path) -> bool:
    """Whether something else lies at each of its names, or where one of them needs a folder."""
    folders = {fold(str(path.relative_to(root))) for path in root.rglob("*") if path.is_dir()}
    taken = {fold(path) for path in after}
    return all(
        name in taken | folders or any(above in taken for above in _above(name))
        for name in one.keys
    )


def _above(key: str) -> Iterable[str]:
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key
