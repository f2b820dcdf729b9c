"""Moves in an order in which each target is free when its turn comes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mirror.core.layout import fold
from mirror.core.plan import Action


@dataclass(frozen=True, slots=True)
class Step:
    """One rename of a move; a move in a circle takes two."""

    action: Action
    source: str
    path: str
    last: bool = True


def steps(moves: Sequence[Action], parking: Callable[[Action], str]) -> Iterator[Step]:
    """Chains from their free end, circles and case-only renames by way of `parking(action)`."""
    by_source = {fold(move.source): move for move in moves}
    done: set[str] = set()
    for move in moves:
        chain: list[Action] = []
        current: Action | None = move
        while current is not None and fold(current.source) not in done:
            done.add(fold(current.source))
            chain.append(current)
            current = by_source.get(fold(current.path))
        yield from _chain(chain, parking, circle=current is not None and current in chain)


def _chain(
    chain: Sequence[Action], parking: Callable[[Action], str], *, circle: bool
) -> Iterator[Step]:
    """`chain[n]` waits for `chain[n + 1]`; in a circle the last one waits for an earlier one."""
    if not circle:
        yield from (Step(move, move.source, move.path) for move in reversed(chain))
        return
    parked = next(move for move in chain if fold(move.source) == fold(chain[-1].path))
    yield Step(parked, parked.source, parking(parked), last=False)
    for move in reversed(chain):
        yield Step(move, parking(move) if move is parked else move.source, move.path)
