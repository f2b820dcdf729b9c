"""What comes first: moves so that each target is free when its turn comes, the rest as asked."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mirror.core.allocate import ancestors
from mirror.core.layout import fold
from mirror.core.model import Order
from mirror.core.plan import Action


@dataclass(frozen=True, slots=True)
class Step:
    """One rename of a move; a move in a circle takes two."""

    action: Action
    source: str
    path: str
    last: bool = True


def steps(moves: Sequence[Action], parking: Callable[[Action], str]) -> Iterator[Step]:
    """Chains from their free end, circles and case-only renames by way of `parking(action)`.

    A move waits for the file at its target, and for a file where its target needs a folder.
    """
    by_source = {fold(move.source): move for move in moves}

    def in_the_way(move: Action) -> Iterator[str]:
        key = fold(move.path)
        return (source for source in (key, *ancestors(key)) if source in by_source)

    begun: set[str] = set()
    gone: set[str] = set()  # no longer at their source
    for start, first in by_source.items():
        if start in begun:
            continue
        begun.add(start)
        waiting = [(start, in_the_way(first))]
        while waiting:
            source, blockers = waiting[-1]
            blocker = next(blockers, None)
            if blocker is None:
                waiting.pop()
                yield _final(by_source[source], parking, parked=source in gone)
                gone.add(source)
            elif blocker not in begun:
                begun.add(blocker)
                waiting.append((blocker, in_the_way(by_source[blocker])))
            elif blocker not in gone:  # it waits for this one
                gone.add(blocker)
                move = by_source[blocker]
                yield Step(move, move.source, parking(move), last=False)


def _final(move: Action, parking: Callable[[Action], str], *, parked: bool) -> Step:
    return Step(move, parking(move) if parked else move.source, move.path)


def waves(ordered: Iterable[Step]) -> Iterator[list[Step]]:
    """The same steps in the same order, in groups of which none waits for another of its group."""
    wave: list[Step] = []
    left: set[str] = set()  # keys of the group's sources
    reached: set[str] = set()  # its paths
    for step in ordered:
        key = fold(step.path)
        if step.source in reached or not left.isdisjoint((key, *ancestors(key))):
            yield wave
            wave, left, reached = [], set(), set()
        wave.append(step)
        left.add(fold(step.source))
        reached.add(step.path)
    if wave:
        yield wave


# -- what is to be brought -------------------------------------------------------------------------


def queued(
    actions: Sequence[Action], order: Order, sizes: Mapping[str, int] | None = None
) -> list[Action]:
    """In the order that a mirror asks for; `sizes` in bytes, by asset id.

    What has no date, or no size, comes last.
    """
    if order is Order.PATH:
        return list(actions)
    if order is Order.SMALLEST:
        known = sizes or {}
        return sorted(actions, key=lambda action: known.get(action.asset_id, math.inf))
    sign = -1 if order is Order.NEWEST else 1
    return sorted(actions, key=lambda action: _taken_s(action, sign))


def _taken_s(action: Action, sign: int) -> float:
    taken_at = action.asset.taken_at if action.asset else None
    return math.inf if taken_at is None else sign * taken_at.timestamp()
