"""Blocking work on another thread, which nobody leaves behind."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
