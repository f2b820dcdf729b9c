"""Everything that is logged: a closed list of events, their fields, and the JSON Schema of a line.

One line per change, per mirror and destination, and per run. `emit` is the only way in; a field
that the event does not declare is a programming error and raises at once.
"""

from enum import StrEnum
from typing import Any, Final

from mirror import logs

SCHEMA_VERSION: Final = 1


class Event(StrEnum):
    """The name of a line; never reworded, only added to."""

    RUN_START = "run.start"
    RUN_END = "run.end"
    MIRROR_START = "mirror.start"
    MIRROR_END = "mirror.end"
    LISTING_INCOMPLETE = "listing.incomplete"
    NAME_VANISHED = "name.vanished"
    REQUEST_RETRY = "request.retry"
    DESTINATION_NEW = "destination.new"
    DESTINATION_TAKEN_OVER = "destination.taken_over"
    INDEX_REBUILT = "index.rebuilt"
    MANIFEST_LOST = "manifest.lost"
    CATALOGUE_LOST = "catalogue.lost"
    INDEX_MIGRATED = "index.migrated"
    DESTINATION_BUSY = "destination.busy"
    INTENT_SETTLED = "intent.settled"
    ASSET_REBOUND = "asset.rebound"
    ASSET_ADOPTED = "asset.adopted"
    ASSET_MOVED = "asset.moved"
    ASSET_DOWNLOADED = "asset.downloaded"
    ASSET_COPIED = "asset.copied"
    ASSET_REPLACED = "asset.replaced"
    ASSET_RETAINED = "asset.retained"
    ASSET_REMOVED = "asset.removed"
    ASSET_FORGOTTEN = "asset.forgotten"
    ASSET_DISOWNED = "asset.disowned"
    ASSET_FAILED = "asset.failed"
    PLAN_HELD = "plan.held"
    NOTICE_FAILED = "notice.failed"
    REMOVALS_POSTPONED = "removals.postponed"
    QUARANTINE_PURGED = "quarantine.purged"
    QUARANTINE_RESTORED = "quarantine.restored"
    ASSET_DAMAGED = "asset.damaged"
    ASSET_DRIFTED = "asset.drifted"
    ASSET_MISSING = "asset.missing"
    ASSET_UNREADABLE = "asset.unreadable"
    ASSET_REPAIRED = "asset.repaired"
    ASSET_PROVED = "asset.proved"
    CHECK_END = "check.end"
    SANDBOX_REQUEST = "sandbox.request"
    ERROR = "error"


# Type of each field in JSON. A unit is part of the name.
_FIELD_TYPES: Final[dict[str, str]] = {
    "abilities": "object",
    "account": "string",
    "action": "string",
    "assets": "integer",
    "attempt": "integer",
    "asset_id": "string",
    "bytes": "integer",
    "complete": "boolean",
    "counts": "object",
    "destination": "string",
    "duration_ms": "number",
    "error.code": "string",
    "error.hint": "string",
    "error.message": "string",
    "exit_code": "integer",
    "from_path": "string",
    "method": "string",
    "mirror": "string",
    "path": "string",
    "profile": "string",
    "reason": "string",
    "run_id": "string",
    "server_version": "string",
    "sha1": "string",
    "shard": "string",
    "status": "integer",
    "url": "string",
    "user_id": "string",
    "version": "string",
    "wait_s": "number",
    "way_through": "string",
}

# Bound once per run, mirror or destination: allowed on every line.
_CONTEXT: Final = frozenset({"run_id", "profile", "mirror", "account", "destination", "shard"})
_ERROR: Final = frozenset({"error.code", "error.message", "error.hint"})
_CHANGE: Final = frozenset({"asset_id", "path", "reason"})
_CONTENT: Final = _CHANGE | {"bytes", "sha1", "duration_ms"}

