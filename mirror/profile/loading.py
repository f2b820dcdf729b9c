"""A profile: accounts and the mirrors of them, from a TOML file to frozen values.

A file is read, checked as a whole and refused with all of its problems at once; the API keys are
not read here but when a run begins (`mirror.secrets.read_secret`).
"""

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import BaseModel, ByteSize

from mirror.core.model import Destination, Filter, Limit, Limits, Mirror, Owners, Visibility
from mirror.errors import Problem, ProfileError
from mirror.profile import Account, Profile
from mirror.profile.checks import ALIASES, Raw, Trust, faults, near, trust_of
from mirror.profile.positions import positions
from mirror.profile.problems import placed, validated
from mirror.profile.tables import (
    DestinationKeys,
    DestinationTable,
    FilterTable,
    LimitTable,
    MirrorKeys,
    ProfileTable,
)
from mirror.profile.text import as_toml, limits_as_toml, masked
from mirror.secrets import MASK

# A relative path on purpose: a profile that was looked up here keeps it, and may not run commands.
LOCAL_FOLDER: Final = Path("profiles")
SYSTEM_FOLDER: Final = Path("/etc/mirror/profiles")


# -- looking up ------------------------------------------------------------------------------------


def find_profile(name: str, *, profiles_dir: Path | None) -> Path:
    """The file of a profile; a name with a slash or ending in `.toml` is a path, taken as it is.

    Relative only when it was looked up in `./profiles`, where a profile may not run commands.

    Raises:
        ProfileError: no folder has it; says where it was looked for, and the nearest name.
    """
    if "/" in name or name.endswith(".toml"):
        return Path(name).absolute()
    folders = _folders(profiles_dir)
    for folder in folders:
        path = folder / f"{name}.toml"
        if _is_file(path):
            return path
    looked = f"looked in {', '.join(map(str, folders))}"
    hint = near(name, (path.stem for folder in folders for path in _profiles_in(folder)))
    raise ProfileError(f"there is no profile {name!r}", hint=f"{hint} {looked}".strip())


def all_profiles(*, profiles_dir: Path | None) -> list[Path]:
    """Every profile by name: of the folder given, else of each folder that is looked in.

    Of several with one name the first that `find_profile` would find.
    """
    folders = _folders(None) if profiles_dir is None else [profiles_dir.absolute()]
    by_name: dict[str, Path] = {}
    for folder in folders:
        for path in _profiles_in(folder):
            by_name.setdefault(path.stem, path)
    return [by_name[name] for name in sorted(by_name)]


def folder_for_new(profiles_dir: Path | None) -> Path:
    """Where a profile is written that names no folder: the user's own."""
    return _folders(profiles_dir)[0]


def _folders(profiles_dir: Path | None) -> list[Path]:
    # Not pathlib, which raises RuntimeError when there is no home.
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    given = [] if profiles_dir is None else [profiles_dir.absolute()]
    return [*given, Path(config, "mirror", "profiles"), SYSTEM_FOLDER, LOCAL_FOLDER]


def _profiles_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.toml") if _is_file(path))


def _is_file(path: Path) -> bool:
    # Path.is_file raises where the folder may not be entered, or the name is too long.
    return os.path.isfile(path)  # noqa: PTH113


# -- loading ---------------------------------------------------------------------------------------


def load_profile(
    path: Path,
    *,
    transfers: int | None = None,
    min_free_bytes: int | None = None,
    limits: Limits | None = None,
    zone: tzinfo | None = None,
) -> Profile:
    """The profile in a file; what is given here stands above what the file says.

    `zone` is that of times without one, by default the machine's. A relative path in `./profiles`
    means that it was looked up there (`find_profile`), and that it may not run commands.

    Raises:
        ProfileError: with every problem of the file, each with its line and key.
    """
    text, status = _read(path)
    raw = _parsed(text, path)
    trust = trust_of(status, found_here=path.parent == LOCAL_FOLDER)
    checked = _checked(raw, text, path, trust, zone)
    return _profile(checked, path, transfers, min_free_bytes, limits or Limits())


def drafted(raw: Raw, path: Path) -> Profile:
    """What a profile would be that is still to be written to `path`, readable by its owner alone.

    Raises:
        ProfileError: as `load_profile`.
    """
    trust = Trust(private=True, may_run_commands=True, why_no_commands="")
    return _profile(
        _checked(raw, tomli_w.dumps(raw), path, trust, None), path, None, None, Limits()
    )


def _checked(raw: Raw, text: str, path: Path, trust: Trust, zone: tzinfo | None) -> ProfileTable:
    checked, wrong = validated(raw, zone)
    problems = placed([*wrong, *faults(raw, trust)], positions(text), path)
    if problems or checked is None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ProfileError(f"{path} has {count}", problems)
    return checked


