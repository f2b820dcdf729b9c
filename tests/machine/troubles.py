"""Everything that the sample server can do wrong, by name, so that troubles can be combined."""

from collections.abc import Callable
from typing import Final

from mirror.sandbox import Sandbox
from mirror.sandbox.faults import (
    Answered,
    Corrupted,
    Effect,
    Happens,
    Reset,
    Stalled,
    Truncated,
    bad_gateway,
    json_as_image,
    redirected,
)

PLACES: Final = {"any": None, "searches": "/api/search/*", "originals": "/api/assets/*/original"}
KEY: Final = "minimum"


def _html() -> Answered:
    return Answered(200, b"<html>please log in</html>", {"Content-Type": "text/html"})


def _busy() -> Answered:
    return Answered(429, b"{}", {"Retry-After": "7", "Content-Type": "application/json"})


# What goes wrong with single answers: the place is drawn beside it.
EFFECTS: Final[dict[str, Callable[[], Effect]]] = {
    "reset": Reset,
    "stall": Stalled,
    "stall inside": lambda: Stalled(after_bytes=5),
    "truncate": lambda: Truncated(7),
    "corrupt": lambda: Corrupted(3),
    "429": _busy,
    "500": lambda: Answered(500),
    "502": bad_gateway,
    "503": lambda: Answered(503),
    "404": lambda: Answered(404, b'{"message":"Not Found"}', {"Content-Type": "application/json"}),
    "html": _html,
    "json as image": json_as_image,
    "redirect": lambda: redirected("http://other.invalid/"),
}
# After which an original may be remembered as damaged at its source.
DAMAGING: Final = frozenset({"corrupt"})


def _lose(permission: str) -> Callable[[Sandbox], None]:
    def lose(sandbox: Sandbox) -> None:
        permissions = sandbox.key(KEY).permissions
        permissions[:] = [kept for kept in permissions if kept != permission]

    return lose


def _revoke(sandbox: Sandbox) -> None:
    sandbox.key(KEY).revoked = True


def _lose_disk(sandbox: Sandbox) -> None:
    sandbox.faults.disk_lost = True


def _close(sandbox: Sandbox) -> None:
    sandbox.faults.begin_maintenance()


def _cut_pages(sandbox: Sandbox) -> None:
    sandbox.faults.short_pages = 1


def _hide_all(sandbox: Sandbox) -> None:
    sandbox.faults.hidden |= set(sandbox.library.assets)


# What becomes of the whole server, from one request on.
CHANGES: Final[dict[str, Callable[[Sandbox], None]]] = {
    "maintenance": _close,
    "no asset.read": _lose("asset.read"),
    "no asset.download": _lose("asset.download"),
    "revoked": _revoke,
    "disk lost": _lose_disk,
    "short pages": _cut_pages,
    "all hidden": _hide_all,
}

# What becomes of one asset in answers.
ROWS: Final[dict[str, Callable[[Sandbox, str], None]]] = {
    "hidden": lambda sandbox, asset_id: sandbox.faults.hidden.add(asset_id),
    "undatable": lambda sandbox, asset_id: sandbox.faults.undatable.add(asset_id),
    "repeated": lambda sandbox, asset_id: sandbox.faults.repeated.add(asset_id),
    "file lost": lambda sandbox, asset_id: sandbox.faults.lost_files.add(asset_id),
}


def strike(sandbox: Sandbox, name: str, place: str, *, skip: int, times: int | None) -> None:
    """Answers of a place go wrong: after `skip` of them, `times` or all that follow."""
    sandbox.faults.add(EFFECTS[name](), path=PLACES[place], skip=skip, times=times)


def befall(sandbox: Sandbox, name: str, *, skip: int) -> None:
    """The server changes in front of its next request but `skip`."""
    happens = Happens(lambda: CHANGES[name](sandbox))
    sandbox.faults.add(happens, skip=skip, times=1)


def mend(sandbox: Sandbox, permissions: list[str]) -> None:
    """All is well again; what hung goes on."""
    for rule in sandbox.faults.rules:
        if isinstance(rule.effect, Stalled):
            rule.effect.released.set()
    sandbox.faults.clear()
    key = sandbox.key(KEY)
    key.permissions[:], key.revoked = permissions, False
