"""What a profile needs of the machine, as a drop-in for its systemd unit.

Source: systemd.exec(5), systemd.unit(5) and systemd.syntax(7) of systemd 252.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from mirror.core.secret import CommandSecret, CredentialSecret, FileSecret, Secret
from mirror.errors import ProfileError
from mirror.profile import Profile

# What ProtectHome= hides; a bind mount brings a part of it back.
_HOMES = ("/home", "/root", "/run/user")
_INSTANCE = re.compile(r"[A-Za-z0-9:_.-]+")
CREDENTIALS = PurePosixPath("/etc/mirror/credentials")


def drop_in(profile: Profile) -> str:
    """The drop-in's text, without a line for what is not needed.

    Raises:
        ProfileError: no unit can be called like the profile.
    """
    if not _INSTANCE.fullmatch(profile.name):
        raise ProfileError(
            f"no unit can be called mirror@{profile.name}.service",
            hint="name the profile with letters, digits, '-', '_', '.' and ':' alone",
        )
    lines = [
        f"# /etc/systemd/system/mirror@{profile.name}.service.d/profile.conf",
        f"# Made by `mirror profile unit {profile.name}`: make it again when the profile changes.",
        "[Unit]",
        *_each("RequiresMountsFor", _destinations(profile)),
        "",
        "[Service]",
        *_service(profile),
    ]
    return "\n".join(lines) + "\n"


def _service(profile: Profile) -> Iterator[str]:
    written = list(dict.fromkeys([*_destinations(profile), *_metrics_folder(profile)]))
    files = _key_files(profile)
    if any(map(_is_home, [*written, *files])):
        yield "ProtectHome=tmpfs"
    # "-": where the disk is not mounted, the program says so better than the service manager.
    yield from _each("ReadWritePaths", written, "-")
    yield from _each("BindPaths", filter(_is_home, written), "-")
    yield from _each("BindReadOnlyPaths", filter(_is_home, files), "-")
    for credential in _credentials(profile):
        yield f"LoadCredential={_quoted(f'{credential}:{CREDENTIALS / credential}')}"
    for account in profile.accounts.values():
        if isinstance(account.api_key, CommandSecret):
            yield f"# The key of account {account.name} comes from a command: can the unit run it?"
    if isinstance(profile.ping, CommandSecret):
        yield "# The address of the ping comes from a command: can the unit run it?"


def _destinations(profile: Profile) -> list[str]:
    every = (destination for mirror in profile.mirrors for destination in mirror.destinations)
    paths = (destination.path for destination in every if not destination.is_remote)
    return list(dict.fromkeys(paths))


def _metrics_folder(profile: Profile) -> list[str]:
    return [str(profile.metrics.parent)] if profile.metrics else []  # a file is renamed there


def _secrets(profile: Profile) -> list[Secret]:
    keys = [account.api_key for account in profile.accounts.values()]
    for mirror in profile.mirrors:
        for destination in mirror.destinations:
            own = (destination.access_key, destination.secret_key, destination.password)
            keys += [key for key in own if key]
    return [*keys, profile.ping] if profile.ping else keys


def _key_files(profile: Profile) -> list[str]:
    files = [key.path for key in _secrets(profile) if isinstance(key, FileSecret)]
    for mirror in profile.mirrors:
        for destination in mirror.destinations:
            files += [file for file in (destination.key_file, destination.known_hosts) if file]
    return list(dict.fromkeys(files))


def _credentials(profile: Profile) -> list[str]:
    return list(
        dict.fromkeys(key.name for key in _secrets(profile) if isinstance(key, CredentialSecret))
    )


def _is_home(path: str) -> bool:
    return any(path == home or path.startswith(f"{home}/") for home in _HOMES)


def _each(key: str, paths: Iterable[str], prefix: str = "") -> Iterator[str]:
    return (f"{key}={_quoted(prefix + path)}" for path in paths)


def _quoted(text: str) -> str:
    """One word of a setting: quoted where need be, specifiers and escapes undone."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = escaped.replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"' if any(char in text for char in " \t\n\"'\\;#") else escaped
