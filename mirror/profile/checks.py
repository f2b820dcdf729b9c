"""What the types of a profile cannot say: names that must agree, things said twice, trust.

Everything here reads the raw document, so that it works when other parts of it are wrong.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from mirror.core.filter import typed_key
from mirror.core.layout import LayoutError, compile_layout
from mirror.core.model import Mirror, NameRules
from mirror.profile.positions import Loc
from mirror.profile.urls import remote_url
from mirror.profile.values import absolute_path

Raw = dict[str, Any]  # what tomllib reads


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem whose line is not looked up yet."""

    loc: Loc
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the profile's file is, as far as its keys and commands ask."""

    private: bool  # nobody but its owner can read it
    may_run_commands: bool
    why_no_commands: str = ""


def faults(raw: Raw, trust: Trust) -> Iterator[Fault]:
    """Every fault of the document, in no order; wrong types are passed over."""
    yield from _accounts(raw, trust)
    yield from _command(("ping",), raw.get("ping"), trust)
    yield from _account_names(raw)
    yield from _layouts(raw)
    yield from _destinations(raw)
    yield from _destination_keys(raw, trust)
    for loc, table in _filters(raw):
        yield from _said_twice(loc, table)
        yield from _search(loc, table)
        if loc[-1] != "filter" and not table:
            yield Fault(loc, "is empty: it would exclude everything")


