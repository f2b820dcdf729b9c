"""What a search request must look like, field by field, and what each release says if it does not.

Source: server/src/dtos/search.dto.ts of 2.7.5 (class-validator, coerces) and 3.1.0 (zod, strict);
the texts that a mirror meets are proven against recordings, the others follow their pattern.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mirror.sandbox import dates
from mirror.sandbox.refusals import JsonObject, Refusal, not_implemented, uuid_issue

_UUID = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_ISO_PATTERN = (
    r"/^(?:(?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29|"
    r"\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|"
    r"(?:02)-(?:0[1-9]|1\d|2[0-8])))T(?:(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
    r"(?:Z|([+-](?:[01]\d|2[0-3]):[0-5]\d)))$/"
)


class _BadError(Exception):
    """A value is refused: what 2.x says of it, and what 3.x does."""

    def __init__(self, old: str, issue: JsonObject, *, at: Sequence[int] = ()) -> None:
        self.old = old
        self.issue = issue
        self.at = list(at)
        super().__init__(old)


def is_uuid(value: object) -> bool:
    """A version 4 UUID, as every id of the server is."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


@dataclass(frozen=True)
class Field:
    """How one field is read; `read` raises for what it refuses, `modern` says for which release."""

    read: Callable[[Any, bool], Any]
    null: bool = False  # whether null is a value of its own


def _wrong_type(expected: str, value: object, old: str) -> _BadError:
    found = _json_type(value)
    message = f"Invalid input: expected {expected}, received {found}"
    return _BadError(old, {"expected": expected, "code": "invalid_type", "message": message})


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _uuid(value: object, _modern: bool) -> str:  # noqa: FBT001 (the signature of Field.read)
    if not isinstance(value, str):
        raise _wrong_type("string", value, "must be a UUID")
    if not is_uuid(value):
        raise _BadError("must be a UUID", uuid_issue([]))
    return value


def _uuids(value: object, modern: bool) -> list[str]:  # noqa: FBT001 (the signature of Field.read)
    if not isinstance(value, list):
        if not modern and isinstance(value, str):
            value = [value]
        else:
            raise _wrong_type("array", value, "must be an array")
    for number, each in enumerate(value):
        try:
            _uuid(each, modern)
        except _BadError as bad:
            raise _BadError("each", bad.issue, at=[number]) from None
    return value


def _bool(value: object, modern: bool) -> bool:  # noqa: FBT001 (the signature of Field.read)
    if not modern and value in {"true", "false"}:
        return value == "true"
    if not isinstance(value, bool):
        raise _wrong_type("boolean", value, "must be a boolean value")
    return value


def _text(value: object, _modern: bool) -> str:  # noqa: FBT001 (the signature of Field.read)
    if not isinstance(value, str):
        raise _wrong_type("string", value, "must be a string")
    return value


def _date(value: object, modern: bool) -> datetime:  # noqa: FBT001 (the signature of Field.read)
    issue: JsonObject = {
        "origin": "string",
        "code": "invalid_format",
        "format": "datetime",
        "pattern": _ISO_PATTERN,
        "message": "Invalid input: expected ISO 8601 datetime string, received string",
    }
    if not isinstance(value, str):
        raise _wrong_type("string", value, "must be a date string")
    if modern and _ISO.fullmatch(value) is None:
        raise _BadError("", issue)
    try:
        return dates.parse(value)
    except ValueError:
        if value.startswith("0000-"):  # JavaScript knows that year, PostgreSQL does not
            raise Refusal(500, "Internal server error") from None
        raise _BadError("must be a date string", issue) from None


def _number(lowest: int, highest: int | None = None) -> Callable[[Any, bool], int]:
    def read(value: Any, modern: bool) -> int:  # noqa: ANN401, FBT001 (the wire)
        if not modern and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type("number", value, "must be an integer number")
        if value != int(value):
            raise _wrong_type("int", value, "must be an integer number")
        if value < lowest:
            raise _BadError(f"must not be less than {lowest}", _bound("small", ">=", lowest))
        if highest is not None and value > highest:
            raise _BadError(f"must not be greater than {highest}", _bound("big", "<=", highest))
        return int(value)

    return read


def _bound(direction: str, sign: str, bound: int) -> JsonObject:
    return {
        "origin": "number",
        "code": f"too_{direction}",
        "minimum" if direction == "small" else "maximum": bound,
        "inclusive": True,
        "message": f"Too {direction}: expected number to be {sign}{bound}",
    }


