"""One mirror at one destination, read again; what is damaged is made good, if that is asked for."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from mirror.core.guard import Allowed
from mirror.core.model import Destination, Mirror
from mirror.core.verify import Condition, Verification, quota
from mirror.destinations import OpenDestination
from mirror.destinations.identity import Known
from mirror.errors import InternalError, InterruptedRunError, MirrorError
from mirror.immich.client import Client
from mirror.index import Index
from mirror.limits import Allowance
from mirror.manifest import tend_manifest
from mirror.offline import held
from mirror.rehash import Hasher
from mirror.repair import Mender
from mirror.threads import in_thread
from mirror.transfer import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says."""

    share: Fraction = Fraction(1)  # of the files, those that were verified the longest ago
    budget_s: float | None = None  # for all destinations together
    repair: bool = False
    prove: bool = False
    allowed: Allowed = field(default_factory=Allowed)
    wait_s: float = 0.0
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class VerifyRun:
    """One verification; errors end up in the report."""

    mirror: Mirror
    destination: Destination
    label: str
    known: Known | None
    asked: Asked
    until_s: float | None  # by `time.monotonic`; None: until all is done
    connected: Callable[[], Awaitable[Client]]  # is called only where the server is needed
    progress: Progress
    allowance: Allowance = field(default_factory=Allowance)  # for what is fetched
    report: Verification = field(init=False)

    def __post_init__(self) -> None:
        self.report = Verification(self.mirror.name, self.destination.path)

    async def run(self) -> Verification:
        """Read, and make good what is to be made good."""
        try:
            async with held(
                self.destination, self.known, self.label, wait_s=self.asked.wait_s
            ) as place:
                if place.folder is not None:
                    await self._verify(place.folder, place.index)
        except asyncio.CancelledError:
            self.report.error = InterruptedRunError("the run was interrupted")
            raise
        except MirrorError as error:
            self.report.error = error
        except Exception as error:  # noqa: BLE001 (it must not end the other mirrors)
            self.report.error = InternalError.of(error)
        return self.report

    async def _verify(self, folder: OpenDestination, index: Index) -> None:
        await in_thread(tend_manifest, folder, index, reads=True)
        hasher = Hasher(
            folder,
            index,
            self.report,
            self.progress,
            clock=self.asked.clock,
            until_s=self.until_s,
        )
        unproved = index.stalest(self.asked.clock(), proved=False)
        self.report.counts[Condition.UNPROVED] = len(unproved)
        files = index.stalest(self.asked.clock(), proved=True)
        await hasher.run(files, quota(self.asked.share, len(files)))
        if self.asked.repair and self.report.counts[Condition.DAMAGED]:
            await (await self._mender(folder, index)).repair()
        if self.asked.prove and unproved and not hasher.is_late:
            wanted = [
                asset_id for asset_id, _ in unproved[: quota(self.asked.share, len(unproved))]
            ]
            mender = await self._mender(folder, index)
            done = await mender.prove(hasher.rows(wanted), is_late=lambda: hasher.is_late)
            self.report.left += len(wanted) - done

    async def _mender(self, folder: OpenDestination, index: Index) -> Mender:
        client = await self.connected()
        return Mender(
            client=client,
            folder=folder,
            index=index,
            destination=self.destination,
            progress=self.progress,
            report=self.report,
            run_id=self.asked.run_id,
            # By the clock that is ahead: nothing that is set aside is due too early by the other.
            now=max(client.server_date or self.asked.clock(), self.asked.clock()),
            clock=self.asked.clock,
            allowed=self.asked.allowed,
            allowance=self.allowance,
        )
