"""What was decided for one mirror at one destination, done: execute, then let go what waited."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mirror.budget import Budget, Lane
from mirror.core.model import Destination, Mirror, OnGone, Order
from mirror.core.plan import Kind
from mirror.core.report import Report
from mirror.decide import STANDING, Decided
from mirror.destinations import OpenDestination
from mirror.errors import ExitCode
from mirror.execute import Work, execute
from mirror.immich.client import Client
from mirror.immich.listing import Listing
from mirror.index import Index
from mirror.limits import Allowance
from mirror.nearby import Neighbour, Neighbourhood
from mirror.options import Options
from mirror.publish import Publisher
from mirror.removal import Remover, due, purge
from mirror.telling import tell_hold
from mirror.threads import in_thread
from mirror.transfer import Fetcher, Progress

_FEW: Final = 2  # that need no order


@dataclass(frozen=True, slots=True, kw_only=True)
class Doer:
    """Does it, and keeps the report."""

    mirror: Mirror
    destination: Destination
    client: Client
    options: Options
    progress: Progress
    lane: Lane | None
    here: Neighbour | None
    allowance: Allowance
    report: Report
    folder: OpenDestination
    index: Index

    async def carry_out(self, decided: Decided) -> None:
        """The plan, less what is held."""
        hearing = decided.hearing
        await execute(decided.plan, self._work(decided, await self._sizes(decided)))
        # Before what the run saw becomes what the next one measures by.
        await self._purge(decided)
        if self.report.complete:
            hearing.adjourn(held_by_scope=any(hold.of_scope for hold in decided.holds))
        is_in_line = self.report.exit_code is ExitCode.OK
        self.index.keep_note(STANDING, decided.standing if is_in_line else "")

    def _work(self, decided: Decided, sizes: Mapping[str, int]) -> Work:
        now, run_id = decided.hearing.listing.server_date, self.options.run_id
        return Work(
            folder=self.folder,
            index=self.index,
            fetcher=self._fetcher(decided),
            # By the clock that is ahead: none that was behind makes anything due too early.
            publisher=Publisher(
                self.folder, self.index, run_id=run_id, now=max(now, self.options.clock())
            ),
            remover=Remover(self.folder, self.index, run_id=run_id, now=now),
            still=decided.hearing.still,
            report=self.report,
            progress=self.progress,
            heads=decided.survey.heads,
            transfers=self.mirror.transfers,
            allowance=self.allowance,
            order=self.mirror.order,
            sizes=sizes,
            now=now,
        )

    def _fetcher(self, decided: Decided) -> Fetcher:
        transfers = self.mirror.transfers
        return Fetcher(
            self.client,
            self.folder,
            self.index,
            self.progress,
            min_free_bytes=self.destination.min_free_bytes,
            now=decided.hearing.listing.server_date,
            lane=self.lane or Budget(transfers).lane("", transfers),
            here=self.here or Neighbourhood().add(Path(self.folder.name)),
            allowance=self.allowance,
            dedupe=self.destination.dedupe,
        )

    async def _sizes(self, decided: Decided) -> dict[str, int]:
        """What the server says of the sizes of what is to come, where the order asks for them.

        A listing of its own: it would lack what the server has not looked into yet.
        """
        missing = {action.asset_id for action in decided.plan.of(Kind.DOWNLOAD, Kind.REPLACE)}
        sizes: dict[str, int] = {}
        if self.mirror.order is not Order.SMALLEST or len(missing) < _FEW:
            return sizes
        selection = replace(decided.hearing.selected.selection, needs_exif=True)
        async for page in Listing(self.client, selection):
            for item in page:
                exif = item.asset.exif
                if item.asset.id in missing and exif is not None and exif.size_bytes is not None:
                    sizes[item.asset.id] = exif.size_bytes
        return sizes

    async def _purge(self, decided: Decided) -> None:
        """What has waited long enough in quarantine goes, unless something is amiss."""
        policies = {self.destination.on_removed, self.destination.on_unmatched}
        all_is_well = self.report.complete and not self.report.failures
        items = due(
            self.index,
            self.destination,
            decided.hearing.listing.server_date,
            at_once=all_is_well and OnGone.DELETE in policies,
        )
        if not items or not self.options.removes:
            return
        doubts = [doubt for doubt in decided.hearing.doubts if doubt.of_quarantine]
        for doubt in doubts:
            files = "1 file" if len(items) == 1 else f"{len(items)} files"
            reason = f"{doubt.reason}; {files} would leave quarantine for good"
            tell_hold(self.report, doubt.what, len(items), reason, doubt.way_through)
        if not doubts:
            self.report.purged = await in_thread(purge, self.folder, self.index, items)
