"""One mirror at one destination, top to bottom: list, plan, hold, execute, report."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirror.budget import Budget, Lane
from mirror.core.guard import Allowed, Hold, guard
from mirror.core.layout import compile_layout
from mirror.core.model import Destination, Mirror, OnGone, Order
from mirror.core.plan import Kind, Plan, make_plan
from mirror.core.report import Outcome, Report
from mirror.destinations import OpenDestination, Site
from mirror.destinations.identity import Known, Owner
from mirror.errors import (
    IndexDamagedError,
    InternalError,
    InterruptedRunError,
    MirrorError,
)
from mirror.events import Event, emit
from mirror.execute import Work, execute
from mirror.hearing import Hearing, watched_id
from mirror.immich.client import Client, Head
from mirror.immich.listing import Listing, user_id
from mirror.index import Index
from mirror.last_run import last_run, write_last_run
from mirror.limits import Allowance
from mirror.manifest import write_manifest
from mirror.nearby import Neighbour, Neighbourhood
from mirror.offline import claimed
from mirror.place import Place
from mirror.publish import Publisher
from mirror.removal import Remover, due, purge
from mirror.select import selected
from mirror.survey import Survey, Surveyor
from mirror.threads import in_thread
from mirror.transfer import Fetcher, Progress

_FEW: Final = 2  # that need no order


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says of a run, beyond the profile."""

    dry: bool = False
    trusts_times: bool = True  # False: what has its size and mtime is hashed all the same
    rebind: bool = False
    new_destination: bool = False
    allowed: Allowed = field(default_factory=Allowed)
    removes: bool = True  # False: `copy`, where several selections share a destination
    wait_s: float = 0.0  # how long another run that holds the destination is waited for
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)  # of this machine


@dataclass(frozen=True, slots=True)
class Decided:
    """What there is to do, and what that was decided upon."""

    hearing: Hearing
    survey: Survey
    whole: Plan
    plan: Plan  # less what is held
    holds: tuple[Hold, ...]


