"""What people do in the folder, and what is theirs there."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tests.machine.model import fold


@dataclass(frozen=True)
class Seen:
    """What lies at a path: the SHA-1 of a file, or where a link leads."""

    sha1: bytes
    mtime_ns: int
    link: str = ""


@dataclass
class Theirs:
    """A file that somebody put into the tree, or changed there."""

    seen: Seen
    # It lies where a file of the mirror's own lay: it may have to go to quarantine for that one.
    in_the_place_of_ours: bool = False
    # It holds what an asset of this name holds: it may have been adopted.
    perhaps_adopted: bool = False

    @property
    def must_stay(self) -> bool:
        """Whether no run may touch it."""
        return not self.in_the_place_of_ours and not self.perhaps_adopted


def look(path: Path) -> Seen | None:
    """What lies there; None for a folder or nothing."""
    if path.is_symlink():
        return Seen(b"", path.lstat().st_mtime_ns, str(path.readlink()))
    if not path.is_file():
        return None
    return Seen(sha1(path.read_bytes()), path.stat().st_mtime_ns)


def sha1(data: bytes) -> bytes:
    """Of bytes at hand."""
    return hashlib.sha1(data, usedforsecurity=False).digest()


def observe(root: Path, inside: str = "") -> dict[str, Seen]:
    """Every file and link under the root but the mirror's own, or under one of its folders."""
    found: dict[str, Seen] = {}
    top = root / inside
    for folder, folders, names in os.walk(top):
        if not inside and Path(folder) == root and ".mirror" in folders:
            folders.remove(".mirror")
        for name in names:
            path = Path(folder, name)
            seen = look(path)
            if seen is not None:
                found[str(path.relative_to(top))] = seen
    return found


class Hands:
    """Everything that is done by hand in one tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.theirs: dict[str, Theirs] = {}
        self.placed: set[tuple[str, bytes]] = set()  # key and SHA-1 of what the mirror had there
        self.disturbed: set[bytes] = set()  # SHA-1 of what was ours and was touched
        self.numbers = 0

    def files(self) -> list[str]:
        """What may be touched: no links."""
        return sorted(path for path, seen in observe(self.root).items() if not seen.link)

    def lose(self, path: str) -> None:
        """Delete it."""
        self._let_go(path)
        (self.root / path).unlink()

    def write(self, path: str, data: bytes) -> bool:
        """Make or change a file; whether there is room for one."""
        target = self.root / path
        if target.is_dir() or target.is_symlink() or self._is_blocked(target):
            return False
        was_ours = self._let_go(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self._take(path, in_the_place_of_ours=was_ours)
        return True

    def touch(self, path: str) -> None:
        """Another time; the bytes stay."""
        self.numbers += 1
        os.utime(self.root / path, ns=(10**18 + self.numbers, 10**18 + self.numbers))
        if path in self.theirs:
            self._take(path, in_the_place_of_ours=self.theirs[path].in_the_place_of_ours)

    def move(self, path: str) -> None:
        """Give it another name in its folder."""
        self.numbers += 1
        target = self.root / path
        moved = target.with_name(f"moved {self.numbers} {target.name}")
        self._let_go(path)
        target.rename(moved)
        self._take(str(moved.relative_to(self.root)))

    def make_folder(self, path: str) -> None:
        """An empty one."""
        target = self.root / path
        if not os.path.lexists(target) and not self._is_blocked(target):
            target.mkdir(parents=True)

    def link(self, path: str) -> None:
        """A link that leads nowhere."""
        target = self.root / path
        if not os.path.lexists(target) and not self._is_blocked(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to("nowhere")
            self._take(path)

    def disown_everything(self) -> None:
        """The index is lost: nothing in the tree is known to be the mirror's any more."""
        for path in observe(self.root):
            if path not in self.theirs:
                self._take(path)
        self.placed.clear()

    def note_placed(self, found: dict[str, Seen]) -> None:
        """What lies in the tree and is nobody else's was put there by the mirror."""
        self.placed |= {
            (fold(path), seen.sha1) for path, seen in found.items() if path not in self.theirs
        }

    def _take(self, path: str, *, in_the_place_of_ours: bool = False) -> None:
        seen = look(self.root / path)
        assert seen is not None
        is_at = in_the_place_of_ours or any(key == fold(path) for key, _ in self.placed)
        self.theirs[path] = Theirs(seen, in_the_place_of_ours=is_at)

    def _let_go(self, path: str) -> bool:
        """Whether what lies there was the mirror's, or lay in such a place."""
        seen = look(self.root / path)
        if seen is None:
            return False
        self.disturbed.add(seen.sha1)
        theirs = self.theirs.pop(path, None)
        return theirs is None or theirs.in_the_place_of_ours

    def _is_blocked(self, target: Path) -> bool:
        """A file or link lies where a folder is needed; through a link nothing is written."""
        above = [path for path in target.parents if path != self.root and self.root in path.parents]
        return any(os.path.lexists(path) and not path.is_dir() for path in above)
