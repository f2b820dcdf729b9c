"""A profile as it is written: the tables of the TOML file, their types, and what a key is for.

A key that was not given is None here; the defaults are those of `mirror.core.model`. The
docstrings become the descriptions of the published JSON Schema.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, tzinfo
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from mirror.core.model import AssetType, Choice, JsonValue, LivePhotos, NameRules, OnGone, Owners
from mirror.secrets import (
    CommandSecret,
    CredentialSecret,
    EnvSecret,
    FileSecret,
    LiteralSecret,
    Secret,
)

# -- types of values -------------------------------------------------------------------------------


class _OneOrMany:
    """A list, or a lone value that stands for a list of one."""

    def __get_pydantic_core_schema__(
        self,
        source: Any,  # noqa: ANN401 (pydantic's protocol)
        handler: GetCoreSchemaHandler,
    ) -> CoreSchema:
        listed = core_schema.no_info_before_validator_function(_not_empty, handler(source))
        return core_schema.no_info_before_validator_function(_as_list, listed)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [many["items"], many | {"minItems": 1}]}


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _not_empty(value: object) -> object:
    # min_length would count what is left after wrong items were dropped.
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
        raise ValueError("only folders can be destinations in this version")
    return absolute_path(value)


def _mount(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError("should be true, false, or the mount point's path")  # noqa: TRY004 (as above)
    return absolute_path(value)


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


_NAMED: Final[dict[str, Any]] = {"minProperties": 1, "additionalProperties": False}

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
Mount = Annotated[
    bool | str,
    PlainValidator(_mount),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^(/|~/|~$)"}]}),
]
ApiKey = Annotated[
    Secret,
    PlainValidator(_secret),
    WithJsonSchema(
        {
            "anyOf": [
                _STRING,
                _only("credential", _STRING),
                _only("file", {"type": "string", "pattern": "^(/|~/)"}),
                _only("env", _STRING),
                _only("command", _STRINGS),
            ]
        }
    ),
]
Search = Annotated[
    dict[str, Any],  # of JsonValue, which recurs without a name
    PlainValidator(_search),
    WithJsonSchema({"type": "object"}),
]
# An empty list would ask nothing, and so select everything: it is refused.
Texts = Annotated[tuple[Text, ...], _OneOrMany()]
# "" is "unset on the server".
UnsetOrTexts = Annotated[tuple[str, ...], _OneOrMany()]
Visibilities = Annotated[
    tuple[Annotated[Literal["timeline", "archive"], BeforeValidator(_visibility)], ...],
    _OneOrMany(),
]
Types = Annotated[tuple[AssetType, ...], _OneOrMany()]
Ratings = Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=5)], ...], _OneOrMany()]

# -- tables ----------------------------------------------------------------------------------------


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class AccountTable(_Table):
    """One account: a server and an API key for it."""

    api_key: ApiKey
    """Where the API key is read from: one of credential, file, env and command."""
    server: Server | None = None
    """The server's URL, if it is not the profile's."""


class LimitTable(_Table):
    """A threshold: held above 10, and above count or share."""

    count: Annotated[StrictInt, Field(ge=0)] | None = None
    """Most files."""
    share: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    """Largest part of the files known, from 0 to 1."""


class FilterTable(_Table):
    """Which assets: all keys must agree, of a list any one."""

    taken_after: After | None = None
    """Taken at this instant or later; a bare date is the first instant of that day."""
    taken_before: Before | None = None
    """Taken at this instant or earlier; a bare date is the last instant of that day."""
    taken_within_days: Days | None = None
    """Taken in the last so many days."""
    uploaded_after: After | None = None
    """Uploaded at this instant or later."""
    uploaded_before: Before | None = None
    """Uploaded at this instant or earlier."""
    uploaded_within_days: Days | None = None
    """Uploaded in the last so many days."""
    after: After | None = None
    """The same as uploaded_after."""
    last_days: Days | None = None
    """The same as uploaded_within_days."""
    updated_after: After | None = None
    """Changed on the server at this instant or later."""
    updated_before: Before | None = None
    """Changed on the server at this instant or earlier."""
    people: Names | None = None
    """Names or ids of people: any of them, or { all = [...] }."""
    albums: Names | None = None
    """Names or ids of albums: any of them, or { all = [...] }."""
    tags: Names | None = None
    """Names or ids of tags: any of them, or { all = [...] }."""
    type: Types | None = None
    """IMAGE, VIDEO, AUDIO or OTHER."""
    favorite: StrictBool | None = None
    """Marked as favourite, or not."""
    visibility: Visibilities | None = None
    """timeline, archive, or both."""
    in_album: StrictBool | None = None
    """In at least one album, or in none."""
    rating: Ratings | None = None
    """Stars, from 1 to 5."""
    city: UnsetOrTexts | None = None
    """City, exactly as Immich shows it; "" is unset."""
    state: UnsetOrTexts | None = None
    """State or province; "" is unset."""
    country: UnsetOrTexts | None = None
    """Country; "" is unset."""
    make: UnsetOrTexts | None = None
    """Maker of the camera; "" is unset."""
    model: UnsetOrTexts | None = None
    """Model of the camera; "" is unset."""
    file_name: Texts | None = None
    """A part of the original file name, in any case."""
    owners: Owners | None = None
    """me, or anyone: partners and contributors to shared albums too."""
    search: Search | None = None
    """Any other search field, under the server's own name."""

    @model_validator(mode="after")
    def _times_in_order(self) -> "FilterTable":
        for kind in ("taken", "uploaded", "updated"):
            after, before = getattr(self, f"{kind}_after"), getattr(self, f"{kind}_before")
            if kind == "uploaded":
                after = after or self.after
            if after is not None and before is not None and after > before:
                raise ValueError(f"{kind}_after is later than {kind}_before: nothing can match")
        return self


