"""`GET /assets/{id}/original`: Immich's sendFile over express' `send`, ranges and all.

Source: server/src/utils/file.ts and npm `send` 1.2 as measured on 2.7.5 and 3.1.0.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from mirror.sandbox import dates, media
from mirror.sandbox.content import Content
from mirror.sandbox.dialect import Dialect
from mirror.sandbox.records import StoredAsset
from mirror.sandbox.refusals import Refusal
from mirror.sandbox.replies import Reply

_CACHE = (
    "private, max-age=86400, no-transform, stale-while-revalidate=2592000, stale-if-error=2592000"
)
_LEFT_RAW = "!*'()~"  # what encodeURIComponent does not escape, beyond letters, digits, "_.-"


def serve(
    asset: StoredAsset, dialect: Dialect, headers: Mapping[str, str], *, edited: bool, lost: bool
) -> Reply:
    """The file, a part of it, or 304.

    Raises:
        Refusal: it is not on the server's disk, or the range cannot be satisfied.
    """
    content, modified, suffix = asset.content, asset.file_modified_at, asset.original_path
    if edited and asset.edited is not None:
        content, modified, suffix = asset.edited, asset.edited_at or modified, "edited.jpeg"
    described = {
        "Cache-Control": _CACHE,
        "Content-Type": media.mime_type_of(suffix),
        "Content-Disposition": disposition(asset.original_file_name, media.extension(suffix)),
    }
    if lost or asset.is_offline:
        raise _unavailable(dialect, described)
    described |= {
        "Accept-Ranges": "bytes",
        "Last-Modified": _http_date(modified),
        "ETag": etag(content, modified),
    }
    if _fresh(described, headers):
        del described["Content-Type"]
        return Reply(304, described)
    return _ranged(content, described, headers, dialect)


def etag(content: Content, modified: datetime) -> str:
    """Weak: size and mtime, both in hex. Other bytes of the same size and date have the same."""
    return f'W/"{content.size_bytes:x}-{dates.milliseconds(modified):x}"'


def disposition(name: str, extension: str) -> str:
    """The stem of the last part of the name, with the stored file's extension."""
    last = name.rstrip("/").rpartition("/")[2]
    dot = last.rfind(".")
    stem = last[:dot] if dot > 0 and last.strip(".") else last
    return f"inline; filename*=UTF-8''{quote(stem + extension, safe=_LEFT_RAW)}"


def refuse_access(dialect: Dialect) -> Refusal:
    """No such asset, or not theirs: 3.x turns every failure of sendFile into 404."""
    if dialect.modern:
        return Refusal(404, "Not Found")
    message = "Not found or no asset.download access"
    return Refusal(400, message, headers={"Cache-Control": "none"})


def _unavailable(dialect: Dialect, headers: dict[str, str]) -> Refusal:
    if dialect.modern:
        return Refusal(404, "Not Found")
    return Refusal(500, "Internal server error", headers=headers | {"Cache-Control": "none"})


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.replace(microsecond=0), usegmt=True)


def _fresh(described: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    """If-None-Match wins over If-Modified-Since; weak comparison."""
    wanted = headers.get("If-None-Match")
    if wanted is not None:
        tags = {tag.strip().removeprefix("W/") for tag in wanted.split(",")}
        return "*" in tags or described["ETag"].removeprefix("W/") in tags
    since = headers.get("If-Modified-Since")
    return since is not None and _not_after(described["Last-Modified"], since)


def _not_after(modified: str, since: str) -> bool:
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except ValueError:
        return False


# -- ranges ----------------------------------------------------------------------------------------


def _ranged(
    content: Content, described: dict[str, str], headers: Mapping[str, str], dialect: Dialect
) -> Reply:
    size = content.size_bytes
    wanted = headers.get("Range")
    if wanted is None or not wanted.startswith("bytes=") or not _range_holds(described, headers):
        return Reply(200, described, content)
    found = _parse(wanted.removeprefix("bytes="), size)
    if found is None and dialect.modern:
        return Reply(200, described, content)
    if not found:
        raise _unsatisfiable(dialect, described, size)
    if len(found) > 1:
        return Reply(200, described, content)
    start, end = found[0]
    partial = {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Reply(206, described | partial, content, start, end)


def _unsatisfiable(dialect: Dialect, described: dict[str, str], size: int) -> Refusal:
    """Never 416: express raises it, and Immich makes 404 (3.x) or 500 (2.x) of it."""
    headers = described | {"Content-Range": f"bytes */{size}"}
    if dialect.modern:
        return Refusal(404, "Not Found", headers=headers)
    return Refusal(500, "Internal server error", headers=headers | {"Cache-Control": "none"})


def _range_holds(described: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    """If-Range: a substring test for a tag, else a date."""
    condition = headers.get("If-Range")
    if condition is None:
        return True
    if '"' in condition:
        return described["ETag"] in condition
    return _not_after(described["Last-Modified"], condition)


def _parse(text: str, size: int) -> list[tuple[int, int]] | None:
    """The parts that can be given; None: it makes no sense (npm `range-parser`)."""
    parts = [re.fullmatch(r"\s*(\d*)-(\d*)\s*", part) for part in text.split(",")]
    if not all(part and (part[1] or part[2]) for part in parts):
        return None
    spans = (_span(part[1], part[2], size) for part in parts if part)
    return [(start, end) for start, end in spans if start < end]


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
