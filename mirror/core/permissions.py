"""What an API key may do, against what a profile needs of it.

Source: the enum `Permission` of Immich 2.7.5 to 3.1.0: `<thing>.<deed>`, and `all` by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mirror.core.filter import is_id
from mirror.core.model import Choice, Mirror

ALL: Final = "all"
ALWAYS: Final = frozenset({"asset.read", "asset.download"})
USEFUL: Final = frozenset({"user.read"})  # tells whose key it is, also of an empty account
# Whatever else a permission is called, it may change something: new ones are named after deeds.
_HARMLESS_DEEDS: Final = frozenset(
    {
        *("about", "apkLinks", "download", "get", "list", "read", "search", "statistics"),
        *("storage", "stream", "versionCheck", "view"),
    }
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A key's permissions, sorted by what a profile makes of them; each sorted by name."""

    granted: tuple[str, ...]
    lacking: tuple[str, ...]
    beyond: tuple[str, ...]  # what is not needed
    changing: tuple[str, ...]  # of these, what can change something on the server


def needed(mirrors: Iterable[Mirror]) -> frozenset[str]:
    """What the key of these mirrors must be allowed; ids need no looking up."""
    looked_up = {
        permission
        for mirror in mirrors
        for filter_ in (mirror.filter, *mirror.exclude)
        for choice, permission in (
            (filter_.people, "person.read"),
            (filter_.albums, "album.read"),
            (filter_.tags, "tag.read"),
        )
        if _has_names(choice)
    }
    return ALWAYS | looked_up


def judged(granted: Iterable[str], needs: frozenset[str]) -> Judged:
    """Which are missing, and which are too many."""
    has = frozenset(granted)
    beyond = has - needs - USEFUL
    return Judged(
        granted=tuple(sorted(has)),
        lacking=() if ALL in has else tuple(sorted(needs - has)),
        beyond=tuple(sorted(beyond)),
        changing=tuple(sorted(permission for permission in beyond if _changes(permission))),
    )


def _changes(permission: str) -> bool:
    return permission.rpartition(".")[2] not in _HARMLESS_DEEDS


def _has_names(choice: Choice | None) -> bool:
    return choice is not None and not all(is_id(value) for value in choice.values)
