"""One mirror at one destination, top to bottom: list, plan, hold, execute, report."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mirror.budget import Lane
from mirror.carry_out import Doer
from mirror.core.model import Destination, Mirror
from mirror.core.plan import Plan
from mirror.core.report import Report
from mirror.decide import Decider
from mirror.destinations import Site
from mirror.destinations.identity import Known, Owner
from mirror.errors import IndexDamagedError, InternalError, InterruptedRunError, MirrorError
from mirror.immich.catalogue import Catalogues
from mirror.immich.client import Client
from mirror.immich.listing import user_id
from mirror.last_run import last_run, write_last_run
from mirror.limits import Allowance
from mirror.manifest import tend_manifest
from mirror.nearby import Neighbour
from mirror.offline import claimed
from mirror.options import Options
from mirror.place import Place
from mirror.telling import tell_plan
from mirror.threads import in_thread
from mirror.transfer import Progress


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
    catalogues: Catalogues | None = None  # None: everything is listed each time
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
        place = Place(self.destination, self.known, dry=self.options.dry, site=self.site)
        async with place:
            try:
                with place.explained():
                    user = await self._claim(place)
                    with (
                        self.here.holding(place.index, place.folder) if self.here else nullcontext()
                    ):
                        await self._sync(place, user)
            except asyncio.CancelledError:
                self.report.error = InterruptedRunError("the run was interrupted")
                raise
            except MirrorError as error:
                self.report.error = error
            except Exception as error:  # noqa: BLE001 (it must not end the other mirrors)
                self.report.error = InternalError.of(error)
            finally:
                await in_thread(self._leave_word, place)

    async def _claim(self, place: Place) -> str | None:
        asked = self.options
        remembered = await in_thread(place.open, new_destination=asked.new_destination)
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
        decided = await self._decider().decide(place, user)
        self.plan = decided.plan
        tell_plan(self.report, decided.whole, decided.holds)
        if place.folder is None or self.options.dry:
            return
        doer = Doer(
            mirror=self.mirror,
            destination=self.destination,
            client=self.client,
            options=self.options,
            progress=self.progress,
            lane=self.lane,
            here=self.here,
            allowance=self.allowance,
            report=self.report,
            folder=place.folder,
            index=place.index,
        )
        await doer.carry_out(decided)

    def _decider(self) -> Decider:
        return Decider(
            mirror=self.mirror,
            destination=self.destination,
            client=self.client,
            options=self.options,
            report=self.report,
            catalogues=self.catalogues,
        )

    def _leave_word(self, place: Place) -> None:
        """What others read of the tree and of the run; an error here hides no earlier one."""
        self.report.ended_at = datetime.now(UTC)
        if place.folder is None or not place.is_ours:
            return
        try:
            with place.explained():
                tend_manifest(place.folder, place.index, dry=self.options.dry)
        except MirrorError as error:
            self.report.error = self.report.error or error
        if self.options.dry:
            return
        try:
            told = last_run(self.report, label=self.label, run_id=self.options.run_id)
            write_last_run(place.folder, told)
        except MirrorError as error:
            self.report.error = self.report.error or error
