"""Which profiles and mirrors a command is about; the only way to them needs pydantic."""

from collections.abc import Sequence
from pathlib import Path

from mirror.core.layout import compile_layout
from mirror.core.model import Mirror
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


def check_can_be_split(choices: Sequence[Chosen]) -> None:
    """Refuse mirrors that no shards can share.

    Raises:
        UsageError: a destination is a folder of this machine, or a path depends on other assets.
    """
    for choice in choices:
        for mirror in choice.mirrors:
            _check_can_be_split(mirror)


def _check_can_be_split(mirror: Mirror) -> None:
    folders = [each.path for each in mirror.destinations if not each.is_remote]
    if folders:
        raise UsageError(
            f"mirror {mirror.name!r} cannot be split into shards: {folders[0]} is a folder",
            why="shards share nothing but a remote destination, which several machines reach",
            hint="run it without --shard; or give the remote destinations a mirror of their own",
        )
    if compile_layout(mirror.layout, mirror.names).fields.isdisjoint({"id", "id8"}):
        raise UsageError(
            f"mirror {mirror.name!r} cannot be split into shards: its layout has no {{id8}}",
            why=f"with {mirror.layout!r} two photos may want one path, and be of different shards",
            hint='add one to the layout, as "{taken:%Y/%m}/{stem}-{id8}"',
        )
