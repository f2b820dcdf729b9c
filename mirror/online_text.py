"""What a profile's trial found, as text, as tables and as JSON values; prints nothing."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from mirror.core.permissions import Judged
from mirror.errors import MirrorError
from mirror.logs import printable
from mirror.online import AccountCheck, Findings, MirrorCheck, Own
from mirror.premises import Premises
from mirror.sizes import size
from mirror.status_text import ago

if TYPE_CHECKING:
    from rich.table import Table

JSON_VERSION: Final = 1
_NAMES_SHOWN: Final = 4
_MOST_AHEAD_S: Final = 2.0  # the server's clock is told in whole seconds


# -- as lines --------------------------------------------------------------------------------------


def findings_lines(found: Findings, now: datetime) -> Iterator[str]:
    """Accounts, then mirrors with their destinations; what is wrong stands below each."""
    for account in found.accounts:
        yield f"account {account.account.name}: {_server(account)}"
        yield from (f"  {line}" for line in _account_facts(account))
        yield from _troubles(account.problems, account.warnings)
    for mirror in found.mirrors:
        yield f"mirror {mirror.mirror.name} of {mirror.mirror.account}: {_selected(mirror)}"
        yield from _troubles(mirror.problems, mirror.warnings)
        for place in mirror.destinations:
            yield f"  -> {printable(place.status.destination)}"
            yield from (f"     {line}" for line in _place_facts(place, now))
            yield from _troubles(place.problems, (), indent="     ")
    yield from _troubles(found.problems, (), indent="")


def _account_facts(account: AccountCheck) -> Iterator[str]:
    if account.key_name or account.user_name or account.user_id:
        yield f"key: {_key(account)}"
    if account.permissions is not None:
        told = account.permissions
        yield f"permissions: {', '.join(told.granted) or 'none'}"
        if told.beyond:
            yield f"not needed: {', '.join(told.beyond)}"
    if account.ahead_s is not None:
        yield f"clock: {_clock(account.ahead_s)}"
    if account.own is not None:
        yield f"own assets: {own_words(account.own)}"


def _place_facts(place: Premises, now: datetime) -> Iterator[str]:
    if place.to_come is not None:
        yield f"to come: {_to_come(place)}"
    if place.free_bytes is not None:
        mounted = f", mounted at {place.mount}" if place.mount else ""
        yield f"free: {size(place.free_bytes)}{mounted}"
    if place.status.error is None:
        yield f"marker: {_marker(place)}"
    yield f"last success: {_success(place, now)}"


def _troubles(
    problems: Iterable[MirrorError], warnings: Iterable[str], *, indent: str = "  "
) -> Iterator[str]:
    for problem in problems:
        yield from (f"{indent}{printable(line)}" for line in str(problem).splitlines())
    yield from (f"{indent}warning: {printable(warning)}" for warning in warnings)


# -- words -----------------------------------------------------------------------------------------


def _server(account: AccountCheck) -> str:
    url = account.url or account.account.server
    return f"{url}, Immich {account.version}" if account.version else url


def _key(account: AccountCheck) -> str:
    name = f'"{printable(account.key_name)}"' if account.key_name else "a key"
    user = printable(account.user_name) or account.user_id or "somebody"
    return f"{name} of {user}"


def _clock(ahead_s: float) -> str:
    if abs(ahead_s) <= _MOST_AHEAD_S:
        return "the same as the server's"
    return f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the server's"


def own_words(own: Own) -> str:
    """How many there are, and how many no mirror selects."""
    if not own.unselected:
        return f"{own.assets}, all of them in a mirror"
    kinds = [
        f"{count} {kind}"
        for count, kind in (
            (own.of_archive, "archived"),
            (own.of_live_photos, "videos of live photos"),
        )
        if count
    ]
    of_them = f", of them {' and '.join(kinds)}" if kinds else ""
    return f"{own.assets}, {own.unselected} of them in no mirror of this profile{of_them}"


def _selected(mirror: MirrorCheck) -> str:
    if mirror.assets is None or mirror.size_bytes is None:
        return "not known"
    return f"{mirror.assets} assets, about {size(mirror.size_bytes)}"


def _to_come(place: Premises) -> str:
    return f"{place.to_come} (about {size(place.to_come_bytes or 0)})"


def _marker(place: Premises) -> str:
    marker = place.status.marker
    return f"of {marker.mirror}" if marker else "none yet"


def _success(place: Premises, now: datetime) -> str:
    success = place.status.last_success_at
    return ago(success, now) if success else "never"


# -- as tables -------------------------------------------------------------------------------------


def findings_tables(found: Findings, now: datetime) -> Iterator["Table"]:
    """Accounts and destinations at a glance, for a terminal."""
    yield _table(
        ("account", "server", "key of", "permissions", "clock", "own assets"),
        (_account_cells(account) for account in found.accounts),
    )
    yield _table(
        ("mirror", "selects", "destination", "to come", "free", "last success"),
        (
            _place_cells(mirror, place, now)
            for mirror in found.mirrors
            for place in mirror.destinations
        ),
    )


def _table(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> "Table":
    from rich import box  # noqa: PLC0415 (rich costs more than the rest of a start)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _account_cells(account: AccountCheck) -> tuple[str, ...]:
    own = account.own
    return (
        account.account.name,
        f"{account.url or account.account.server}\n{account.version}".strip(),
        printable(account.user_name) or (account.user_id or "")[:8],
        _verdict(account.permissions),
        "" if account.ahead_s is None else f"{account.ahead_s:+.0f} s",
        f"{own.assets}\n{own.unselected} in no mirror" if own else "",
    )


def _verdict(told: Judged | None) -> str:
    if told is None:
        return "not known"
    needed = [each for each in told.granted if each not in told.beyond]
    kinds = (("has", needed), ("lacks", told.lacking), ("not needed:", told.beyond))
    return "\n".join(f"{what} {_some(names)}" for what, names in kinds if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _place_cells(mirror: MirrorCheck, place: Premises, now: datetime) -> tuple[str, ...]:
    known = mirror.assets is not None and mirror.size_bytes is not None
    return (
        mirror.mirror.name,
        f"{mirror.assets}\n{size(mirror.size_bytes or 0)}" if known else "not known",
        f"{printable(place.status.destination)}\n{_disk(place)}",
        f"{place.to_come}\n{size(place.to_come_bytes or 0)}" if place.to_come is not None else "",
        size(place.free_bytes) if place.free_bytes is not None else "",
        _success(place, now),
    )


def _disk(place: Premises) -> str:
    mounted = f"on {place.mount}" if place.mount else ""
    if place.status.error is not None:
        return mounted
    return f"{mounted}, {'marked as its own' if place.status.marker else 'no marker yet'}".lstrip(
        ", "
    )


def below_tables(found: Findings) -> Iterator[str]:
    """What is wrong, each with the name of what it is about."""
    for account in found.accounts:
        yield from _named(f"account {account.account.name}", account.problems, account.warnings)
    for mirror in found.mirrors:
        yield from _named(f"mirror {mirror.mirror.name}", mirror.problems, mirror.warnings)
        for place in mirror.destinations:
            yield from _named(f"mirror {mirror.mirror.name}", place.problems, ())
    yield from _named("all", found.problems, ())


def _named(name: str, problems: Iterable[MirrorError], warnings: Iterable[str]) -> Iterator[str]:
    for problem in problems:
        yield f"{name}: {printable(str(problem).replace(chr(10), '; '))}"
    yield from (f"{name}: warning: {printable(warning)}" for warning in warnings)


# -- as JSON ---------------------------------------------------------------------------------------


def findings_json(found: Findings) -> dict[str, Any]:
    """The same for programs; documented in `mirror/README.md`."""
    return {
        "v": JSON_VERSION,
        "profile": found.profile.name,
        "exit_code": int(found.exit_code),
        "accounts": [_account_json(account) for account in found.accounts],
        "mirrors": [_mirror_json(mirror) for mirror in found.mirrors],
        "problems": _problems_json(found.problems),
    }


def _account_json(account: AccountCheck) -> dict[str, Any]:
    told, own = account.permissions, account.own
    return {
        "name": account.account.name,
        "server": account.url or account.account.server,
        "server_version": account.version or None,
        "user_id": account.user_id,
        "user_name": account.user_name or None,
        "key_name": account.key_name or None,
        "permissions": told
        and {
            "granted": list(told.granted),
            "lacking": list(told.lacking),
            "beyond": list(told.beyond),
            "changing": list(told.changing),
        },
        "clock_ahead_s": None if account.ahead_s is None else round(account.ahead_s, 1),
        "own_assets": own and own.assets,
        "unselected": own
        and {
            "assets": own.unselected,
            "archived": own.of_archive,
            "live_photo_videos": own.of_live_photos,
        },
        "problems": _problems_json(account.problems),
        "warnings": account.warnings,
    }


def _mirror_json(mirror: MirrorCheck) -> dict[str, Any]:
    return {
        "name": mirror.mirror.name,
        "account": mirror.mirror.account,
        "assets": mirror.assets,
        "estimated_bytes": mirror.size_bytes,
        "destinations": [_place_json(place) for place in mirror.destinations],
        "problems": _problems_json(mirror.problems),
        "warnings": mirror.warnings,
    }


def _place_json(place: Premises) -> dict[str, Any]:
    success, marker = place.status.last_success_at, place.status.marker
    return {
        "destination": place.status.destination,
        "to_come": place.to_come,
        "to_come_bytes": place.to_come_bytes,
        "free_bytes": place.free_bytes,
        "mount": place.mount,
        "marker": marker and {"mirror": marker.mirror, "user_id": marker.user_id or None},
        "running": place.status.is_running,
        "last_success_at": success.isoformat(timespec="milliseconds") if success else None,
        "problems": _problems_json(place.problems),
    }


def _problems_json(problems: Iterable[MirrorError]) -> list[dict[str, str]]:
    return [
        {"code": each.code, "message": each.what, "why": each.why, "hint": each.hint}
        for each in problems
    ]
