"""What may leave a destination: who is asked, what is doubted, what the next run measures by.

One hearing a run. Writes only notes of its own: what was seen in the trash, the scope and the
newest change that a run in line has accepted, and that the server went back in time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from mirror.core.evidence import (
    Evidence,
    Newest,
    Sentence,
    Verdict,
    gone_after,
    judge,
    went_back,
)
from mirror.core.filter import moves
from mirror.core.guard import Allowed, Circumstances, Doubt
from mirror.core.model import Destination, LivePhotos, OnGone, Row
from mirror.core.plan import candidates
from mirror.core.scope import scope
from mirror.immich.client import Client
from mirror.immich.listing import Listing
from mirror.immich.witness import Witness
from mirror.index import Index
from mirror.select import Selected
from mirror.survey import Survey

_SCOPE: Final = "scope"  # notes in the index
_NEWEST: Final = "newest"
_WENT_BACK: Final = "went_back"
_CLOCKS_MAY_DIFFER: Final = timedelta(days=1)
_FRESH: Final = timedelta(seconds=60)  # as long as this, what the server said still holds


def watched_id(index: Index) -> str:
    """The asset whose stamp tells whether the server is at least as new as it was."""
    newest = Newest.parse(index.note(_NEWEST))
    return newest.asset_id if newest else ""


@dataclass(slots=True, kw_only=True)
class Hearing:
    """The evidence for one mirror at one destination."""

    client: Client
    index: Index
    destination: Destination
    selected: Selected
    listing: Listing
    allowed: Allowed
    live_photos: LivePhotos
    clock: Callable[[], datetime]  # of this machine
    sentences: dict[str, Sentence] = field(default_factory=dict)  # by asset id
    short: list[str] = field(default_factory=list)  # ids that the listing should have had
    _rows: list[Row] = field(default_factory=list)
    _told: dict[str, Evidence] = field(default_factory=dict)
    _asked_at: datetime | None = None

    async def hear(self, survey: Survey) -> None:
        """Ask the server about each file whose asset is not listed, where a policy may move it.

        Raises:
            AccountError: it does not answer, or refuses the key.
        """
        if not self.index.count():
            # Whatever comes, comes by this: also if the run is cut.
            self.index.keep_note(_SCOPE, self.scope)
        policies = {self.destination.on_removed, self.destination.on_unmatched}
        if not self.listing.complete or policies == {OnGone.KEEP}:
            return
        self._rows = candidates(survey.unlisted, survey.differences, survey.disk)
        if not self._rows:
            return
        self._told = await self._ask(self._rows)
        survey.unlisted = [self._as_seen(row) for row in survey.unlisted]
        self.sentences = {
            row.asset_id: judge(row, self._told[row.asset_id], self.destination)
            for row in self._rows
        }
        await self._look_beyond()
        why = self._why_it_went_back()
        if why and not self.allowed.restored_server:
            self.index.keep_note(_WENT_BACK, why)  # before anything is done that would hide it

    async def _look_beyond(self) -> None:
        """What came after an asset that is gone was perhaps never the mirror's to list."""
        younger = gone_after(self.listing.landmarks, self._rows, self._told)
        if younger:
            later = await self._witness().uploaded_after(max(younger))
            self.listing.landmarks.newest_uploaded = later or self.listing.landmarks.newest_uploaded

    def _as_seen(self, row: Row) -> Row:
        evidence = self._told.get(row.asset_id)
        if evidence is None or evidence.verdict is not Verdict.TRASHED or row.seen_trashed_at:
            return row
        return replace(row, seen_trashed_at=self.listing.server_date)

    @property
    def problems(self) -> list[str]:
        """Why the listing is not complete after all."""
        if not self.short:
            return []
        return [f"{len(self.short)} assets are selected and were not listed: {self.short[0]} …"]

    async def still(self, asset_ids: Sequence[str]) -> set[str]:
        """Those of whom the server still says the same; asked again if that was long ago.

        Raises:
            AccountError: as `hear`.
        """
        if self._asked_at is None or timedelta() <= self.clock() - self._asked_at < _FRESH:
            return set(asset_ids)
        wanted = set(asset_ids)
        # Stills too: a live photo's video has no evidence of its own.
        told = await self._ask([row for row in self._rows if row.asset_id in wanted])
        return {
            asset_id
            for asset_id in wanted - set(self.short)
            if told[asset_id].verdict is self._told[asset_id].verdict
        }

    async def _ask(self, rows: Sequence[Row]) -> dict[str, Evidence]:
        witness = self._witness()
        told = await witness.testify(rows)
        self.short = witness.short
        self._asked_at = self.clock()
        trashed = [key for key, evidence in told.items() if evidence.verdict is Verdict.TRASHED]
        self.index.note_trashed(trashed, self.listing.server_date)
        return told

    def _witness(self) -> Witness:
        return Witness(
            self.client,
            self.selected.selection,
            self.listing,
            keeps_unmatched=self.destination.on_unmatched is OnGone.KEEP,
        )

    # -- what is doubted ---------------------------------------------------------------------------

    def circumstances(self, rows: int) -> Circumstances:
        """What the guard has to know; `rows` is the size of the index."""
        theirs = {row.owner_id for row in self._rows}
        return Circumstances(
            listed=self.listing.count,
            rows=rows,
            allowed=self.allowed,
            doubts=self.doubts,
            moves=moves(self.selected.selection.filter),
            scope_changed=self.index.note(_SCOPE) != self.scope,
            vanished_owners=frozenset(theirs - self.listing.landmarks.owners),
        )

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Why nothing may leave at all."""
        doubts = (
            self._of_restored_server(),
            self._of_clocks(),
            self._of_names(),
            self._of_user(),
        )
        return tuple(doubt for doubt in doubts if doubt is not None)

    @property
    def clocks_differ(self) -> timedelta | None:
        """By how much the clocks here and at the server differ; None while that is harmless."""
        apart = self.listing.server_date - self.clock()
        return apart if abs(apart) > _CLOCKS_MAY_DIFFER else None

    def _of_restored_server(self) -> Doubt | None:
        reason = self._why_it_went_back()
        if not reason or self.allowed.restored_server:
            return None
        return Doubt(
            what="a server that went back in time",
            reason=f"the server looks restored from a backup: {reason}",
            way_through="--accept-restored-server",
            of_replacements=True,
            of_quarantine=True,
        )

    def _why_it_went_back(self) -> str:
        remembered = Newest.parse(self.index.note(_NEWEST))
        seen_now = went_back(remembered, self.listing.landmarks, self._rows, self._told)
        return seen_now or self.index.note(_WENT_BACK)

    def _of_clocks(self) -> Doubt | None:
        apart = self.clocks_differ
        if apart is None:
            return None
        return Doubt(
            what="clocks that differ",
            reason=f"the server's clock says {self.listing.server_date:%F %T} UTC,"
            f" this machine's {self.clock():%F %T} UTC",
            way_through="set the wrong one right, and run again",
            of_quarantine=True,
        )

    def _of_names(self) -> Doubt | None:
        if not self.selected.vanished:
            return None
        return Doubt(
            what="names that are no more",
            reason="; ".join(self.selected.vanished),
            way_through="write its name of today, or its id, into the profile; or take it out",
        )

    def _of_user(self) -> Doubt | None:
        if self.selected.selection.user_id is not None:
            return None
        return Doubt(
            what="an unknown user",
            reason="it is not known whose key this is",
            way_through="give the key the permission user.read",
        )

    # -- what is remembered ------------------------------------------------------------------------

    @property
    def scope(self) -> str:
        """What the mirror is about."""
        selection = self.selected.selection
        return scope(selection.user_id, selection.filter, selection.exclude, self.live_photos)

    def adjourn(self, *, held_by_scope: bool) -> None:
        """Take down what the next run measures by; after a run whose listing was complete."""
        why = self._why_it_went_back()
        if why and not self.allowed.restored_server:
            self.index.keep_note(_WENT_BACK, why)
        else:
            self.index.keep_note(_WENT_BACK, "")
            newest = self.listing.landmarks.newest_updated
            if newest is not None:
                self.index.keep_note(_NEWEST, str(Newest(newest.id, newest.updated_at)))
            elif why:
                self.index.keep_note(_NEWEST, "")  # it was of the server that is no more
        if not held_by_scope:
            self.index.keep_note(_SCOPE, self.scope)
