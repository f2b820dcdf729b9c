"""Every route of the API that the sandbox answers."""

from mirror.sandbox import about, changes, listing, naming, single, timeline
from mirror.sandbox.asking import Route

ROUTES: tuple[Route, ...] = (
    *about.ROUTES,
    *listing.ROUTES,
    *timeline.ROUTES,  # /assets/statistics before /assets/{id}
    *single.ROUTES,
    *naming.ROUTES,
    *changes.ROUTES,
)


def resolve(method: str, path: str, *, maintenance: bool) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and the named parts of its path; HEAD goes where GET does."""
    wanted = "GET" if method == "HEAD" else method
    for each in ROUTES:
        found = each.pattern.fullmatch(path) if each.method == wanted else None
        if found and (each.in_maintenance or not maintenance):
            return each, found.groupdict()
    return None
