"""Which profiles and mirrors a command is about; the only way to them needs pydantic."""

from collections.abc import Sequence
from pathlib import Path

from mirror.errors import UsageError
from mirror.profile import Chosen
from mirror.profile.checks import near
from mirror.profile.loading import all_profiles, find_profile, load_profile
from mirror.settings import GlobalSettings


def chosen(name: str, mirrors: Sequence[str], settings: GlobalSettings) -> Chosen:
    """A profile by name and the mirrors named; all of them when none is.

    Raises:
        ProfileError: it is not there, or not right.
        UsageError: it has no such mirror.
    """
    return of_file(find_profile(name, profiles_dir=settings.profiles), mirrors, settings)


def every(settings: GlobalSettings) -> list[Path]:
    """The files of all profiles.

    Raises:
        UsageError: there is none.
    """
    paths = all_profiles(profiles_dir=settings.profiles)
    if not paths:
        raise UsageError("there is no profile", hint="see `mirror sync --help` for where they lie")
    return paths


def of_file(path: Path, mirrors: Sequence[str], settings: GlobalSettings) -> Chosen:
    """A profile by its file; otherwise as `chosen`."""
    profile = load_profile(
        path,
        transfers=settings.transfers,
        min_free_bytes=settings.min_free,
        limits=settings.limits,
    )
    known = {mirror.name: mirror for mirror in profile.mirrors}
    for name in mirrors:
        if name not in known:
            raise UsageError(
                f"profile {profile.name!r} has no mirror {name!r}",
                hint=near(name, known) or f"it has {', '.join(known)}",
            )
    wanted = [known[name] for name in dict.fromkeys(mirrors)] or list(known.values())
    return Chosen(profile, tuple(wanted))