class DestinationKeys(_Table):
    """What a destination is told; a mirror and [defaults] may tell it for all of theirs."""

    on_removed: OnGone | None = None
    """What becomes of the file of an asset that is gone from the server."""
    on_unmatched: OnGone | None = None
    """What becomes of the file of an asset that exists and no longer matches the filter."""
    quarantine_days: Annotated[StrictInt, Field(ge=0, le=36_500)] | None = None
    """Days that replaced and removed files wait in quarantine."""
    max_removed: LimitTable | None = None
    """Most files one run may remove or replace; more are held."""
    max_lost: LimitTable | None = None
    """Most files that may have vanished from the disk; more hold their download."""
    min_free: Size | None = None
    """Free space that is never used up, such as "1GiB"."""
    require_mount: Mount | None = None
    """true: the destination lies on a mounted disk; or the mount point's path."""


class MirrorKeys(DestinationKeys):
    """What a mirror is told; [defaults] may tell it for all mirrors."""

    account: Text | None = None
    """The account, by its name under [accounts]; may be left out if there is only one."""
    filter: FilterTable | None = None
    """Which assets the mirror selects."""
    exclude: Annotated[tuple[FilterTable, ...], _OneOrMany()] | None = None
    """Assets to leave out: one filter, or several of which any suffices."""
    layout: Text | None = None
    """The rule that gives each asset its path below the destination."""
    names: NameRules | None = None
    """Which characters a name may keep: those legal everywhere, or all that POSIX allows."""
    live_photos: LivePhotos | None = None
    """Which half of live photos: the still, the video, or both."""
    transfers: Annotated[Transfers, Strict()] | None = None
    """Most originals downloaded at once."""


class DestinationTable(DestinationKeys):
    """Where files are written, and under which policies."""

    path: Folder
    """The folder: absolute, or beginning with "~/"."""


class MirrorTable(MirrorKeys):
    """One named selection of one account and where it goes."""

    destinations: Annotated[
        tuple[DestinationTable, ...],
        BeforeValidator(_not_empty),
        Field(json_schema_extra={"minItems": 1}),
    ]
    """Where files are written, at least one."""


class DefaultsTable(MirrorKeys):
    """Any key of a mirror or a destination, for all mirrors of the profile."""


class ProfileTable(_Table):
    """Accounts, and mirrors of them."""

    server: Server | None = None
    """The server's URL; "/api" is found by itself."""
    accounts: Annotated[
        dict[Name, AccountTable],
        BeforeValidator(_not_empty),
        Field(json_schema_extra=_NAMED),
    ]
    """The accounts, by a name of your choice."""
    defaults: DefaultsTable = DefaultsTable()
    """For all mirrors: any of their keys, and any of a destination."""
    mirrors: Annotated[
        dict[Name, MirrorTable],
        BeforeValidator(_not_empty),
        Field(json_schema_extra=_NAMED),
    ]
    """The mirrors, by a name of your choice."""