@dataclass(slots=True, kw_only=True)
class MirrorRun:
    """One run of one mirror at one destination; errors end up in the report."""

    mirror: Mirror
    destination: Destination
    client: Client
    label: str  # what the destination's marker calls the mirror: "profile/mirror", or "copy"
    known: Known | None
    options: Options
    progress: Progress
    lane: Lane | None = None  # of the budget that all mirrors share; None: one of its own
    here: Neighbour | None = None  # among the destinations of the same command; None: alone
    site: Site | None = None  # None: by the path of the destination
    allowance: Allowance = field(default_factory=Allowance)
    report: Report = field(init=False)
    plan: Plan = field(init=False, default=Plan())

    def __post_init__(self) -> None:
        self.report = Report(self.mirror.name, self.destination.path)

    async def run(self) -> Report:
        """Bring the destination in line; a dry run only plans."""
        self.report.started_at = datetime.now(UTC)
        await self._attempt()
        if isinstance(self.report.error, IndexDamagedError) and not self.options.dry:
            self.report.begin_anew()  # and the index was, too
            await self._attempt()
        return self.report

    async def _attempt(self) -> None:
        with Place(self.destination, self.known, dry=self.options.dry, site=self.site) as place:
            try:
                with place.explained():
                    user = await self._claim(place)
                    with self.here.holding(place.index) if self.here else nullcontext():
                        await self._sync(place, user)
            except asyncio.CancelledError:
                self.report.error = InterruptedRunError("the run was interrupted")
                raise
            except MirrorError as error:
                self.report.error = error
            except Exception as error:  # noqa: BLE001 (it must not end the other mirrors)
                self.report.error = InternalError.of(error)
            finally:
                self._leave_word(place)

    async def _claim(self, place: Place) -> str | None:
        asked = self.options
        remembered = place.open(new_destination=asked.new_destination)
        user = await user_id(self.client, None if asked.rebind else remembered)
        owner = Owner(
            user_id=user or "",
            mirror=self.label,
            rebind=asked.rebind,
            new_destination=asked.new_destination,
        )
        # By the clock that is ahead: what begins to wait now is due too early by no other.
        now = max(self.client.server_date or asked.clock(), asked.clock())
        await claimed(place, owner, now, wait_s=asked.wait_s)
        return user

    async def _sync(self, place: Place, user: str | None) -> None:
        decided = await self._decide(place, user)
        hearing, survey = decided.hearing, decided.survey
        self.plan, holds = decided.plan, decided.holds
        self._note(decided.whole, holds)
        if place.folder is None or self.options.dry:
            return
        sizes = await self._sizes(hearing)
        work = self._work(place.folder, place.index, hearing, survey.heads, sizes)
        await execute(self.plan, work)
        # Before what the run saw becomes what the next one measures by.
        await self._purge(place.folder, place.index, hearing)
        if self.report.complete:
            hearing.adjourn(held_by_scope=any(hold.of_scope for hold in holds))

    async def _decide(self, place: Place, user: str | None) -> Decided:
        """Both sides looked at, and what follows from it."""
        hearing, survey = await self._look(place, user)
        await hearing.hear(survey)
        self._tell_incomplete(hearing.problems)
        whole = self._whole(survey, hearing)
        circumstances = hearing.circumstances(place.index.count())
        plan, holds = guard(whole, self.destination, circumstances)
        return Decided(hearing, survey, whole, plan, holds)

    def _whole(self, survey: Survey, hearing: Hearing) -> Plan:
        return make_plan(
            survey.differences,
            survey.unlisted,
            survey.disk,
            complete=self.report.complete,
            removes=self.options.removes,
            sentences=hearing.sentences,
            still_rows=survey.still_rows,
            unchanged=survey.unchanged,
        )

    async def _purge(self, folder: OpenDestination, index: Index, hearing: Hearing) -> None:
        """What has waited long enough in quarantine goes, unless something is amiss."""
        policies = {self.destination.on_removed, self.destination.on_unmatched}
        all_is_well = self.report.complete and not self.report.failures
        items = due(
            index,
            self.destination,
            hearing.listing.server_date,
            at_once=all_is_well and OnGone.DELETE in policies,
        )
        if not items or not self.options.removes:
            return
        doubts = [doubt for doubt in hearing.doubts if doubt.of_quarantine]
        for doubt in doubts:
            files = "1 file" if len(items) == 1 else f"{len(items)} files"
            reason = f"{doubt.reason}; {files} would leave quarantine for good"
            self._hold(doubt.what, len(items), reason, doubt.way_through)
        if not doubts:
            self.report.purged = await in_thread(purge, folder, index, items)

    async def _look(self, place: Place, user: str | None) -> tuple[Hearing, Survey]:
        rules = place.index.name_rules
        layout = compile_layout(self.mirror.layout, self.mirror.names, version=rules)
        chosen = await selected(
            self.mirror, layout, self.client, user_id=user, pins=place.index.pins()
        )
        if chosen.new_pins:
            place.index.pin(chosen.new_pins)
        listing = Listing(self.client, chosen.selection, watched_id=watched_id(place.index))
        surveyor = Surveyor(
            self.client,
            place.folder,
            place.index,
            layout,
            trusts_times=self.options.trusts_times,
        )
        await surveyor.scan()
        await surveyor.take(listing)
        self._tell_incomplete(listing.problems)
        survey = await surveyor.finish(complete=self.report.complete, now=listing.server_date)
        hearing = Hearing(
            client=self.client,
            index=place.index,
            destination=self.destination,
            selected=chosen,
            listing=listing,
            allowed=self.options.allowed,
            live_photos=self.mirror.live_photos,
            clock=self.options.clock,
        )
        return hearing, survey

    def _tell_incomplete(self, problems: Sequence[str]) -> None:
        self.report.problems += problems
        self.report.complete = not self.report.problems
        for problem in problems:
            emit("warning", Event.LISTING_INCOMPLETE, reason=problem)

    def _work(
        self,
        folder: OpenDestination,
        index: Index,
        hearing: Hearing,
        heads: dict[str, Head],
        sizes: dict[str, int],
    ) -> Work:
        now, run_id = hearing.listing.server_date, self.options.run_id
        fetcher = Fetcher(
            self.client,
            folder,
            index,
            self.progress,
            min_free_bytes=self.destination.min_free_bytes,
            now=now,
            lane=self.lane or Budget(self.mirror.transfers).lane("", self.mirror.transfers),
            here=self.here or Neighbourhood().add(Path(folder.name)),
            allowance=self.allowance,
            dedupe=self.destination.dedupe,
        )
        return Work(
            folder=folder,
            index=index,
            fetcher=fetcher,
            # By the clock that is ahead: none that was behind makes anything due too early.
            publisher=Publisher(folder, index, run_id=run_id, now=max(now, self.options.clock())),
            remover=Remover(folder, index, run_id=run_id, now=now),
            still=hearing.still,
            report=self.report,
            progress=self.progress,
            heads=heads,
            transfers=self.mirror.transfers,
            allowance=self.allowance,
            order=self.mirror.order,
            sizes=sizes,
            now=now,
        )

    async def _sizes(self, hearing: Hearing) -> dict[str, int]:
        """What the server says of the sizes of what is to come, where the order asks for them.

        A listing of its own: it would lack what the server has not looked into yet.
        """
        missing = {action.asset_id for action in self.plan.of(Kind.DOWNLOAD, Kind.REPLACE)}
        sizes: dict[str, int] = {}
        if self.mirror.order is not Order.SMALLEST or len(missing) < _FEW:
            return sizes
        selection = replace(hearing.selected.selection, needs_exif=True)
        async for page in Listing(self.client, selection):
            for item in page:
                exif = item.asset.exif
                if item.asset.id in missing and exif is not None and exif.size_bytes is not None:
                    sizes[item.asset.id] = exif.size_bytes
        return sizes

    def _note(self, whole: Plan, holds: tuple[Hold, ...]) -> None:
        """What the plan says by itself: what agrees, what failed before, what is held."""
        self.report.unchanged = whole.unchanged
        self.report.outcomes |= dict.fromkeys(whole.known, Outcome.KNOWN)
        for hold in holds:
            self.report.outcomes |= {action.asset_id: Outcome.HELD for action in hold.actions}
            self._hold(hold.what, len(hold.actions), hold.reason, hold.way_through)

    def _hold(self, what: str, assets: int, reason: str, way_through: str) -> None:
        self.report.holds.append((reason, way_through))
        emit(
            "warning",
            Event.PLAN_HELD,
            action=what,
            assets=assets,
            reason=reason,
            way_through=way_through,
        )

    def _leave_word(self, place: Place) -> None:
        """What others read of the tree and of the run; an error here hides no earlier one."""
        self.report.ended_at = datetime.now(UTC)
        if place.folder is None or not place.is_ours or self.options.dry:
            return
        try:
            with place.explained():
                if place.index.manifest_is_outdated:
                    write_manifest(place.folder, place.index)
        except MirrorError as error:
            self.report.error = self.report.error or error
        try:
            told = last_run(self.report, label=self.label, run_id=self.options.run_id)
            write_last_run(place.folder, told)
        except MirrorError as error:
            self.report.error = self.report.error or error
