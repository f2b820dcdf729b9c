"""Blocking work on another thread, which nobody leaves behind."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from mirror.errors import InterruptedRunError

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Set when somebody asked the run to stop: a thread cannot be cancelled, so whatever may take long
# on one looks here now and then.
stopping: Final = threading.Event()


def check_stopping() -> None:
    """Leave long work that only reads.

    Raises:
        InterruptedRunError: the run is to stop.
    """
    if stopping.is_set():
        raise InterruptedRunError("the run was interrupted")


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