def _read(path: Path) -> tuple[str, os.stat_result]:
    """The text and what the file is, both of the same open file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read(), os.fstat(file.fileno())
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is not UTF-8", hint="TOML is always UTF-8") from error


def _parsed(text: str, path: Path) -> Raw:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The parser tells the place only inside its message.
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = (place and place[1]) or str(text.count("\n") + 1)
        what = str(error)[: place.start()] if place else str(error)
        raise _syntax(path, line, what) from error
    except RecursionError as error:
        raise _syntax(path, "1", "is nested too deeply") from error


def _syntax(path: Path, line: str, what: str) -> ProfileError:
    return ProfileError(f"{path} is not TOML", [Problem(f"{path}:{line}", "", what)])


# -- from tables to values -------------------------------------------------------------------------


def _profile(
    table: ProfileTable,
    path: Path,
    transfers: int | None,
    min_free_bytes: int | None,
    limits: Limits,
) -> Profile:
    min_free = None if min_free_bytes is None else ByteSize(min_free_bytes)
    above = MirrorKeys.model_construct(transfers=transfers, min_free=min_free)
    only = next(iter(table.accounts))  # where a mirror may leave its account out, there is one
    return Profile(
        name=path.stem,
        path=path.absolute(),
        accounts={
            name: Account(
                name=name, server=account.server or table.server or "", api_key=account.api_key
            )
            for name, account in table.accounts.items()
        },
        mirrors=tuple(
            _mirror(name, only, mirror.destinations, (above, mirror, table.defaults))
            for name, mirror in table.mirrors.items()
        ),
        limits=_limits(table, limits),
        metrics=Path(table.metrics) if table.metrics else None,
        ping=table.ping,
    )


def _limits(table: ProfileTable, above: Limits) -> Limits:
    most_bytes, longest_s = above.max_transfer_bytes, above.max_duration_s
    return Limits(
        bandwidth=above.bandwidth or table.bandwidth,
        max_transfer_bytes=table.max_transfer if most_bytes is None else most_bytes,
        max_duration_s=table.max_duration if longest_s is None else longest_s,
    )


def _mirror(
    name: str,
    only_account: str,
    destinations: tuple[DestinationTable, ...],
    layers: tuple[MirrorKeys, ...],
) -> Mirror:
    given = _layered(MirrorKeys, layers)
    own = {key: given[key] for key in _MIRROR_KEYS & given.keys()}
    selected = _filter(given.get("filter", FilterTable()))
    above, *below = layers
    return Mirror(
        **own
        | {
            "name": name,
            "account": given.get("account", only_account),
            "filter": selected,
            "exclude": tuple(_exclusion(table, selected) for table in given.get("exclude", ())),
            "destinations": tuple(_destination(t, (above, t, *below)) for t in destinations),
        }
    )


_MIRROR_KEYS: Final = {field.name for field in fields(Mirror)}


def _destination(table: DestinationTable, layers: tuple[DestinationKeys, ...]) -> Destination:
    given = _layered(DestinationKeys, layers)
    if "min_free" in given:
        given["min_free_bytes"] = int(given.pop("min_free"))
    limits = {
        key: Limit(**value.model_dump(exclude_none=True))
        for key, value in given.items()
        if isinstance(value, LimitTable)
    }
    return Destination(
        path=table.path or table.url or "",
        endpoint=table.endpoint,
        region=table.region,
        access_key=table.access_key,
        secret_key=table.secret_key,
        key_file=table.key_file,
        password=table.password,
        known_hosts=table.known_hosts,
        **given | limits,
    )


def _exclusion(table: FilterTable, selected: Filter) -> Filter:
    """An exclusion looks where the mirror looks, unless it says otherwise.

    With the defaults of a filter it would miss archived and other people's assets, which the
    mirror would then go on writing.
    """
    return _filter(table, visibility=selected.visibility, owners=selected.owners)


def _filter(table: FilterTable, **default: tuple[Visibility, ...] | Owners) -> Filter:
    given: dict[str, Any] = default | _layered(FilterTable, (table,))
    for alias, key in ALIASES.items():
        if alias in given:
            given[key] = given.pop(alias)
    if table.visibility is not None:
        given["visibility"] = tuple(Visibility(value) for value in table.visibility)
    return Filter(**given)


def _layered(keys: type[BaseModel], layers: Iterable[BaseModel]) -> dict[str, Any]:
    """Each key's value from the first table that gives it."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key in keys.model_fields:
            value = getattr(layer, key, None)
            if value is not None:
                found.setdefault(key, value)
    return found


# -- showing ---------------------------------------------------------------------------------------


def show_profile(profile: Profile) -> str:
    """The profile as TOML with every default filled in and every secret masked.

    Loading it gives the same values, but for literal keys and the arguments of commands.
    """
    accounts = {
        name: {"server": account.server, "api_key": masked(account.api_key)}
        for name, account in profile.accounts.items()
    }
    mirrors = {mirror.name: as_toml(mirror) for mirror in profile.mirrors}
    for mirror in mirrors.values():
        del mirror["name"]  # the table's own
    limits = limits_as_toml(profile.limits)
    top = {**_watchers(profile), **limits, "accounts": accounts, "mirrors": mirrors}
    return tomli_w.dumps(top)


def _watchers(profile: Profile) -> dict[str, object]:
    told: dict[str, object] = {}
    if profile.metrics is not None:
        told["metrics"] = str(profile.metrics)
    if profile.ping is not None:
        told["ping"] = masked(profile.ping, mask=f"https://{MASK}")
    return told
