"""An answer before it is sent: status, headers, and bytes that may not exist yet."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mirror.sandbox.content import Content, Fixed

_NOTHING = Fixed(b"")


@dataclass
class Reply:
    """What goes out; `start` and `end` say which bytes of the content."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: Content = _NOTHING
    start: int = 0
    end: int | None = None

    @property
    def size_bytes(self) -> int:
        """How long the body is."""
        return (self.content.size_bytes if self.end is None else self.end) - self.start

    def blocks(self) -> Iterator[bytes]:
        """The body, a block at a time."""
        return self.content.read(self.start, self.start + self.size_bytes)


def from_json(value: Any, status: int = 200) -> Reply:  # noqa: ANN401 (the wire)
    """As express sends JSON, with its ETag."""
    return _tagged(_dump(value), "application/json; charset=utf-8", status)


def html(text: str, status: int = 200) -> Reply:
    """As the web app's one page is sent."""
    reply = _tagged(text.encode(), "text/html; charset=utf-8", status)
    reply.headers = {"Cache-Control": "no-store", **reply.headers}
    return reply


def refused(body: Any, status: int, headers: dict[str, str]) -> Reply:  # noqa: ANN401 (the wire)
    """JSON under headers that were set before the refusal, as express leaves them."""
    reply = from_json(body, status)
    kind = headers.get("Content-Type")
    typed = {"Content-Type": f"{kind}; charset=utf-8"} if kind else {}
    reply.headers = {**reply.headers, **headers, **typed}
    return reply


def _dump(value: Any) -> bytes:  # noqa: ANN401 (the wire)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def _tagged(body: bytes, content_type: str, status: int) -> Reply:
    """A strong ETag: length in hex, then 27 characters of the SHA-1 (npm `etag`)."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    etag = f'"{len(body):x}-{digest[:27]}"'
    return Reply(status, {"Content-Type": content_type, "ETag": etag}, Fixed(body))
