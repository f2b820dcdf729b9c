"""What a filter asks of the server, and whether a row that came back is what was asked.

Pure. A `Query` is the one internal form; `Query.body` is the one place that makes a request of it.
Field names and versions: POST /search/metadata, Immich 2.0 to 3.2 (flat form), measured on 2.7.5
and 3.1.0. The server drops fields that it does not know in silence and then lists more than was
asked: hence `check_search` before, and `recheck` after.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final, TypeAlias

from mirror.core import checksum
from mirror.core.model import Asset, AssetType, Choice, Exif, Filter, JsonValue, Visibility

Version: TypeAlias = tuple[int, ...]  # (major, minor, ...) of the server

MILLISECOND: Final = timedelta(milliseconds=1)
_LAST: Final = datetime.max.replace(tzinfo=UTC)

_EXIF_FIELDS: Final = {
    "city": "city",
    "country": "country",
    "description": "description",
    "lensModel": "lens_model",
    "make": "make",
    "model": "model",
    "rating": "rating",
    "state": "state",
}
_MEMBERSHIP_FIELDS: Final = frozenset({"personIds", "albumIds", "tagIds", "isNotInAlbum"})


class SearchError(ValueError):
    """A field that the server does not know, or would not take as it is written."""

    def __init__(self, key: str, what: str, hint: str = "") -> None:
        self.key = key
        self.what = what
        self.hint = hint
        super().__init__(f"{key}: {what}" + (f" ({hint})" if hint else ""))


# -- windows and queries ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, both ends inclusive and aware, cut to milliseconds as the server shows them.

    The database keeps microseconds: a row shown as `before` may lie up to 1 ms behind it, so that
    the upper end is sent 1 ms later (`sent`) and held against the row that comes back.
    """

    after: datetime | None = None
    before: datetime | None = None

    def __contains__(self, time: datetime) -> bool:
        return (self.after is None or self.after <= time) and (
            self.before is None or cut(time) <= self.before
        )

    def sent(self, name: str) -> dict[str, JsonValue]:
        """The pair of request fields: `takenAfter`, `takenBefore` for `taken`."""
        ends: dict[str, JsonValue] = {}
        if self.after is not None:
            ends[f"{name}After"] = timestamp(self.after)
        if self.before is not None:
            ends[f"{name}Before"] = timestamp(later(self.before))
        return ends


ALWAYS: Final = Window()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request's predicates, without paging: all of them hold for each row it asks for."""

    visibility: Visibility | None  # None: whichever it is; only servers from 3.0 on can be asked so
    fields: Mapping[str, JsonValue] = field(default_factory=dict)  # all but visibility and times
    taken: Window = ALWAYS
    uploaded: Window = ALWAYS
    updated: Window = ALWAYS
    trashed: Window = ALWAYS
    file_name: str = ""  # a literal part; the server would take "%" and "_" as wildcards

    @property
    def with_deleted(self) -> bool:
        """Whether the server adds trashed assets: two predicates switch that on by themselves."""
        return (
            self.fields.get("withDeleted") is True
            or self.fields.get("isOffline") is True
            or self.trashed != ALWAYS
        )

    def body(self) -> dict[str, JsonValue]:
        """The JSON of the request, without paging."""
        return {
            **self.fields,
            **({} if self.visibility is None else {"visibility": self.visibility.value}),
            **self.taken.sent("taken"),
            **self.uploaded.sent("created"),
            **self.updated.sent("updated"),
            **self.trashed.sent("trashed"),
        }


