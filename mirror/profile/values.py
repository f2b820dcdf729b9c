"""The values that a profile's keys may have: how each is read, and what an editor is told of it.

A reader raises ValueError, which pydantic collects. No message quotes what may hold a key.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, tzinfo
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    StrictInt,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from mirror.core.model import AssetType, Choice, JsonValue
from mirror.core.secret import (
    CommandSecret,
    CredentialSecret,
    EnvSecret,
    FileSecret,
    LiteralSecret,
    Secret,
)
from mirror.core.timetable import Timetable, parse_timetable
from mirror.profile.urls import remote_url


class OneOrMany:
    """A list, or a lone value that stands for a list of one."""

    def __get_pydantic_core_schema__(
        self,
        source: Any,  # noqa: ANN401 (pydantic's protocol)
        handler: GetCoreSchemaHandler,
    ) -> CoreSchema:
        listed = core_schema.no_info_before_validator_function(not_empty, handler(source))
        return core_schema.no_info_before_validator_function(_as_list, listed)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [many["items"], many | {"minItems": 1}]}


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def not_empty(value: object) -> object:
    """The value, if it holds anything; `min_length` would count what is left of it when items fail.

    Raises:
        ValueError: it is an empty list or table.
    """
    if value in ([], {}):
        raise ValueError("is empty")
    return value


def _choice(value: object) -> Choice:
    every = isinstance(value, dict)
    if isinstance(value, dict):
        if value.keys() != {"all"}:
            raise ValueError("should be a name, a list of names, or { all = [names] }")
        value = value["all"]
    names = _as_list(value)
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise ValueError("should be a name, a list of names, or { all = [names] }")
    if not names:
        raise ValueError("is empty")
    return Choice(tuple(names), every=every)


def _end_of_day(*, end: bool) -> Callable[[object, ValidationInfo], datetime]:
    return lambda value, info: _instant(value, _zone(info), end_of_day=end)


def _zone(info: ValidationInfo) -> tzinfo | None:
    """The zone of times without one; None is the machine's, with its daylight saving."""
    return info.context["zone"] if info.context else None