FIELDS: Final[dict[Event, frozenset[str]]] = {
    Event.RUN_START: frozenset({"version"}),
    Event.RUN_END: frozenset({"exit_code", "duration_ms", "counts", "bytes", "reason"}),
    Event.MIRROR_START: frozenset({"server_version", "user_id"}),
    Event.MIRROR_END: frozenset({"exit_code", "duration_ms", "counts", "bytes", "complete"})
    | _ERROR,
    Event.LISTING_INCOMPLETE: frozenset({"reason"}),
    Event.NAME_VANISHED: frozenset({"reason"}),
    Event.REQUEST_RETRY: frozenset({"method", "url", "status", "attempt", "wait_s", "reason"}),
    Event.DESTINATION_NEW: frozenset({"reason", "abilities"}),
    Event.DESTINATION_TAKEN_OVER: frozenset({"reason"}),
    Event.INDEX_REBUILT: frozenset({"path", "reason"}),
    Event.MANIFEST_LOST: frozenset({"path", "reason"}),
    Event.CATALOGUE_LOST: frozenset({"path", "reason"}),
    Event.INDEX_MIGRATED: frozenset({"path"}),
    Event.DESTINATION_BUSY: frozenset({"reason", "wait_s"}),
    Event.INTENT_SETTLED: _CHANGE | {"action"},
    Event.ASSET_REBOUND: _CHANGE | {"from_path"},
    Event.ASSET_ADOPTED: _CONTENT,
    Event.ASSET_MOVED: _CHANGE | {"from_path"},
    Event.ASSET_DOWNLOADED: _CONTENT,
    Event.ASSET_COPIED: _CONTENT | {"from_path"},
    Event.ASSET_REPLACED: _CONTENT,
    Event.ASSET_RETAINED: _CHANGE,
    Event.ASSET_REMOVED: _CHANGE | {"action"},
    Event.ASSET_FORGOTTEN: _CHANGE,
    Event.ASSET_DISOWNED: _CHANGE,
    Event.ASSET_FAILED: _CHANGE | _ERROR | {"attempt"},
    Event.PLAN_HELD: frozenset({"action", "assets", "reason", "way_through"}),
    Event.REMOVALS_POSTPONED: frozenset({"assets", "reason"}),
    Event.QUARANTINE_PURGED: _CHANGE | {"bytes"},
    Event.QUARANTINE_RESTORED: _CHANGE | {"bytes", "from_path"},
    Event.ASSET_DAMAGED: _CHANGE,
    Event.ASSET_DRIFTED: _CHANGE,
    Event.ASSET_MISSING: _CHANGE,
    Event.ASSET_UNREADABLE: _CHANGE,
    Event.ASSET_REPAIRED: _CONTENT,
    Event.ASSET_PROVED: _CONTENT,
    Event.CHECK_END: frozenset({"counts", "complete"}),
    Event.NOTICE_FAILED: frozenset({"action", "reason"}),
    Event.SANDBOX_REQUEST: frozenset({"method", "url", "status", "duration_ms"}),
    Event.ERROR: _ERROR,
}

_LEVELS: Final = ("debug", "info", "warning", "error")


def emit(level: str, event: Event, /, **fields: Any) -> None:  # noqa: ANN401 (JSON values)
    """Log one line. Keyword `error_code` becomes the field `error.code`; None fields are left out.

    Raises:
        ValueError: the event does not declare a field.
    """
    renamed = {
        name.replace("error_", "error.", 1): value
        for name, value in fields.items()
        if value is not None
    }
    undeclared = renamed.keys() - FIELDS[event] - _CONTEXT
    if undeclared:
        raise ValueError(f"{event.value} does not declare {sorted(undeclared)}")
    if logs.tells(level):
        getattr(logs.logger(), level)(event.value, v=SCHEMA_VERSION, **renamed)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every log line satisfies."""
    fixed: dict[str, Any] = {
        "ts": {"type": "string", "format": "date-time"},
        "level": {"enum": list(_LEVELS)},
        "v": {"const": SCHEMA_VERSION},
    }
    lines = [
        {
            "type": "object",
            "properties": {
                **fixed,
                "event": {"const": event.value},
                **{name: {"type": _FIELD_TYPES[name]} for name in sorted(FIELDS[event] | _CONTEXT)},
            },
            "required": ["ts", "level", "event", "v"],
            "additionalProperties": False,
        }
        for event in Event
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A log line of immich-mirror",
        "oneOf": lines,
    }