def timestamp(time: datetime) -> str:
    """The only form that all versions take: UTC, milliseconds, Z."""
    text = time.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def cut(time: datetime) -> datetime:
    """Without what is finer than a millisecond."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def later(time: datetime) -> datetime:
    """One millisecond later, or the end of time."""
    return time + MILLISECOND if time <= _LAST - MILLISECOND else time


def queries(filter_: Filter, *, now: datetime) -> list[Query]:
    """The queries whose union the filter selects; people, albums and tags must be ids by now.

    One per visibility (timeline, archive, hidden: in this order) and combination of any-of values:
    the server takes one visibility, and lists of ids mean all of them. `now` is the server's clock.

    Raises:
        SearchError: the filter says a thing twice, or what the server cannot combine.
    """
    _check_twice(filter_)
    windows = _windows(filter_, now)
    fixed = {key: value for key, value in filter_.search.items() if key not in _NOT_FIXED}
    found = []
    for visibility in _visibilities(filter_):
        for chosen in product(*_choices(filter_)):
            fields = fixed | _flags(filter_) | dict(chosen)
            name = str(fields["originalFileName"]) if filter_.file_name else ""
            found.append(Query(visibility=visibility, fields=fields, file_name=name, **windows))
    return found


def needs_exif(filter_: Filter) -> bool:
    """Whether a predicate reads exif: its answers can only be re-checked with `withExif`.

    Such a filter hides assets whose metadata was never extracted, with or without `withExif`.
    """
    return bool(
        filter_.rating
        or filter_.city
        or filter_.state
        or filter_.country
        or filter_.make
        or filter_.model
        or filter_.search.get("withExif")
        or _EXIF_FIELDS.keys() & filter_.search.keys()
    )


def moves(filter_: Filter) -> bool:
    """Whether time alone changes what it selects."""
    return filter_.taken_within_days is not None or filter_.uploaded_within_days is not None


def by_membership(filter_: Filter) -> bool:
    """Whether people, albums or tags decide: no row's `updatedAt` tells when those change."""
    return bool(
        filter_.people
        or filter_.albums
        or filter_.tags
        or filter_.in_album is not None
        or _MEMBERSHIP_FIELDS & filter_.search.keys()
    )


def by_album(filter_: Filter) -> bool:
    """Whether the filter names albums."""
    return filter_.albums is not None or "albumIds" in filter_.search


_TYPED: Final[dict[str, str]] = {
    "albumIds": "albums",
    "city": "city",
    "country": "country",
    "createdAfter": "uploaded_after",
    "createdBefore": "uploaded_before",
    "isFavorite": "favorite",
    "isNotInAlbum": "in_album",
    "make": "make",
    "model": "model",
    "originalFileName": "file_name",
    "personIds": "people",
    "rating": "rating",
    "state": "state",
    "tagIds": "tags",
    "takenAfter": "taken_after",
    "takenBefore": "taken_before",
    "type": "type",
    "updatedAfter": "updated_after",
    "updatedBefore": "updated_before",
}
_WITHIN: Final = {"takenAfter": "taken_within_days", "createdAfter": "uploaded_within_days"}
_TIMES: Final = ("taken", "created", "updated", "trashed")
_NOT_FIXED: Final = frozenset(
    {"visibility", "withExif", *(f"{name}{end}" for name in _TIMES for end in ("After", "Before"))}
)


def typed_key(search_field: str) -> str:
    """The filter's own key for a field of the server, or the field itself below `search`."""
    return _TYPED.get(search_field, f"search.{search_field}")


def _check_twice(filter_: Filter) -> None:
    for key in filter_.search:
        said = {_TYPED.get(key, ""), _WITHIN.get(key, "")} - {""}
        for name in sorted(said):
            if getattr(filter_, name) not in (None, ()):
                raise SearchError(f"search.{key}", f"{name} says the same", "keep one of them")
    if filter_.in_album is False and by_album(filter_):
        raise SearchError("in_album", "the server ignores it beside albums", "keep one of them")


def _visibilities(filter_: Filter) -> list[Visibility]:
    said = filter_.search.get("visibility")
    if said is not None:
        _visibility("search.visibility", said, ())
        return [Visibility(str(said))]
    return [visibility for visibility in Visibility if visibility in filter_.visibility]


def _windows(filter_: Filter, now: datetime) -> dict[str, Window]:
    search = filter_.search
    return {
        "taken": _window(
            (
                filter_.taken_after,
                _ago(filter_.taken_within_days, now),
                _said(search, "takenAfter"),
            ),
            (filter_.taken_before, _said(search, "takenBefore")),
        ),
        "uploaded": _window(
            (
                filter_.uploaded_after,
                _ago(filter_.uploaded_within_days, now),
                _said(search, "createdAfter"),
            ),
            (filter_.uploaded_before, _said(search, "createdBefore")),
        ),
        "updated": _window(
            (filter_.updated_after, _said(search, "updatedAfter")),
            (filter_.updated_before, _said(search, "updatedBefore")),
        ),
        "trashed": _window((_said(search, "trashedAfter"),), (_said(search, "trashedBefore"),)),
    }


