"""What a mirror is about, as a text that differs whenever that does."""

import json
from dataclasses import asdict

from mirror.core.model import Filter, LivePhotos


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


def _told(filter_: Filter) -> dict[str, object]:
    """Only what is asked, so that a later version's new keys change nothing."""
    plain = json.loads(json.dumps(asdict(filter_), default=str, sort_keys=True))
    unset = json.loads(json.dumps(asdict(Filter()), default=str, sort_keys=True))
    return {key: value for key, value in plain.items() if value != unset[key]}
