"""Whose destination this is: the marker inside it, and what we remember of it outside.

The marker binds a destination to a user id and a mirror. A path that was used before must carry the
marker it had then: an empty mount point would otherwise look like a first run.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from mirror.core.names import NAME_RULES_VERSION
from mirror.destinations import MARKER, STATE, Abilities, OpenDestination
from mirror.errors import NotMountedError, NotOursError, UnwritableError
from mirror.whole import replace_file

# Of each kind: what may have happened, what to do then, and what else it may be.
_IN_DOUBT: Final = {
    "": ("is the disk mounted?", "mount the disk", "disk"),
    "sftp": (
        "is it the same folder, and the server's disk mounted?",
        "mount the disk there, or correct the url",
        "folder",
    ),
    "s3": ("is it the same bucket, of the same store?", "check url and endpoint", "bucket"),
}
COPY: Final = "copy"  # the marker's mirror where `mirror copy` keeps the folder


@dataclass(frozen=True, slots=True)
class Marker:
    """Who a destination belongs to."""

    id: str
    user_id: str  # empty while the account owns nothing, and its id cannot be learnt
    mirror: str  # "profile/mirror", or `copy`
    version: int = 1
    name_rules: int = 1  # under which the tree got its names, should the index be lost
    abilities: Abilities | None = None  # None: not tried yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who asks for the destination, and which doubts the user has answered."""

    user_id: str
    mirror: str
    rebind: bool = False
    new_destination: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """The marker that holds from now on, and how it came to be."""

    marker: Marker
    is_new: bool = False
    is_taken_over: bool = False  # its marker was not known at this path
    was_elsewhere: bool = False  # but at another one: the disk moved