def _instant(value: object, zone: tzinfo | None, *, end_of_day: bool) -> datetime:
    if isinstance(value, str):
        value = _from_iso(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(23, 59, 59, 999_000) if end_of_day else time())
    if not isinstance(value, datetime):
        raise ValueError("should be a date or a date and time, such as 2024-12-31")  # noqa: TRY004 (pydantic collects ValueError)
    try:
        return _aware(value, zone).astimezone(UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("is outside the years that can be computed with") from error


def _aware(moment: datetime, zone: tzinfo | None) -> datetime:
    if moment.tzinfo is not None:
        return moment
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def _from_iso(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an ISO date or date and time") from None


def _search(value: object, info: ValidationInfo) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise ValueError("should be a table of the server's search fields")  # noqa: TRY004 (as above)
    zone = _zone(info)
    return {name: _json(item, zone, end=name.endswith("Before")) for name, item in value.items()}


def _json(value: object, zone: tzinfo | None, *, end: bool) -> JsonValue:
    match value:
        case date():
            moment = _instant(value, zone, end_of_day=end)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 (NaN)
            raise ValueError("JSON has no nan and no inf")
        case str() | bool() | int() | float():
            return value
        case list():
            return tuple(_json(item, zone, end=end) for item in value)
        case dict():
            return {str(name): _json(item, zone, end=end) for name, item in value.items()}
        case _:
            raise ValueError("a time of day without its date cannot be searched for")


_NO_SUCH_VISIBILITY: Final = {
    "locked": "no API key may list the locked folder",
    "hidden": "hidden assets are the videos of live photos; live_photos says whether they come",
}


def _visibility(value: object) -> object:
    if isinstance(value, str) and value in _NO_SUCH_VISIBILITY:
        raise ValueError(f"{value!r} cannot be mirrored: {_NO_SUCH_VISIBILITY[value]}")
    return value


def _size(value: object) -> object:
    # ByteSize reads "1GiB or so" as 1 GiB.
    if isinstance(value, bool) or not re.fullmatch(r"\s*\d*\.?\d+\s*[A-Za-z]*\s*", str(value)):
        raise ValueError('should be a size, such as "1GiB", "500MB" or 0')
    return value


def _timetable(value: object) -> Timetable:
    if not isinstance(value, str):
        raise ValueError('should be a rate as text, such as "10M", or a timetable')  # noqa: TRY004 (as above)
    return parse_timetable(value)


_LONGEST_S: Final = 366 * 86_400
_DURATION_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(value: object) -> int:
    parts = re.findall(r"(\d+)([smhd])", value) if isinstance(value, str) else []
    if not parts or "".join(map("".join, parts)) != re.sub(r"\s", "", str(value)):
        raise ValueError('should be a duration, such as "4h", "90m" or "1h30m"')
    duration_s = sum(int(number) * _DURATION_S[unit] for number, unit in parts)
    if not 0 < duration_s <= _LONGEST_S:
        raise ValueError("should be from a second to a year")
    return duration_s


def _server(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("should be a URL, such as https://photos.example.org")  # noqa: TRY004 (as above)
    try:
        url = urlsplit(value)
        known = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        known = False
        url = urlsplit("")
    # No message quotes the URL: it may hold a password.
    if url.username is not None or url.password is not None:
        raise ValueError("a URL may not hold a user or a password; the key belongs in api_key")
    if url.query or url.fragment:
        raise ValueError("a URL may not hold a query or a fragment; the key belongs in api_key")
    if not known or any(c.isspace() for c in value):
        raise ValueError("should be an http or https URL, such as https://photos.example.org")
    return value


def absolute_path(text: str) -> str:
    """The path without `~`, `.` and `..`; links are not followed.

    Raises:
        ValueError: it is not absolute, or is no path, or there is no home.
    """
    if "\0" in text or not (text.startswith(("/", "~/")) or text == "~"):
        raise ValueError('should be absolute or begin with "~/": a timer runs elsewhere')
    # Not pathlib, which keeps ".." and raises RuntimeError when there is no home.
    path = os.path.normpath(os.path.expanduser(text))  # noqa: PTH111
    if path.startswith("~"):
        raise ValueError("the home folder is not known; set HOME, or write the whole path")
    return "/" + path.lstrip("/")  # POSIX keeps a leading "//"


def _folder(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("should be the path of a folder")  # noqa: TRY004 (as above)
    if "://" in value:
        raise ValueError(
            "should be the path of a folder; a bucket is given as url, and so is a server"
        )
    return absolute_path(value)


def _file(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("should be the path of a file")  # noqa: TRY004 (as above)
    return absolute_path(value)


def _mount(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError("should be true, false, or the mount point's path")  # noqa: TRY004 (as above)
    return absolute_path(value)


def _metrics_file(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("should be the path of a file")  # noqa: TRY004 (as above)
    path = absolute_path(value)
    if not path.endswith(".prom"):
        raise ValueError("should end in .prom: node_exporter passes over all other files")
    return path


def _ping(value: object) -> Secret:
    """Never quotes what was written: whoever has the URL can say that all is well."""
    if isinstance(value, str):
        try:
            url = urlsplit(value)
            known = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            known = False
        if not known or any(c.isspace() or not c.isascii() for c in value):
            raise ValueError("should be an http or https URL, such as https://hc-ping.com/<uuid>")
        return LiteralSecret(value)
    return _secret(value)


_KEY_FORMS: Final = "{ credential = … }, { file = … }, { env = … } or { command = [ … ] }"


def _secret(value: object) -> Secret:
    """Never quotes what was written: it may be a key."""
    match value:
        case str() if value.strip():
            return LiteralSecret(value)
        case {"credential": str(name), **rest} if not rest:
            return CredentialSecret(_credential_name(name))
        case {"file": str(path), **rest} if not rest:
            return FileSecret(absolute_path(path))
        case {"env": str(name), **rest} if name and not rest:
            return EnvSecret(name)
        case {"command": list(argv), **rest} if argv and not rest:
            if all(isinstance(word, str) for word in argv) and argv[0]:
                return CommandSecret(tuple(argv))
    raise ValueError(f"should be exactly one of {_KEY_FORMS}")


def _credential_name(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise ValueError("a credential's name is one file name, without a slash")
    return name


_STRING: Final = {"type": "string", "minLength": 1}
_STRINGS: Final = {"type": "array", "items": _STRING, "minItems": 1}
_MOMENT: Final = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d"}


def _only(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: schema},
        "required": [key],
        "additionalProperties": False,
    }


NAMED: Final[dict[str, Any]] = {"minProperties": 1, "additionalProperties": False}

Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Names = Annotated[
    Choice,
    PlainValidator(_choice),
    WithJsonSchema({"anyOf": [_STRING, _STRINGS, _only("all", _STRINGS)]}),
]
After = Annotated[datetime, PlainValidator(_end_of_day(end=False)), WithJsonSchema(_MOMENT)]
Before = Annotated[datetime, PlainValidator(_end_of_day(end=True)), WithJsonSchema(_MOMENT)]
Transfers = Annotated[int, Field(ge=1, le=64)]
Days = Annotated[StrictInt, Field(ge=1, le=36_500)]
Rate = Annotated[
    Timetable, PlainValidator(_timetable), WithJsonSchema({"type": "string", "minLength": 1})
]
Duration = Annotated[
    int,
    PlainValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": r"^(\s*\d+[smhd])+\s*$"}),
]
Size = Annotated[
    ByteSize,
    BeforeValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d*\.?\d+\s*[A-Za-z]*\s*$"},
                {"type": "integer", "minimum": 0},
            ]
        }
    ),
]
Server = Annotated[
    str, PlainValidator(_server), WithJsonSchema({"type": "string", "pattern": "^https?://"})
]
Folder = Annotated[
    str, PlainValidator(_folder), WithJsonSchema({"type": "string", "pattern": "^(/|~/|~$)"})
]
RemoteUrl = Annotated[
    str,
    PlainValidator(remote_url),
    WithJsonSchema({"type": "string", "pattern": "^(s3://[a-z0-9]|sftp://[^:/]+@)"}),
]
File = Annotated[
    str, PlainValidator(_file), WithJsonSchema({"type": "string", "pattern": "^(/|~/)"})
]
Mount = Annotated[
    bool | str,
    PlainValidator(_mount),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^(/|~/|~$)"}]}),
]
_SOURCES: Final = [
    _only("credential", _STRING),
    _only("file", {"type": "string", "pattern": "^(/|~/)"}),
    _only("env", _STRING),
    _only("command", _STRINGS),
]
ApiKey = Annotated[
    Secret,
    PlainValidator(_secret),
    WithJsonSchema({"anyOf": [_STRING, *_SOURCES]}),
]
Ping = Annotated[
    Secret,
    PlainValidator(_ping),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^https?://"}, *_SOURCES]}),
]
MetricsFile = Annotated[
    str,
    PlainValidator(_metrics_file),
    WithJsonSchema({"type": "string", "pattern": r"^(/|~/).*\.prom$"}),
]
Search = Annotated[
    dict[str, Any],  # of JsonValue, which recurs without a name
    PlainValidator(_search),
    WithJsonSchema({"type": "object"}),
]
# An empty list would ask nothing, and so select everything: it is refused.
Texts = Annotated[tuple[Text, ...], OneOrMany()]
# "" is "unset on the server".
UnsetOrTexts = Annotated[tuple[str, ...], OneOrMany()]
Visibilities = Annotated[
    tuple[Annotated[Literal["timeline", "archive"], BeforeValidator(_visibility)], ...],
    OneOrMany(),
]
Types = Annotated[tuple[AssetType, ...], OneOrMany()]
Ratings = Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=5)], ...], OneOrMany()]
