"""What `mirror copy` is asked for: the options of immich-ppdl become a profile of one mirror.

A value comes from the command line, from the environment, or from a file of the option's name in
`$CREDENTIALS_DIRECTORY`, in this order, as immich-ppdl had it. No message quotes the key.
"""

import argparse
import json
import os
import re
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from mirror.core.filter import SearchError, check_search, timestamp
from mirror.core.layout import compile_layout
from mirror.core.model import (
    Choice,
    Destination,
    Filter,
    JsonValue,
    Limit,
    LivePhotos,
    Mirror,
    NameRules,
    Owners,
)
from mirror.core.secret import LiteralSecret
from mirror.destinations.identity import COPY
from mirror.errors import UsageError
from mirror.immich.client import KNOWN_MAJORS
from mirror.profile import Account, Profile
from mirror.profile.values import Server, Text, Transfers, absolute_path
from mirror.settings import global_settings

THREADS: Final = 4
# A file that vanished is brought again, however many did: that is what a copy is for.
_NO_LIMIT: Final = Limit(count=sys.maxsize, share=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """A profile of one account and one mirror with one destination."""

    profile: Profile
    dry: bool
    save_to: Path  # the destination as it was written: "." stays "."


def copy_request(args: argparse.Namespace) -> CopyRequest:
    """What the options (`add_copy_options`), the environment and the credentials ask for.

    Raises:
        UsageError: with every problem, each under the name by which its value was given.
    """
    given = {name: value for name, value in vars(args).items() if name in _NAMES}
    problems: list[str] = []
    own = _own(given, problems)
    asked = _asked(given, problems)
    if asked is None or own is None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise UsageError(
            f"the options of copy have {count}",
            why="\n     ".join(problems),
            hint="see `mirror copy --help`",
        )
    return CopyRequest(
        profile=_profile(asked, own, args), dry=asked.dry, save_to=Path(asked.save_to)
    )


def _profile(asked: "_Asked", own: "_Own", args: argparse.Namespace) -> Profile:
    limits = global_settings(min_free=getattr(args, "min_free", None))
    destination = Destination(
        path=_absolute(asked.save_to), min_free_bytes=limits.min_free or 0, max_lost=_NO_LIMIT
    )
    mirror = Mirror(
        name=COPY,
        account=COPY,
        filter=_filter(asked, own.owners),
        transfers=asked.threads or limits.transfers or THREADS,
        destinations=(destination,),
        **own.model_dump(exclude_unset=True, exclude={"owners"}),
    )
    key = LiteralSecret(asked.immich_api_key)
    return Profile(
        name=COPY,
        path=Path(destination.path),
        accounts={COPY: Account(name=COPY, server=asked.immich_api_url, api_key=key)},
        mirrors=(mirror,),
    )


def _filter(asked: "_Asked", owners: Owners) -> Filter:
    """What `filters` says wins over the option that says the same, visibility included."""
    search = asked.filters
    people = Choice(tuple(map(str, asked.person_ids)), every=True) if asked.person_ids else None
    return Filter(
        people=None if "personIds" in search else people,
        uploaded_after=None if "createdAfter" in search else asked.after,
        uploaded_within_days=None if "createdAfter" in search else asked.last_days,
        owners=owners,
        search=search,
    )


# -- values ----------------------------------------------------------------------------------------


def _texts(value: object) -> list[str]:
    """An option that may be repeated is a list of texts; elsewhere it is one text."""
    return [str(text) for text in value] if isinstance(value, list) else [str(value)]


def _key(value: str) -> str:
    key = value.strip()
    if not key:
        raise ValueError("is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("holds more than a key: several lines, spaces, or other than ASCII")
    return key


def _folder(text: str) -> str:
    if "://" in text:
        raise ValueError("should be a folder; `mirror sync` fills buckets and servers")
    text = os.path.expanduser(text)  # noqa: PTH111 (pathlib raises RuntimeError without a home)
    _absolute(text)
    return text


def _absolute(text: str) -> str:
    return absolute_path(os.path.join(os.getcwd(), text))  # noqa: PTH109, PTH118 (keeps a "~" name)


def _ids(value: object) -> tuple[str, ...]:
    """Repeated, with commas, as JSON, or mixed: an id holds none of what is between them."""
    texts = _texts(value)
    ids = re.findall(r"[^\s,\[\]\"']+", ",".join(texts))
    if not ids and any(text.strip() != "[]" for text in texts):
        # A variable that is empty by mistake must not mean everybody.
        raise ValueError("names nobody; leave it out for everybody")
    return tuple(ids)


def _dashed(value: object) -> object:
    """20240131 as a date: pydantic would take it for seconds since 1970."""
    text = str(value).strip()
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if re.fullmatch(r"\d{8}", text) else value


def _instant(moment: datetime) -> datetime:
    """A time without a zone is local."""
    try:
        return moment.astimezone(UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("is outside the years that can be computed with") from error


# -- filters ---------------------------------------------------------------------------------------

# The value is quoted, or goes up to the comma before the next name.
_PAIR: Final = re.compile(
    r'\s*(?P<name>\w+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|.*?)\s*(?:,(?=\s*\w+\s*=)|\Z)', re.DOTALL
)


def _filters(value: object) -> dict[str, JsonValue]:
    """JSON objects and KEY=VALUE pairs, the later winning; dates as the server takes them."""
    said: dict[str, JsonValue] = {}
    for text in _texts(value):
        said.update(_object(text) if text.lstrip().startswith("{") else _pairs(text))
    said = {name: _dated(name, item) for name, item in said.items()}
    refusals = [_refusal(name, item) for name, item in said.items()]
    problems = [str(refusal).removeprefix("search.") for refusal in refusals if refusal]
    if problems:
        raise ValueError("; ".join(problems))
    return said


def _object(text: str) -> Iterator[tuple[str, JsonValue]]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from error
    return ((name, _frozen(item)) for name, item in said.items())


def _frozen(value: Any) -> JsonValue:  # noqa: ANN401 (what json gives)
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value if not isinstance(value, dict) else {k: _frozen(v) for k, v in value.items()}


def _pairs(text: str) -> Iterator[tuple[str, JsonValue]]:
    end = 0
    while end < len(text):
        pair = _PAIR.match(text, end)
        if pair is None:
            raise ValueError(f"{text!r} is neither JSON nor KEY=VALUE")
        yield pair["name"], _meant(pair["name"], _unquoted(pair["value"]))
        end = pair.end()


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


def _meant(name: str, text: str) -> JsonValue:
    """A text as the field wants it: itself, unset, a number or boolean, or a list of ids."""
    choices: list[JsonValue] = [text, *_json(text), tuple(text.split(","))]
    if text == "null":
        choices.insert(0, None)
    return next((choice for choice in choices if _refusal(name, choice) is None), text)


def _json(text: str) -> Iterator[JsonValue]:
    try:
        yield _frozen(json.loads(text))
    except (ValueError, RecursionError):
        return


def _dated(name: str, value: JsonValue) -> JsonValue:
    """Immich 3 refuses a date without time and zone; immich-ppdl passed it on to 2.x."""
    if not isinstance(value, str) or not name.endswith(("After", "Before")):
        return value
    try:
        return timestamp(_instant(datetime.fromisoformat(value)))
    except ValueError:
        return value  # whoever checks it says what is wrong


def _refusal(name: str, value: JsonValue) -> SearchError | None:
    """Why no server would take it; what only some take is told when the server is known."""
    refusal = None
    for major in KNOWN_MAJORS:
        try:
            check_search({name: value}, (major, 99))
        except SearchError as error:
            refusal = error
        else:
            return None
    return refusal


# -- options ---------------------------------------------------------------------------------------


class _Asked(BaseSettings):
    """The options of immich-ppdl; the names of the fields are those of the variables."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, hide_input_in_errors=True, frozen=True, validate_default=False
    )

    immich_api_url: Server
    immich_api_key: Annotated[str, AfterValidator(_key)] = Field(repr=False)
    save_to: Annotated[str, AfterValidator(_folder)] = Field(".", validate_default=True)
    person_ids: Annotated[tuple[uuid.UUID, ...], NoDecode, BeforeValidator(_ids)] = ()
    after: Annotated[datetime, BeforeValidator(_dashed), AfterValidator(_instant)] | None = None
    last_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    filters: Annotated[dict[str, Any], NoDecode, BeforeValidator(_filters)] = {}
    threads: Transfers | None = None
    dry: bool = False

    @field_validator("last_days")
    @classmethod
    def _alone(cls, last_days: int, info: ValidationInfo) -> int:
        # Wrong values are not in the data: given is what is not the default.
        if info.data.get("after", "wrong") is not None:
            raise ValueError("cannot stand beside after: give one of them")
        return last_days


class _Own(BaseModel):
    """What immich-ppdl did not have; from the command line only."""

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)

    names: NameRules | None = None
    layout: Text | None = None
    live_photos: LivePhotos | None = None
    owners: Owners = Owners.ME

    @field_validator("layout")
    @classmethod
    def _compiles(cls, layout: str, info: ValidationInfo) -> str:
        compile_layout(layout, info.data.get("names") or NameRules.PORTABLE)
        return layout


_NAMES: Final = _Asked.model_fields.keys() | _Own.model_fields.keys()


def _own(given: Mapping[str, Any], problems: list[str]) -> _Own | None:
    options = {name: given[name] for name in given.keys() & _Own.model_fields.keys()}
    try:
        return _Own(**options)
    except ValidationError as error:
        problems += (f"--{_field(d).replace('_', '-')}: {_fault(d)}" for d in error.errors())
    return None


def _asked(given: Mapping[str, Any], problems: list[str]) -> _Asked | None:
    options = {name: given[name] for name in given.keys() & _Asked.model_fields.keys()}
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        with warnings.catch_warnings():
            # Of a credential that it passes over pydantic-settings only warns.
            warnings.simplefilter("error", UserWarning)
            return _Asked(_secrets_dir=folder if _is_folder(folder) else None, **options)
    except ValidationError as error:
        problems += (f"{_source(d, options)}: {_fault(d)}" for d in error.errors())
    except SettingsError as error:
        # Not chained: an exception about bytes that are no text carries them.
        unread = error.__cause__
        is_text = not isinstance(unread, UnicodeDecodeError)
        problems.append(str(unread) if is_text else f"{folder}: one of the files is not text")
    except OSError as error:
        problems.append(f"the current folder: {error.strerror}")
    return None


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (to pathlib, no path is the current folder)


def _field(details: ErrorDetails) -> str:
    return str(details["loc"][0])


def _fault(details: ErrorDetails) -> str:
    if details["type"] == "missing":
        name = _field(details)
        return f"is missing; {name.upper()} or a credential file {name} would do as well"
    return details["msg"].removeprefix("Value error, ").replace("Input should be", "should be")


def _source(details: ErrorDetails, options: Mapping[str, object]) -> str:
    """Where a value came from: the option, the variable as it is written, or the credential."""
    name = _field(details)
    if name in options or details["type"] == "missing":
        return f"--{name}"
    variables = (key for key, text in os.environ.items() if text and key.lower() == name)
    return next(variables, f"the credential {name}")
