"""When to try again, and after how long: for every request, downloads included."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mirror.errors import TransientError
from mirror.events import Event, emit

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential waits with jitter.

    A server that restarts or goes into maintenance refuses connections for up to 25 s (Immich 2.7.5
    and 3.1.0): with these numbers the waits last 28 to 56 s.
    """

    attempts: int = 10
    brief_attempts: int = 3  # for errors marked `brief`
    base_s: float = 0.5
    cap_s: float = 10.0
    total_s: float = 60.0  # of all waits; a longer Retry-After is not waited for
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random

    def wait_s(self, error: TransientError, *, attempt: int, waited_s: float) -> float | None:
        """How long to wait after failed attempt number `attempt` (from 1); None: give up."""
        if attempt >= (self.brief_attempts if error.brief else self.attempts):
            return None
        longest_s = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1))
        wait_s = max(longest_s * (0.5 + self.random() / 2), error.retry_after_s or 0.0)
        return wait_s if waited_s + wait_s <= self.total_s else None

    async def run(
        self, once: Callable[[], Awaitable[_T]], *, method: str, url: str, account: str = ""
    ) -> _T:
        """What `once` returns, tried again while it raises `TransientError`; waits are logged.

        Raises:
            AccountError: the outcome that the last error carries.
        """
        waited_s, attempt = 0.0, 0
        while True:
            attempt += 1
            try:
                return await once()
            except TransientError as error:
                wait_s = self.wait_s(error, attempt=attempt, waited_s=waited_s)
                if wait_s is None:
                    raise error.outcome from error.__cause__
                tell_retry(error, attempt, wait_s, method=method, url=url, account=account or None)
            await self.sleep(wait_s)
            waited_s += wait_s


def tell_retry(error: TransientError, attempt: int, wait_s: float, **request: str | None) -> None:
    """Log that a request will be tried again."""
    emit(
        "warning",
        Event.REQUEST_RETRY,
        status=error.status,
        attempt=attempt,
        wait_s=round(wait_s, 3),
        reason=error.why or error.what,
        **request,
    )