def _window(after: Iterable[datetime | None], before: Iterable[datetime | None]) -> Window:
    lower = [cut(time) for time in after if time is not None]
    upper = [cut(time) for time in before if time is not None]
    if not lower and not upper:
        return ALWAYS
    return Window(max(lower, default=None), min(upper, default=None))


def _ago(days: int | None, now: datetime) -> datetime | None:
    return None if days is None else now - timedelta(days=days)


def _said(search: Mapping[str, JsonValue], key: str) -> datetime | None:
    value = search.get(key)
    return None if value is None else _moment(key, value)


def _flags(filter_: Filter) -> dict[str, JsonValue]:
    flags: dict[str, JsonValue] = {}
    if filter_.favorite is not None:
        flags["isFavorite"] = filter_.favorite
    if filter_.in_album is False:
        # in_album = true has no predicate: a listing subtracts what is in no album.
        flags["isNotInAlbum"] = True
    return flags


_Chosen: TypeAlias = list[tuple[str, JsonValue]]


def _choices(filter_: Filter) -> list[_Chosen]:
    """Per key with values: its alternatives, each a field and what to ask of it."""
    choices = [
        _any_of("type", [kind.value for kind in filter_.type]),
        _any_of("rating", filter_.rating),
        *(_any_of(key, [text or None for text in getattr(filter_, key)]) for key in _UNSETTABLE),
        _any_of("originalFileName", filter_.file_name),
        _members("personIds", filter_.people),
        _members("albumIds", filter_.albums),
        _members("tagIds", filter_.tags),
    ]
    return [choice for choice in choices if choice]


_UNSETTABLE: Final = ("city", "state", "country", "make", "model")  # "" asks for null


def _any_of(key: str, values: Iterable[JsonValue]) -> _Chosen:
    return [(key, value) for value in dict.fromkeys(values)]


def _members(key: str, choice: Choice | None) -> _Chosen:
    # The server ANDs the ids of a list, and a list that holds one twice matches nothing.
    if choice is None:
        return []
    if not choice.values:
        raise SearchError(_TYPED[key], "names none")
    ids = tuple(dict.fromkeys(choice.values))
    return [(key, ids)] if choice.every else [(key, (one,)) for one in ids]


# -- after: is a row what was asked? ---------------------------------------------------------------


def wanted(query: Query, asset: Asset) -> bool:
    """Whether a row is inside what the filter means, where the request had to ask for more.

    The upper millisecond of a window, and names in which the server sees wildcards.
    """
    return (
        _ended(query.taken, asset.taken_at)
        and _ended(query.uploaded, asset.uploaded_at)
        and _ended(query.updated, asset.updated_at)
        and (not query.file_name or _fold(query.file_name) in _fold(asset.original_file_name))
    )


def _ended(window: Window, time: datetime | None) -> bool:
    return window.before is None or time is None or cut(time) <= window.before


def recheck(query: Query, asset: Asset, *, own: bool) -> str | None:
    """The first predicate (as a filter's key) that the row fails; None if it fails none.

    A failure means that the server does not do what was asked. What a row does not show (people,
    albums, tags, texts with wildcards, exif that was not sent) is not checked. `own`: the asset is
    the key's own; on others' the server hides `isFavorite`.
    """
    if query.visibility is not None and asset.visibility is not query.visibility:
        return "visibility"
    if asset.is_trashed and not query.with_deleted:
        return "trashed"
    for name, window, time in (
        ("taken", query.taken, asset.taken_at),
        ("uploaded", query.uploaded, asset.uploaded_at),
        ("updated", query.updated, asset.updated_at),
    ):
        if window is not ALWAYS and time is not None and not _sent_for(window, time):
            return name
    return _failing_field(query, asset, own=own)


def _sent_for(window: Window, time: datetime) -> bool:
    before = None if window.before is None else later(window.before)
    return cut(time) in Window(window.after, before)


