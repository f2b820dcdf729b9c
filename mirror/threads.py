"""Blocking work on another thread, which nobody leaves behind."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_U = TypeVar("_U")


async def in_thread(function: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
    """`asyncio.to_thread`, but who is cancelled goes only when the thread has ended.

    A thread cannot be cancelled: it would go on with descriptors that are closed by then, or are
    those of another file already.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **named))
    try:
        return await asyncio.shield(work)
    finally:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # seen: who was cancelled will not ask for it


def side_by_side(function: Callable[[_U], _T], items: Sequence[_U], *, at_once: int) -> list[_T]:
    """What it gives for each item, so many at a time. Blocks.

    After an error nothing more begins; it is raised when what has begun has ended.
    """
    if at_once == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(function, items))
