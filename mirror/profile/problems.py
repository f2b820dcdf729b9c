"""What is wrong with a profile, in words, with its line and the nearest right key.

The messages of the tables' types become ours here. Nothing that may be a key is quoted.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Final

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mirror.errors import Problem
from mirror.profile.checks import Fault, Raw, near
from mirror.profile.positions import Loc
from mirror.profile.tables import (
    AccountTable,
    DefaultsTable,
    DestinationTable,
    FilterTable,
    LimitTable,
    MirrorTable,
    ProfileTable,
)

_MISSING: Final = "is missing"


def validated(raw: Raw, zone: tzinfo | None) -> tuple[ProfileTable | None, list[Fault]]:
    """The tables of a document, or what their types object to."""
    try:
        return ProfileTable.model_validate(raw, context={"zone": zone}), []
    except ValidationError as error:
        return None, [_fault(details) for details in error.errors(include_url=False)]


def _fault(details: ErrorDetails) -> Fault:
    loc: Loc = tuple(part for part in details["loc"] if part != "[key]")
    what, hint = details["msg"].replace("Input should be", "should be"), ""
    match details["type"]:
        case "extra_forbidden":
            what, hint = "unknown key", _unknown_key_hint(loc)
        case "missing":
            what = _MISSING
        case "value_error":
            what = what.removeprefix("Value error, ")
        case "enum" | "literal_error":
            hint = near(str(details["input"]), re.findall("'([^']*)'", what))
            what = f"{what}, not {details['input']!r}"
        case "string_pattern_mismatch":
            what, hint = (
                "is no name",
                "letters, digits, _ - and . only; - and . not at the beginning",
            )
        case _:
            pass
    return Fault(loc, what, hint)


_HOMES: Final[tuple[tuple[type[BaseModel], str], ...]] = (
    (DestinationTable, "[[mirrors.NAME.destinations]]"),
    (MirrorTable, "[mirrors.NAME] or [defaults]"),
    (FilterTable, "filter or exclude"),
    (AccountTable, "[accounts.NAME]"),
    (ProfileTable, "the top of the file, before the first table"),
)


def _unknown_key_hint(loc: Loc) -> str:
    key = str(loc[-1])
    for table, home in _HOMES:
        if key in table.model_fields:
            return f"it belongs in {home}"
    return near(key, _table_at(loc[:-1]).model_fields)


def _table_at(loc: Loc) -> type[BaseModel]:
    table: type[BaseModel] = LimitTable
    match [part for part in loc if isinstance(part, str)]:
        case []:
            table = ProfileTable
        case ["accounts", _]:
            table = AccountTable
        case ["defaults"]:
            table = DefaultsTable
        case ["mirrors", _]:
            table = MirrorTable
        case ["mirrors", _, "destinations"]:
            table = DestinationTable
        case [*_, "filter" | "exclude"]:
            table = FilterTable
        case _:
            pass
    return table


def placed(found: Iterable[Fault], lines: Mapping[Loc, int], path: Path) -> list[Problem]:
    """The faults as problems, in the order of the file."""
    problems = []
    for fault in found:
        known = _known_part(fault.loc, lines)
        missing = fault.loc[-1:] if fault.what == _MISSING else ()
        line = lines.get(known, 1)
        problem = Problem(f"{path}:{line}", _dotted(known + missing), fault.what, fault.hint)
        problems.append((line, problem))
    return [problem for _, problem in sorted(problems, key=lambda pair: pair[0])]


def _known_part(loc: Loc, lines: Mapping[Loc, int]) -> Loc:
    """The part of a place that the document has; the index of a lone value is not in it."""
    known: Loc = ()
    for part in loc:
        if (*known, part) in lines:
            known = (*known, part)
        elif isinstance(part, str):
            break
    return known


def _dotted(loc: Loc) -> str:
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += f".{part}" if bare else f".{tomli_w.dumps({part: 0}).split(' = ')[0]}"
    return text.removeprefix(".")