def _failing_field(query: Query, asset: Asset, *, own: bool) -> str | None:
    for name, value in query.fields.items():
        check = _CHECKS.get(name)
        if check is not None and not check(asset, value) and (own or name != "isFavorite"):
            return typed_key(name)
        if (
            name in _EXIF_FIELDS
            and asset.exif is not None
            and not _exif_is(asset.exif, name, value)
        ):
            return typed_key(name)
    return None


_CHECKS: Final[dict[str, Callable[[Asset, JsonValue], bool]]] = {
    "id": lambda asset, value: asset.id == value,
    "libraryId": lambda asset, value: asset.library_id == value,
    "type": lambda asset, value: asset.type == value,
    "isFavorite": lambda asset, value: asset.is_favorite is value,
    "isOffline": lambda asset, value: asset.is_offline is value,
    "isMotion": lambda asset, value: (asset.live_photo_video_id is not None) is value,
    "checksum": lambda asset, value: asset.checksum == checksum.decode(str(value)),
    "originalFileName": lambda asset, value: _may_hold(asset.original_file_name, value),
    "originalPath": lambda asset, value: _may_hold(asset.original_path, value),
}


def _exif_is(exif: Exif, name: str, value: JsonValue) -> bool:
    found = getattr(exif, _EXIF_FIELDS[name])
    if name == "description":
        return _may_hold(found or "", value)
    return bool(found == (None if value == "" else value))


# What a row says of itself for sure; names may be searched with wildcards, or without accents.
_SHOWN: Final = (
    (_CHECKS.keys() - {"originalFileName", "originalPath"})
    | (_EXIF_FIELDS.keys() - {"description"})
    | {"withDeleted", "withExif"}
)


def is_shown(query: Query) -> bool:
    """Whether every predicate can be judged from a row alone, with its exif."""
    # Since when an asset is in the trash is in no row.
    return query.fields.keys() <= _SHOWN and query.trashed == ALWAYS


_WILD: Final = re.compile(r"[%_\\]")


def _may_hold(text: str, part: JsonValue) -> bool:
    """Whether the server's substring match may be right: sure only of plain ASCII.

    It strips accents by a table of its own, and "%" and "_" are wildcards to it.
    """
    part = str(part)
    if not text.isascii() or not part.isascii() or _WILD.search(part):
        return True
    return part.lower() in text.lower()


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


# -- before: does this server know the field? ------------------------------------------------------


