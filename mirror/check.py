"""Server, index and disk compared at one destination, as a dry run does: nothing is written."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from mirror.core.check import Checked, Mark, Why, differences, ids, path_bytes
from mirror.core.guard import Hold
from mirror.decide import Decided, Decider
from mirror.events import Event, emit
from mirror.index import Index
from mirror.place import Place
from mirror.run import MirrorRun
from mirror.survey import Survey


@dataclass(slots=True, kw_only=True)
class Check(MirrorRun):
    """A run that only compares; its options are dry."""

    tell: Callable[["Check", Checked], None]  # is given every path, in byte order
    one_way: bool = False  # what lies here alone is not asked for
    marks: Counter[Mark] = field(default_factory=Counter)
    found: list[Checked] = field(default_factory=list)  # all that does not match
    holds: tuple[Hold, ...] = ()

    async def _sync(self, place: Place, user: str | None) -> None:
        decider = replace(self._decider(), compares_all=True)
        decided = await decider.decide(place, user)
        self.plan, self.holds = decided.whole, decided.holds
        for checked in self._compared(decider, decided, place.index):
            self.marks[checked.mark] += 1
            self.tell(self, checked)
            if checked.mark is not Mark.MATCH:
                self.found.append(checked)
        self.report.differences = len(self.found)
        emit(
            "info",
            Event.CHECK_END,
            counts={mark.word: self.marks[mark] for mark in Mark},
            complete=self.report.complete,
        )

    def _compared(self, decider: Decider, decided: Decided, index: Index) -> Iterable[Checked]:
        survey, actions = decided.survey, decider.as_if_nothing_had_failed(decided).actions
        unlisted = survey.unlisted if self.report.complete else []
        apart = ids(actions) | {row.asset_id for row in unlisted}
        known = frozenset(decided.whole.known)
        differing = differences(actions, unlisted, survey.disk, known=known)
        every = heapq.merge(differing, self._rows(index, survey, apart), key=path_bytes)
        return (it for it in every if not (self.one_way and it.mark is Mark.MISSING_ON_SRC))

    def _rows(self, index: Index, survey: Survey, apart: set[str]) -> Iterator[Checked]:
        """The rows that the plan has nothing to do with."""
        for path, _, _, asset_id in index.recorded():
            if asset_id in apart:
                continue
            told = path.decode("utf-8", "surrogateescape")
            if self.report.complete or asset_id in survey.listed:
                yield Checked(Mark.MATCH, told, Why.SAME, asset_id)
            else:
                yield Checked(Mark.ERROR, told, Why.NOT_LISTED, asset_id)