def near(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, "" if none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else ""


# -- accounts --------------------------------------------------------------------------------------


def _accounts(raw: Raw, trust: Trust) -> Iterator[Fault]:
    for name, account in _tables(raw.get("accounts")):
        loc: Loc = ("accounts", name)
        if "server" not in account and "server" not in raw:
            yield Fault(loc, "has no server", "give server at the top, or to this account")
        yield from _key((*loc, "api_key"), account.get("api_key"), trust)


def _destination_keys(raw: Raw, trust: Trust) -> Iterator[Fault]:
    for loc, mirror in _mirrors(raw):
        for index, destination in enumerate(_list(mirror.get("destinations"))):
            for name in ("access_key", "secret_key", "password"):
                place = (*loc, "destinations", index, name)
                yield from _key(place, _table(destination).get(name), trust)


def _key(loc: Loc, key: object, trust: Trust) -> Iterator[Fault]:
    if isinstance(key, str) and not trust.private:
        yield Fault(
            loc,
            "a literal key is refused in a file that others can read",
            "chmod 600, or use { file = … }",
        )
    yield from _command(loc, key, trust)


def _command(loc: Loc, secret: object, trust: Trust) -> Iterator[Fault]:
    if "command" in _table(secret) and not trust.may_run_commands:
        yield Fault((*loc, "command"), "is refused", trust.why_no_commands)


def _account_names(raw: Raw) -> Iterator[Fault]:
    accounts = _table(raw.get("accounts"))
    for loc, table in [(("defaults",), _table(raw.get("defaults"))), *_mirrors(raw)]:
        name = table.get("account")
        if isinstance(name, str) and name not in accounts:
            yield Fault((*loc, "account"), f"there is no account {name!r}", near(name, accounts))
    if len(accounts) > 1 and "account" not in _table(raw.get("defaults")):
        for loc, table in _mirrors(raw):
            if "account" not in table:
                yield Fault(loc, "names no account", f"one of: {', '.join(accounts)}")


# -- layouts ---------------------------------------------------------------------------------------


def _layouts(raw: Raw) -> Iterator[Fault]:
    defaults = _table(raw.get("defaults"))
    seen = set()
    for loc, table in [*_mirrors(raw), (("defaults",), defaults)]:
        home: Loc = loc if "layout" in table else ("defaults",)
        text = table.get("layout", defaults.get("layout"))
        if not isinstance(text, str) or not text:
            continue
        problem = _layout_problem(text, table.get("names", defaults.get("names")))
        if problem and (home, problem) not in seen:
            seen.add((home, problem))
            yield Fault((*home, "layout"), problem)


def _layout_problem(text: str, names: object) -> str:
    rules = NameRules(str(names)) if names in list(NameRules) else Mirror(name="", account="").names
    try:
        compile_layout(text, rules)
    except LayoutError as error:
        return str(error)
    return ""


# -- destinations ----------------------------------------------------------------------------------


def _destinations(raw: Raw) -> Iterator[Fault]:
    found: list[tuple[Loc, str]] = []
    for loc, mirror in _mirrors(raw):
        for index, destination in enumerate(_list(mirror.get("destinations"))):
            for key, place in _places(_table(destination)):
                found.append(((*loc, "destinations", index, key), place))
    for (first, one), (second, other) in combinations(found, 2):
        if one == other:
            yield Fault(second, f"{_owner(first)} already writes to {one}")
        elif _is_below(one, other) or _is_below(other, one):
            inner, outer = (one, other) if _is_below(one, other) else (other, one)
            own = "prefix" if inner.startswith("s3://") else "folder"
            yield Fault(
                second,
                f"{inner} lies inside {outer}; the other one is of {_owner(first)}",
                f"give each its own {own}",
            )


def _places(destination: Raw) -> Iterator[tuple[str, str]]:
    """Where it writes, by the key that says so; nothing where that cannot be."""
    for key, read in (("path", absolute_path), ("url", remote_url)):
        text = destination.get(key)
        if isinstance(text, str):
            with suppress(ValueError):
                yield key, read(text)


def _is_below(inner: str, outer: str) -> bool:
    return inner.startswith(outer.rstrip("/") + "/")


def _owner(loc: Loc) -> str:
    return f"mirror {loc[1]!r}"


# -- filters ---------------------------------------------------------------------------------------

ALIASES: Final = {"after": "uploaded_after", "last_days": "uploaded_within_days"}
_WINDOWS: Final = {"taken_within_days": "taken_after", "uploaded_within_days": "uploaded_after"}

_PAGING: Final = "how the library is listed is not for a profile to say; leave it out"
_ANSWER: Final = "what the answer shows is not for a profile to say; leave it out"
_VISIBILITY: Final = "use the key visibility of the filter"
_REFUSED: Final = {
    **dict.fromkeys(("size", "page", "cursor", "order", "orderBy", "orderDirection"), _PAGING),
    **dict.fromkeys(("withExif", "withPeople"), _ANSWER),
    "withStacked": "it drops the photos that lie below others in a stack; leave it out",
    "filter": "write its fields as keys of the filter, or of search",
    **dict.fromkeys(("visibility", "isArchived", "withArchived", "isVisible"), _VISIBILITY),
}


def _said_twice(loc: Loc, table: Raw) -> Iterator[Fault]:
    for alias, key in ALIASES.items():
        if alias in table and key in table:
            yield Fault((*loc, alias), f"means the same as {key}, which is given too")
    canonical = _canonical(table)
    for window, start in _WINDOWS.items():
        if window in canonical and start in canonical:
            yield Fault(
                (*loc, canonical[window]),
                f"cannot stand beside {canonical[start]}",
                "either a window that moves, or a fixed day",
            )


def _search(loc: Loc, table: Raw) -> Iterator[Fault]:
    canonical = _canonical(table)
    for field in _table(table.get("search")):
        place = (*loc, "search", field)
        if field in _REFUSED:
            yield Fault(place, "may not be searched for", _REFUSED[field])
        twin = typed_key(field)
        windows = {window for window, start in _WINDOWS.items() if start == twin}
        for key in ({twin} | windows) & canonical.keys():
            yield Fault(place, f"means the same as {canonical[key]}, which is given too")


def _canonical(table: Raw) -> dict[str, str]:
    """The key that was written, by the key that it means."""
    return {ALIASES.get(key, key): key for key in table}


def _filters(raw: Raw) -> Iterator[tuple[Loc, Raw]]:
    """Every filter and exclusion with its place."""
    for loc, table in [(("defaults",), _table(raw.get("defaults"))), *_mirrors(raw)]:
        yield (*loc, "filter"), _table(table.get("filter"))
        exclude = table.get("exclude")
        if isinstance(exclude, dict):
            yield (*loc, "exclude"), exclude
        for index, item in enumerate(_list(exclude)):
            if isinstance(item, dict):
                yield (*loc, "exclude", index), item


# -- the raw document ------------------------------------------------------------------------------


def _table(value: object) -> Raw:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _tables(value: object) -> Iterator[tuple[str, Raw]]:
    return ((name, table) for name, table in _table(value).items() if isinstance(table, dict))


def _mirrors(raw: Raw) -> list[tuple[Loc, Raw]]:
    return [(("mirrors", name), table) for name, table in _tables(raw.get("mirrors"))]


def trust_of(status: os.stat_result, *, found_here: bool) -> Trust:
    """What a profile's file may hold; `found_here`: it was looked up in `./profiles`."""
    why = ""
    if found_here:
        why = "a profile found in ./profiles may not run commands; give its path instead"
    elif status.st_uid not in (os.geteuid(), 0):
        why = "the profile must belong to you or to root"
    elif status.st_mode & 0o022:
        why = "others may write to the profile; chmod go-w"
    return Trust(private=status.st_mode & 0o077 == 0, may_run_commands=not why, why_no_commands=why)