def check_search(search: Mapping[str, JsonValue], version: Version) -> None:
    """Refuse what the server would drop in silence, or answer with an error.

    Raises:
        SearchError: an unknown field (with the nearest known one), or a value of the wrong kind.
    """
    for key, value in search.items():
        if key in _NEVER:
            raise SearchError(f"search.{key}", "cannot be asked for", _NEVER[key])
        known = _FIELDS.get(key)
        if known is None:
            near = difflib.get_close_matches(key, _FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "see the server's searchAssets"
            raise SearchError(f"search.{key}", "no server would know it", hint)
        if not known.since <= version[:2] < known.until:
            raise SearchError(f"search.{key}", f"{_dotted(version)} ignores it", known.span())
        known.check(f"search.{key}", value, version)


def _dotted(version: Version) -> str:
    return "Immich " + ".".join(str(part) for part in version)


def _text(key: str, value: JsonValue, _version: Version) -> None:
    if not isinstance(value, str) or not value:
        raise SearchError(key, "must be a text")


def _text_or_null(key: str, value: JsonValue, _version: Version) -> None:
    if value is not None and not isinstance(value, str):
        raise SearchError(key, "must be a text, or null for unset")


def _boolean(key: str, value: JsonValue, _version: Version) -> None:
    if not isinstance(value, bool):
        raise SearchError(key, "must be true or false")


def _only_true(key: str, value: JsonValue, _version: Version) -> None:
    if value is not True:
        raise SearchError(key, "the server ignores anything but true", "in_album = true?")


_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def is_id(text: object) -> bool:
    """Whether a text is an id, as against a name."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def _id(key: str, value: JsonValue, _version: Version) -> None:
    # libraryId = null is ignored by 2.0 to 3.1: it cannot ask for uploads only.
    if not is_id(value):
        raise SearchError(key, "must be an id (a UUID)")


def _ids(key: str, value: JsonValue, _version: Version) -> None:
    if not isinstance(value, tuple) or not value or not all(is_id(one) for one in value):
        raise SearchError(key, "must be a list of ids (UUIDs)")
    if len(set(value)) < len(value):
        raise SearchError(key, "holds an id twice: the server would match nothing")


def _ids_or_null(key: str, value: JsonValue, version: Version) -> None:
    if value is not None:
        _ids(key, value, version)


def _type(key: str, value: JsonValue, _version: Version) -> None:
    if value not in tuple(AssetType):
        raise SearchError(key, f"must be one of {', '.join(AssetType)}")


def _visibility(key: str, value: JsonValue, _version: Version) -> None:
    if value == "locked":
        raise SearchError(key, "no API key may list the locked folder")
    if value not in tuple(Visibility):
        raise SearchError(key, f"must be one of {', '.join(Visibility)}")


def _rating(key: str, value: JsonValue, version: Version) -> None:
    # Immich 2.6 added null, 3.0 took -1 and 0 away.
    if value is None and version >= (2, 6):
        return
    lowest = 1 if version >= (3,) else -1
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= 5:  # noqa: PLR2004 (stars)
        null = ", or null for unrated" if version >= (2, 6) else ""
        raise SearchError(key, f"must be a number from {lowest} to 5{null}")


def _sha1(key: str, value: JsonValue, _version: Version) -> None:
    try:
        checksum.decode(value if isinstance(value, str) else "")
    except ValueError as error:
        raise SearchError(key, "must be a SHA-1 in base64 or hex") from error


def _time(key: str, value: JsonValue, _version: Version) -> None:
    _moment(key, value)


def _moment(key: str, value: JsonValue) -> datetime:
    hint = "write 2020-01-31T00:00:00Z"
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise SearchError(key, "must be a date with time and zone", hint) from error
    if moment.tzinfo is None:
        raise SearchError(key, "needs a time and a zone", hint)
    return moment.astimezone(UTC)


_Check: TypeAlias = Callable[[str, JsonValue, Version], None]


@dataclass(frozen=True, slots=True)
class _Field:
    check: _Check
    since: Version = (0,)
    until: Version = (999,)

    def span(self) -> str:
        if self.until < (999,):
            return f"it was removed in {self.until[0]}.{self.until[1]}"
        return f"it came with {self.since[0]}.{self.since[1]}"


_FIELDS: Final[dict[str, _Field]] = {
    "albumIds": _Field(_ids),
    "checksum": _Field(_sha1),
    "city": _Field(_text_or_null),
    "country": _Field(_text_or_null),
    "description": _Field(_text),
    "deviceAssetId": _Field(_text, until=(3, 0)),
    "deviceId": _Field(_text, until=(3, 0)),
    "encodedVideoPath": _Field(_text),
    "id": _Field(_id),
    "isEncoded": _Field(_boolean),
    "isFavorite": _Field(_boolean),
    "isMotion": _Field(_boolean),
    "isNotInAlbum": _Field(_only_true),
    "isOffline": _Field(_boolean),
    "lensModel": _Field(_text_or_null),
    "libraryId": _Field(_id),
    "make": _Field(_text_or_null),
    "model": _Field(_text_or_null),
    "ocr": _Field(_text, since=(2, 2)),
    "originalFileName": _Field(_text),
    "originalPath": _Field(_text),
    "personIds": _Field(_ids),
    "rating": _Field(_rating),
    "state": _Field(_text_or_null),
    "tagIds": _Field(_ids_or_null),
    "type": _Field(_type),
    "visibility": _Field(_visibility),
    "withDeleted": _Field(_boolean),
    "withExif": _Field(_boolean),
    "withPeople": _Field(_boolean),
    **{f"{name}{end}": _Field(_time) for name in _TIMES for end in ("After", "Before")},
}

_PAGING: Final = "a listing does its own paging"
_NEVER: Final = {
    "cursor": _PAGING,
    "filter": "only the flat fields can be used",
    "isArchived": 'it is ignored since 1.133: visibility = ["archive"]',
    "isVisible": "it is ignored since 1.133: use visibility",
    "order": _PAGING,
    "orderBy": _PAGING,
    "page": _PAGING,
    "size": _PAGING,
    "withArchived": 'it is ignored since 1.133: visibility = ["timeline", "archive"]',
    "withStacked": "it would drop whole stacks, their first photo too",
}
