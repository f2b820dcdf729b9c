"""What a refusal means: statuses, bodies and broken connections become our errors, once.

Texts and statuses: Immich 2.7.5 and 3.1.0, measured. No message ever holds the key.
"""

import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from mirror.errors import (
    AccountError,
    KeyRefusedError,
    MirrorError,
    NotImmichError,
    PermissionMissingError,
    RequestError,
    ServerUnreachableError,
    TransientError,
    UnavailableError,
)

# Raised by aiohttp while connecting, sending, or reading a body.
BROKEN: Final = (aiohttp.ClientError, OSError, TimeoutError)

_GATEWAY: Final = frozenset({429, 502, 503, 504, 520, 521, 522, 523, 524})
_MISSING: Final = "Missing required permission: "
_LONGEST_TEXT: Final = 500


def message_of(body: bytes) -> str:
    """The server's words: `message` as a text or a list, and the `errors[]` of 3.x; one line."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(answer, Mapping):
        return ""
    parts = _texts(answer.get("message")) + [_issue(one) for one in _list(answer.get("errors"))]
    return " ".join("; ".join(part for part in parts if part).split())[:_LONGEST_TEXT]


def is_unknown_route(message: str) -> bool:
    """Whether a 404 speaks of the route, not of an asset: maintenance, or no Immich."""
    return message.startswith("Cannot ")


def is_key_refusal(status: int, message: str) -> bool:
    """A 401 that means the key; "Elevated permission is required" means a locked asset."""
    return status == HTTPStatus.UNAUTHORIZED and "elevated permission" not in message.lower()


def of_json(status: int, headers: Mapping[str, str], body: bytes, request: str) -> AccountError:
    """The error of an answer to a JSON request that is neither 2xx nor a redirect."""
    message = message_of(body)
    if is_key_refusal(status, message):
        return key_refused(message)
    if status == HTTPStatus.FORBIDDEN and message.startswith(_MISSING):
        return permission_missing(message)
    error = RequestError(
        f"{request}: the server answered {_named(status)}",
        status=status,
        why=_with_correlation(status, message, headers),
        hint=_hint(status, message),
    )
    if status in _GATEWAY or status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransientError(
            error,
            status=status,
            retry_after_s=retry_after_s(headers),
            # A page that holds a date the server cannot print is a 500 each time it is asked for.
            brief=status == HTTPStatus.INTERNAL_SERVER_ERROR,
        )
    return error


def of_original(status: int, headers: Mapping[str, str], body: bytes, request: str) -> MirrorError:
    """The error of an answer to /assets/{id}/original that is neither 200, 206 nor a redirect."""
    message = message_of(body)
    if is_key_refusal(status, message):
        return key_refused(message)
    if status == HTTPStatus.FORBIDDEN and message.startswith(_MISSING):
        return permission_missing(message)
    if status in _GATEWAY:
        return of_json(status, headers, body, request)
    return UnavailableError(
        f"{request}: the server does not give the original",
        why=f"{_named(status)} {_with_correlation(status, message, headers)}".strip(),
        hint="open it in Immich: its file may be missing there, or it is no longer shared",
    )


def key_refused(message: str) -> KeyRefusedError:
    """401."""
    return KeyRefusedError(
        "the server refuses the API key",
        why=message or "401 without Immich's words: a proxy in front may ask for a login",
        hint="make a new key in Immich: Account Settings, API Keys",
    )


def permission_missing(message: str) -> PermissionMissingError:
    """403."""
    name = message.removeprefix(_MISSING) if message.startswith(_MISSING) else ""
    return PermissionMissingError(
        f"the API key lacks the permission {name}" if name else "the API key may not do this",
        why=message or "403 without Immich's words: a proxy in front may refuse",
        hint=f"give the key {name or 'asset.read and asset.download'} in Immich: "
        "Account Settings, API Keys",
    )


def redirected(asked: URL, location: str) -> NotImmichError:
    """A redirect is never followed: another origin must not get the key, and POST becomes GET."""
    try:
        target = asked.join(URL(location))
        origin = target.origin()
    except ValueError:
        return NotImmichError(
            f"{asked.origin()} answers with a redirect to nowhere", why=f"Location: {location!r}"
        )
    # The part of our own path that the target repeats is no part of the server's URL.
    common = str(target.with_query(None)).removesuffix(asked.path.partition("/api")[2])
    wanted = common.removesuffix("/api") if common.endswith("/api") else str(origin)
    return NotImmichError(
        f"{asked.origin()} redirects to another address, which is not followed",
        why=f"it points to {target.with_query(None)}",
        hint=f'if that is your server, write server = "{wanted}"',
    )


def unreadable(url: URL, content_type: str) -> NotImmichError:
    """200, but no JSON: Immich's own web page, or a proxy's."""
    return NotImmichError(
        f"{url.origin()} answers with {content_type or 'something'} instead of JSON",
        why=f"asked for {url.path}",
        hint="set server to the address of Immich itself: its web page, or that with /api",
    )


def of_connection(error: BaseException, url: URL) -> TransientError:
    """No connection, or one that broke: DNS, TLS, refused, and timeouts told apart."""
    why, hint, brief = _broken(error, url)
    outcome = ServerUnreachableError(f"no answer from {url.origin()}", why=why, hint=hint)
    return TransientError(outcome, brief=brief)


def is_certificate(error: BaseException) -> bool:
    """A certificate that does not verify: trying again is no use, and going on no choice."""
    return isinstance(error, aiohttp.ClientConnectorCertificateError)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in either form, never negative."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    date = server_date(text)
    return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())


def server_date(text: str) -> datetime | None:
    """An HTTP date, aware UTC."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _broken(error: BaseException, url: URL) -> tuple[str, str, bool]:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{url.host} is not known: {error.os_error}", "check the name and the DNS", True
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = f"the certificate does not verify: {error.certificate_error}"
        return why, "mend the certificate, or add its issuer to the system's trust", True
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return f"TLS failed: {error}", 'is it "http://", or another port?', True
    if isinstance(error, TimeoutError):
        return "it took too long", "is the server busy, or a firewall in between?", False
    if isinstance(error, aiohttp.ClientConnectorError):
        hint = f"is Immich running, and is {url.port} its port?"
        return f"the connection failed: {error.os_error}", hint, False
    # Of a line that is no answer, aiohttp quotes all.
    told = str(error)[:_LONGEST_TEXT] or type(error).__name__
    why = f"the connection broke: {told}"
    return why, "is the server restarting, or a proxy limiting?", False


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _with_correlation(status: int, message: str, headers: Mapping[str, str]) -> str:
    # The server's log has a stack trace under this id: only worth saying for its own failures.
    cid = headers.get("X-Correlation-ID") or headers.get("x-immich-cid") or ""
    if status < HTTPStatus.INTERNAL_SERVER_ERROR or not cid:
        return message
    return f"{message} (correlation id {cid[:60]})".strip()


def _hint(status: int, message: str) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "see the log of the Immich server"
    if not message:
        return "a proxy in front of Immich may have answered"
    return ""


def _texts(value: object) -> list[str]:
    return [str(text) for text in _list(value)] or ([value] if isinstance(value, str) else [])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _issue(issue: object) -> str:
    if not isinstance(issue, Mapping):
        return str(issue)
    place = ".".join(str(step) for step in _list(issue.get("path")))
    return f"{place}: {issue.get('message', '')}".removeprefix(": ")
