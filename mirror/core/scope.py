"""What a mirror is about, and was brought in line with: texts that differ whenever that does."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from mirror import __version__
from mirror.core.model import Filter, LivePhotos, Mirror


def scope(
    user_id: str | None, filter_: Filter, exclude: tuple[Filter, ...], live_photos: LivePhotos
) -> str:
    """User, filters and live photos; people, albums and tags are ids, a moving window is a rule.

    The layout is no part of it: a new one only moves files.
    """
    told = {
        "user": user_id,
        "filter": _told(filter_),
        "exclude": sorted((_told(one) for one in exclude), key=json.dumps),
        "live_photos": live_photos.value,
    }
    return json.dumps(told, sort_keys=True)


def standing(scope_: str, mirror: Mirror, name_rules: int, generations: Mapping[str, str]) -> str:
    """All that the files and their names follow from; `generations` tell what the server has.

    Empty where that is not known.
    """
    if not generations:
        return ""
    told = {
        "version": __version__,
        "scope": scope_,
        "layout": mirror.layout,
        "names": mirror.names.value,
        "name_rules": name_rules,
        "generations": dict(generations),
    }
    return json.dumps(told, sort_keys=True)


def generations_in(standing_: str) -> dict[str, str]:
    """What `standing` was told; nothing for a text that it did not make."""
    try:
        told = json.loads(standing_)["generations"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {str(key): str(value) for key, value in dict(told).items()}


def _told(filter_: Filter) -> dict[str, object]:
    """Only what is asked, so that a later version's new keys change nothing."""
    plain = json.loads(json.dumps(asdict(filter_), default=str, sort_keys=True))
    unset = json.loads(json.dumps(asdict(Filter()), default=str, sort_keys=True))
    return {key: value for key, value in plain.items() if value != unset[key]}
