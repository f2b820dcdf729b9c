"""Both sides of a mirror looked at, and what follows: list, plan, hold. Nothing is done yet."""

from dataclasses import dataclass, replace
from typing import Final

from mirror.core.filter import moves
from mirror.core.guard import Hold, guard
from mirror.core.layout import compile_layout
from mirror.core.model import Destination, Mirror, OnGone
from mirror.core.plan import Plan, make_plan
from mirror.core.report import Report
from mirror.core.scope import generations_in, standing
from mirror.hearing import Hearing, watched_id
from mirror.immich.catalogue import Catalogue, Catalogues
from mirror.immich.client import Client
from mirror.immich.listing import Listing
from mirror.index import Index
from mirror.options import Options
from mirror.place import Place
from mirror.select import selected
from mirror.survey import Survey, Surveyor
from mirror.telling import tell_incomplete

STANDING: Final = "standing"  # a note in the index: what the last run brought it in line with


@dataclass(frozen=True, slots=True)
class Decided:
    """What there is to do, and what that was decided upon."""

    hearing: Hearing
    survey: Survey
    whole: Plan
    plan: Plan  # less what is held
    holds: tuple[Hold, ...]
    standing: str  # what a run that carries it out is in line with; empty: nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Decides for one mirror at one destination; why a listing is incomplete goes to the report."""

    mirror: Mirror
    destination: Destination
    client: Client
    options: Options
    report: Report
    catalogues: Catalogues | None = None  # None: everything is listed each time
    compares_all: bool = False  # also where everything is as the last run left it

    async def decide(self, place: Place, user: str | None) -> Decided:
        """List, compare, hear what became of what is not listed, plan, and hold back."""
        hearing, survey = await self._look(place, user)
        await hearing.hear(survey)
        tell_incomplete(self.report, hearing.problems)
        whole = self.whole(survey, hearing)
        circumstances = hearing.circumstances(place.index.count())
        plan, holds = guard(whole, self.destination, circumstances)
        generations = hearing.listing.generations
        standing_ = standing(hearing.scope, self.mirror, place.index.name_rules, generations)
        return Decided(hearing, survey, whole, plan, holds, standing_)

    def whole(self, survey: Survey, hearing: Hearing) -> Plan:
        """The plan before anything is held back."""
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

    def as_if_nothing_had_failed(self, decided: Decided) -> Plan:
        """The plan in which what came damaged before is asked for again."""
        if not decided.whole.known:
            return decided.whole
        tried = [replace(item, known_failure=False) for item in decided.survey.differences]
        return self.whole(replace(decided.survey, differences=tried), decided.hearing)

    def _catalogue(self, user: str | None) -> Catalogue | None:
        if self.catalogues is None or user is None:
            return None
        return self.catalogues.of(self.client, user)

    async def _stands(self, index: Index, hearing: Hearing) -> bool:
        """Whether the last run left everything in line, and the server has what it had then."""
        remembered = index.note(STANDING)
        generations = generations_in(remembered)
        told = standing(hearing.scope, self.mirror, index.name_rules, generations)
        if self.compares_all or not generations or told != remembered or index.failures():
            return False
        if any(moves(one) for one in (self.mirror.filter, *self.mirror.exclude)):
            return False
        count, others = index.counts()
        policies = {self.destination.on_removed, self.destination.on_unmatched}
        if others and policies != {OnGone.KEEP}:
            return False
        return await hearing.listing.is_as_it_was(generations, count)

    async def _look(self, place: Place, user: str | None) -> tuple[Hearing, Survey]:
        rules = place.index.name_rules
        layout = compile_layout(self.mirror.layout, self.mirror.names, version=rules)
        chosen = await selected(
            self.mirror, layout, self.client, user_id=user, pins=place.index.pins()
        )
        if chosen.new_pins:
            place.index.pin(chosen.new_pins)
        listing = Listing(
            self.client,
            chosen.selection,
            watched_id=watched_id(place.index),
            catalogue=self._catalogue(user),
        )
        surveyor = Surveyor(
            self.client,
            place.folder,
            place.index,
            layout,
            trusts_times=self.options.trusts_times,
            shard=self.destination.shard,
        )
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
        await surveyor.scan()
        if surveyor.is_as_recorded and await self._stands(place.index, hearing):
            return hearing, surveyor.nothing_new(listing.count)
        await surveyor.take(listing)
        tell_incomplete(self.report, listing.problems)
        survey = await surveyor.finish(complete=self.report.complete, now=listing.server_date)
        return hearing, survey
