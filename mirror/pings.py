"""Telling a dead man's switch that a run began, and how it ended: healthchecks.io's convention.

The start goes to `<url>/start`, a success to `<url>`, a failure to `<url>/<exit code>` with words
for whoever gets the alarm. The address is a secret: whoever has it can say that all is well. It is
in no log line, and neither is what an error of the connection says of it.
"""

import asyncio
from typing import Final

import aiohttp
from yarl import URL

from mirror import __version__
from mirror.errors import ExitCode, MirrorError
from mirror.web import trusted

TRIES: Final = 3
MOST_BODY_BYTES: Final = 10_000  # healthchecks.io keeps 100 kB, others less
LIMIT_S: Final = 5.0
WAITS_S: Final = (1.0, 3.0)
_GOOD: Final = frozenset({ExitCode.OK, ExitCode.LIMIT})  # stopping at a limit is what was asked for


class PingError(MirrorError):
    """Nobody could be told; says why without the address."""

    code = "ping"


def check(url: str) -> None:
    """Refuse what cannot be pinged.

    Raises:
        PingError: it is no URL of http or https.
    """
    _target(url, "")


async def ping_start(url: str) -> None:
    """A run begins.

    Raises:
        PingError: as `ping_end`.
    """
    await _ping(url, "start", None, TRIES)


async def ping_end(url: str, code: ExitCode, words: str, *, tries: int = TRIES) -> None:
    """A run has ended; `words` go with a failure, the end of them if they are too many.

    Raises:
        PingError: none of the tries was answered with a success.
    """
    if code in _GOOD:
        await _ping(url, "", None, tries)
    else:
        body = words.encode("utf-8", "replace")[-MOST_BODY_BYTES:]
        whole_characters = body.decode("utf-8", "ignore").encode()
        await _ping(url, str(int(code)), whole_characters, tries)


async def _ping(url: str, suffix: str, body: bytes | None, tries: int) -> None:
    target = _target(url, suffix)
    waits_s = [*WAITS_S, *[WAITS_S[-1]] * tries][: tries - 1]
    for wait_s in (*waits_s, None):
        reason, is_final = await _attempt(target, body)
        if reason is None:
            return
        if is_final or wait_s is None:
            raise PingError("the ping was not taken", why=reason)
        await asyncio.sleep(wait_s)


def _target(url: str, suffix: str) -> URL:
    try:
        base = URL(url)
    except ValueError:
        raise PingError("the ping has no address", why="it is no URL") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise PingError("the ping has no address", why="it is no http or https URL")
    if not suffix:
        return base
    return base.with_path(f"{base.path.rstrip('/')}/{suffix}").with_query(base.query)


async def _attempt(target: URL, body: bytes | None) -> tuple[str | None, bool]:
    """Why it was not taken, None if it was; and whether another try is in vain."""
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    headers = {"User-Agent": f"immich-mirror/{__version__}"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted()),
                timeout=timeout,
                headers=headers,
                trust_env=True,
            ) as session,
            session.request(
                "GET" if body is None else "POST", target, data=body, allow_redirects=False
            ) as response,
        ):
            if response.ok and response.status // 100 == 2:  # noqa: PLR2004 (the class of successes)
                return None, True
            retriable = response.status >= 500 or response.status == 429  # noqa: PLR2004
            return f"the answer was {response.status}", not retriable
    except TimeoutError:
        return f"no answer within {LIMIT_S:g} s", False
    except (aiohttp.ClientError, OSError) as error:
        return f"no connection ({type(error).__name__})", False