class Known:
    """The destinations seen so far: their path and the id of their marker."""

    def __init__(self, state_directory: Path) -> None:
        self.folder = state_directory
        self._file = state_directory / "destinations.json"

    def id_of(self, path: str) -> str | None:
        """The marker's id at a path when it was last used."""
        return self._read().get(path)

    def is_known(self, marker_id: str) -> bool:
        """Whether a marker was ever seen, at whatever path."""
        return marker_id in self._read().values()

    def remember(self, path: str, marker_id: str) -> None:
        """Keep a path and its marker's id.

        Raises:
            UnwritableError: the state directory cannot be written.
        """
        if self.id_of(path) == marker_id:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._exclusively():
                known = {**self._read(), path: marker_id}
                replace_file(self._file, json.dumps(known, indent=1, sort_keys=True).encode())
        except OSError as error:
            raise UnwritableError(
                f"{self._file}: cannot remember the destination",
                why=error.strerror or str(error),
                hint="set STATE_DIRECTORY or XDG_STATE_HOME to a folder this user may write",
            ) from error

    def _read(self) -> dict[str, str]:
        try:
            known = dict(json.loads(self._file.read_text()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            raise UnwritableError(
                f"{self._file}: cannot be read",
                why=str(error),
                hint="mend it; or remove it, after making sure that every disk is mounted",
            ) from error
        return {str(path): str(marker_id) for path, marker_id in known.items()}

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        descriptor = os.open(self._file.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def check_seen(name: str, known: Known | None, *, marked: bool, new_destination: bool) -> None:
    """Refuse a destination without a marker that had one; `new_destination` allows it.

    Raises:
        NotMountedError: an earlier run left a marker there.
    """
    seen_before = known is not None and known.id_of(name) is not None
    if seen_before and not new_destination and not marked:
        raise _not_mounted(name, "there is no marker")


def _not_mounted(name: str, why: str) -> NotMountedError:
    kind = name.partition("://")[0] if "://" in name else ""
    question, mend, new = _IN_DOUBT[kind]
    return NotMountedError(
        f"{name}: this destination has lost its marker; {question}",
        why=f"{why}, and an earlier run left a marker there",
        hint=f"{mend} and run again; if it is a new {new}, pass --new-destination once",
    )


def read_marker(folder: OpenDestination) -> Marker | None:
    """The marker of a destination; None when it has none.

    Raises:
        NotOursError: there is one that cannot be understood.
    """
    content = folder.read_state(MARKER)
    if content is None:
        return None
    try:
        return parse_marker(content)
    except ValueError as error:
        raise NotOursError(
            f"{folder.where(f'{STATE}/{MARKER}')}: cannot be understood",
            why=str(error),
            hint="restore it from a backup; or move it away and pass --new-destination once",
        ) from error


def parse_marker(content: bytes) -> Marker:
    """What a marker says.

    Raises:
        ValueError: it says nothing of the kind.
    """
    try:
        told = json.loads(content)
        return Marker(
            told["id"],
            told["user_id"],
            told["mirror"],
            told["version"],
            told.get("name_rules", 1),
            _abilities(told.get("abilities")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def is_marker(content: bytes) -> bool:
    """Whether it is one."""
    try:
        parse_marker(content)
    except ValueError:
        return False
    return True


def _abilities(told: object) -> Abilities | None:
    """What was tried; None where it was not, or by another version that tried something else."""
    try:
        return Abilities(**told) if isinstance(told, dict) else None
    except TypeError:
        return None


def claim(folder: OpenDestination, known: Known | None, owner: Owner) -> Claimed:
    """Who the destination belongs to, if it may be ours; writes nothing.

    `known` is None for `copy`, which leaves nothing outside its folder.

    Raises:
        NotMountedError: a path used before carries another marker.
        NotOursError: it belongs to another user or mirror.
    """
    marker = read_marker(folder)
    remembered = known.id_of(folder.name) if known else None
    if marker is None:
        new = Marker(
            _new_id(folder, owner), owner.user_id, owner.mirror, name_rules=NAME_RULES_VERSION
        )
        return Claimed(new, is_new=True)
    if remembered not in {None, marker.id} and not owner.new_destination:
        raise _not_mounted(folder.name, "another destination's marker lies there")
    is_taken_over = known is not None and remembered != marker.id
    return Claimed(
        _bound(folder, marker, owner),
        is_taken_over=is_taken_over,
        was_elsewhere=is_taken_over and known is not None and known.is_known(marker.id),
    )


def _new_id(folder: OpenDestination, owner: Owner) -> str:
    """Shards may all come first: whichever of them writes the marker last, it is the same one."""
    if folder.shard is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{folder.name}#{owner.mirror}"))


def _bound(folder: OpenDestination, marker: Marker, owner: Owner) -> Marker:
    wanted = replace(marker, user_id=owner.user_id or marker.user_id, mirror=owner.mirror)
    if owner.rebind or wanted == marker:
        return wanted
    if marker.mirror == owner.mirror and not marker.user_id:
        return wanted
    if marker.user_id != wanted.user_id:
        raise NotOursError(
            f"{folder.name}: belongs to another user",
            why=f"its marker names user {marker.user_id}, this account is {owner.user_id}",
            hint="check the key; to give the folder to this user, pass --rebind once",
        )
    raise NotOursError(
        f"{folder.name}: belongs to another mirror",
        why=f"its marker names {marker.mirror!r}, this is {owner.mirror!r}",
        hint="choose another folder; if the mirror was only renamed, pass --rebind once",
    )


def probed(folder: OpenDestination, claimed: Claimed) -> Claimed:
    """With what the destination can do, which is tried once, and again where it is taken over."""
    if claimed.marker.abilities is not None and not claimed.is_taken_over:
        return claimed
    try:
        abilities = folder.probe()
    except OSError:
        return claimed  # full, perhaps: the run will say so, and another one try again
    return replace(claimed, marker=replace(claimed.marker, abilities=abilities))


def write_marker(folder: OpenDestination, known: Known | None, claimed: Claimed) -> None:
    """Make the claim true: the marker inside first, then the memory outside.

    Raises:
        UnwritableError: either cannot be written.
    """
    if read_marker(folder) != claimed.marker:
        content = json.dumps(asdict(claimed.marker), indent=1) + "\n"
        folder.write_state(MARKER, [content.encode()])
        folder.make_durable()  # where no folder can be synced: else it would seem unmounted one day
    if known is not None:
        known.remember(folder.name, claimed.marker.id)