def _one_of(*values: str) -> Callable[[Any, bool], str]:
    def read(value: Any, _modern: bool) -> str:  # noqa: ANN401, FBT001 (the wire)
        if value not in values:
            choices = "|".join(f'"{choice}"' for choice in values)
            message = f"Invalid option: expected one of {choices}"
            raise _BadError(
                f"must be one of the following values: {', '.join(values)}",
                {"code": "invalid_value", "values": list(values), "message": message},
            )
        return str(value)

    return read


def _rating(value: object, modern: bool) -> int:  # noqa: FBT001 (the signature of Field.read)
    return _number(1 if modern else -1, 5)(value, modern)


# In the order of the DTO, which is the order of complaints. `null`: has a meaning of its own.
FIELDS: dict[str, Field] = {
    "libraryId": Field(_uuid, null=True),
    "deviceId": Field(_text),
    "type": Field(_one_of("IMAGE", "VIDEO", "AUDIO", "OTHER")),
    "isFavorite": Field(_bool),
    "isMotion": Field(_bool),
    "isOffline": Field(_bool),
    "visibility": Field(_one_of("archive", "timeline", "hidden", "locked")),
    "createdBefore": Field(_date),
    "createdAfter": Field(_date),
    "updatedBefore": Field(_date),
    "updatedAfter": Field(_date),
    "trashedBefore": Field(_date),
    "trashedAfter": Field(_date),
    "takenBefore": Field(_date),
    "takenAfter": Field(_date),
    "city": Field(_text, null=True),
    "state": Field(_text, null=True),
    "country": Field(_text, null=True),
    "make": Field(_text, null=True),
    "model": Field(_text, null=True),
    "lensModel": Field(_text, null=True),
    "isNotInAlbum": Field(_bool),
    "personIds": Field(_uuids),
    "tagIds": Field(_uuids, null=True),
    "albumIds": Field(_uuids),
    "rating": Field(_rating, null=True),
    "size": Field(_number(1, 1000)),
    "withDeleted": Field(_bool),
    "withExif": Field(_bool),
    "id": Field(_uuid),
    "deviceAssetId": Field(_text),
    "description": Field(_text),
    "checksum": Field(_text),
    "originalFileName": Field(_text),
    "originalPath": Field(_text),
    "order": Field(_one_of("asc", "desc")),
    "page": Field(_number(1)),
    "withStacked": Field(_bool),
    "withPeople": Field(_bool),
}
_ONLY_BEFORE_3 = {"deviceId", "deviceAssetId"}
_UNIMPLEMENTED = {"ocr", "encodedVideoPath", "isEncoded"}


def read(body: Mapping[str, Any], *, modern: bool) -> JsonObject:
    """The fields of a search that this release knows, as Python values; the rest is dropped.

    Raises:
        Refusal: 400 in the words of the release; 501 for what the sandbox cannot evaluate.
    """
    known = {name: body[name] for name in FIELDS if name in body}
    if modern:
        known = {name: value for name, value in known.items() if name not in _ONLY_BEFORE_3}
    for name in _UNIMPLEMENTED & body.keys():
        raise not_implemented(f"the search field {name}")
    values: JsonObject = {}
    bad: dict[str, _BadError] = {}
    for name, value in known.items():
        try:
            values[name] = _read_one(FIELDS[name], value, modern=modern)
        except _BadError as error:
            bad[name] = error
    if bad:
        raise _complaint(bad, modern=modern)
    return values


def _read_one(field: Field, value: Any, *, modern: bool) -> Any:  # noqa: ANN401 (the wire)
    if value is None and (field.null or not modern):
        return None
    return field.read(value, modern)


def _complaint(bad: Mapping[str, _BadError], *, modern: bool) -> Refusal:
    if modern:
        issues = [_placed(error.issue, [name, *error.at]) for name, error in bad.items()]
        return Refusal(400, "Validation failed", issues=issues)
    for name, error in bad.items():
        if error.old == "must be a date string":  # thrown while converting, before validation
            return Refusal(400, f"{name} must be a date string")
    return Refusal(400, [_old_text(name, error) for name, error in bad.items()])


def _placed(issue: JsonObject, path: list[str | int]) -> JsonObject:
    message = issue["message"]
    rest = {key: value for key, value in issue.items() if key not in {"message", "path"}}
    return {**rest, "path": path, "message": message}


def _old_text(name: str, error: _BadError) -> str:
    return f"each value in {name} must be a UUID" if error.at else f"{name} {error.old}"
