"""A file system in memory that can be as poor, and as unlucky, as real ones are.

For tests: what a mirror does on such a disk is found out without one. Other programs use its
methods; `MemoryDestination` is what a mirror uses. Every change is one step, and a fault may meet
any step: an error, a kill, a power cut.
"""

import copy
import errno
import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

_LEAST_NS: Final = 1 - 2**63
_MOST_NS: Final = 2**63 - 1
_NAME_BYTES: Final = 255
_BORN_NS: Final = 1_600_000_000_123_456_789
_LOOKS: Final = frozenset({"scan", "look", "read", "hash", "probe"})


class Killed(BaseException):
    """The process is gone: nothing that it would have done afterwards happens any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a file system knows, and how it holds names and times."""

    folds_case: bool = False
    decomposes: bool = False  # names are kept in NFD, and must be UTF-8, as on HFS+
    refuses: str = ""  # characters that no name may have
    has_hard_links: bool = True
    has_noreplace: bool = True  # one step that renames and never overwrites
    has_folder_sync: bool = True
    has_flock: bool = True
    mtime_step_ns: int = 1
    mtime_range_ns: tuple[int, int] = (_LEAST_NS, _MOST_NS)
    rounds_late: bool = False  # times are exact until it is mounted again

    def held(self, mtime_ns: int) -> int:
        """The time that a file gets which is to have this one."""
        least, most = self.mtime_range_ns
        inside = max(least, min(mtime_ns, most))
        return inside - inside % self.mtime_step_ns


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to a step, once so many others of its kind went well."""

    error: OSError | Killed
    of: frozenset[str] = frozenset()  # kinds of steps; empty: everything that changes something
    skip: int = 0
    times: int | None = 1  # how many it meets; None: all that follow
    met: int = 0

    def meets(self, kind: str) -> bool:
        """Whether it is this step's turn."""
        wanted = kind in self.of if self.of else kind not in _LOOKS
        if not wanted or (self.times is not None and self.met >= self.times):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.met += 1
        return True


@dataclass(slots=True, eq=False)
class File:
    """Bytes and a time; several names may be its own."""

    data: bytes = b""
    mtime_ns: int = 0
    durable: bytes | None = None  # the bytes that a power cut leaves


@dataclass(slots=True, eq=False)
class Link:
    """A symbolic link."""

    target: str


@dataclass(slots=True, eq=False)
class Branch:
    """A folder: by the key under which a name is found, the name as it is kept, and what it is."""

    names: dict[str, tuple[str, "Node"]] = field(default_factory=dict)


Node: TypeAlias = File | Link | Branch


def refusal(number: int, path: str) -> OSError:
    """What an operating system says."""
    return OSError(number, os.strerror(number), path)


class Volume:
    """One file system. Its methods refuse as the operating system does, by OSError."""

    def __init__(self, traits: Traits | None = None, *, room_bytes: int | None = None) -> None:
        """`room_bytes` None: it never gets full."""
        self.traits = traits or Traits()
        self.room_bytes = room_bytes
        self.tells_room = True  # False: a quota, which a look at the free space does not show
        self.faults: list[Fault] = []
        self.steps: Counter[str] = Counter()  # by kind
        self.life = 0  # of the process that uses it; the next number after each kill
        self.holder: int | None = None  # the life that has it locked, where there is flock
        self.turn = threading.RLock()
        self.on_kill: Callable[[], None] = lambda: None
        self._root = Branch()
        self._durable = Branch()
        self._now_ns = _BORN_NS

    # -- misfortune --------------------------------------------------------------------------------

    def step(self, kind: str) -> None:
        """Something of this kind is about to happen.

        Raises:
            OSError, Killed: it does not.
        """
        self.steps[kind] += 1
        for fault in self.faults:
            if fault.meets(kind):
                if isinstance(fault.error, Killed):
                    self.kill()
                raise fault.error

    def kill(self) -> None:
        """Whoever uses it is gone."""
        self.life += 1
        self.holder = None
        self.on_kill()

    def cut_power(self, *, keeps_names: bool = False) -> None:
        """A kill after which there is what was made durable.

        `keeps_names`: every name is there, but the bytes are zeros that were not durable.
        """
        self.kill()
        if not keeps_names:
            self._root = copy.deepcopy(self._durable)
            return
        for _, file in _files(self._root):
            if file.data != file.durable:
                file.data = bytes(len(file.data))

    def mount_again(self) -> None:
        """Times are as exact as they are kept."""
        for _, file in _files(self._root):
            file.mtime_ns = self.traits.held(file.mtime_ns)

    def sync(self) -> None:
        """Everything is durable now."""
        for _, file in _files(self._root):
            file.durable = file.data
        self._durable = copy.deepcopy(self._root)

    def sync_file(self, path: str) -> None:
        """One file is durable now, and its name where folders can be synced."""
        node = self.node(path)
        if not isinstance(node, File):
            raise refusal(errno.EINVAL, path)
        node.durable = node.data
        if self.traits.has_folder_sync:
            here, there = self._root, self._durable
            *folders, name = path.split("/")
            for folder in folders:
                key = self._key(folder)
                kept, below = here.names[key]
                _, copied = there.names.setdefault(key, (kept, Branch()))
                if not isinstance(below, Branch) or not isinstance(copied, Branch):
                    raise refusal(errno.ENOTDIR, path)
                here, there = below, copied
            key = self._key(name)
            there.names[key] = (here.names[key][0], copy.deepcopy(node))

    # -- looking -----------------------------------------------------------------------------------

    def node(self, path: str) -> Node:
        """What lies at a path, no link followed."""
        here: Node = self._root
        for name in path.split("/") if path else ():
            if not isinstance(here, Branch):
                raise refusal(errno.ELOOP if isinstance(here, Link) else errno.ENOTDIR, path)
            found = here.names.get(self._key(name))
            if found is None:
                raise refusal(errno.ENOENT, path)
            here = found[1]
        return here

    def file(self, path: str) -> File:
        """The file at a path."""
        node = self.node(path)
        if isinstance(node, File):
            return node
        raise refusal(errno.EISDIR if isinstance(node, Branch) else errno.ELOOP, path)

    def lies(self, path: str) -> bool:
        """Whether anything does."""
        try:
            self.node(path)
        except OSError:
            return False
        return True

    def names(self, path: str = "") -> list[tuple[str, Node]]:
        """What a folder holds."""
        node = self.node(path)
        if not isinstance(node, Branch):
            raise refusal(errno.ENOTDIR, path)
        return list(node.names.values())

    def files(self) -> dict[str, bytes]:
        """Every file, by its path as it is kept."""
        return {path: file.data for path, file in _files(self._root)}

    def free_bytes(self) -> int:
        """What may still be written, as far as it is told."""
        if self.room_bytes is None or not self.tells_room:
            return _MOST_NS
        return self.room_bytes - self._used_bytes()

    def count_names(self, file: File) -> int:
        """How many names a file has."""
        return sum(other is file for _, other in _files(self._root))

    # -- changing ----------------------------------------------------------------------------------

    def write(self, path: str, data: bytes, mtime_ns: int | None = None) -> None:
        """Put a file somewhere, as another program does, with the folders that it needs."""
        file = self.create(path, make_folders=True)
        file.data = b""
        self.grow(file, data, path)
        if mtime_ns is not None:
            self.date(file, mtime_ns)

    def create(self, path: str, *, make_folders: bool = False) -> File:
        """The file at a path, made if there is none."""
        parent, name = self._parent(path, make=make_folders)
        found = parent.names.get(self._key(name))
        if found is None:
            file = File()
            self.date(file, self._tick())
            self._put(parent, name, file)
            return file
        return self.file(path)

    def grow(self, file: File, data: bytes, path: str) -> None:
        """Append; what does not fit any more is refused, and what did stays."""
        room = len(data) if self.room_bytes is None else self.room_bytes - self._used_bytes()
        file.data += data[: max(0, room)]
        self.date(file, self._tick())
        if room < len(data):
            raise refusal(errno.ENOSPC, path)

    def date(self, file: File, mtime_ns: int) -> None:
        """Give a file its time, as far as that can be held."""
        late = max(_LEAST_NS, min(mtime_ns, _MOST_NS))
        file.mtime_ns = late if self.traits.rounds_late else self.traits.held(mtime_ns)

    def make_folder(self, path: str) -> None:
        """One folder."""
        parent, name = self._parent(path)
        self._refuse_taken(parent, name, path)
        self._put(parent, name, Branch())

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        parent, name = self._parent(path, make=True)
        self._refuse_taken(parent, name, path)
        self._put(parent, name, Link(target))

    def name_twice(self, path: str, other: str) -> None:
        """A hard link."""
        if not self.traits.has_hard_links:
            raise refusal(errno.EPERM, other)
        node = self.node(path)
        parent, name = self._parent(other)
        self._refuse_taken(parent, name, other)
        self._put(parent, name, node)

    def rename(self, source: str, path: str) -> None:
        """Give a file another path, over one that lies there."""
        old, name = self._parent(source)
        node = self.node(source)
        new, to_name = self._parent(path)
        found = new.names.get(self._key(to_name))
        if found is not None and found[1] is not node and isinstance(found[1], Branch):
            raise refusal(errno.EISDIR, path)
        self._check_name(to_name)
        del old.names[self._key(name)]
        self._put(new, to_name, node)

    def remove(self, path: str) -> None:
        """A file, a link, or a folder that is empty."""
        node = self.node(path)
        if isinstance(node, Branch) and node.names:
            raise refusal(errno.ENOTEMPTY, path)
        parent, name = self._parent(path)
        del parent.names[self._key(name)]

    # -- inside ------------------------------------------------------------------------------------

    def _tick(self) -> int:
        self._now_ns += 1_000_000_007
        return self._now_ns

    def _used_bytes(self) -> int:
        return sum(len(data) for data in {id(f): f.data for _, f in _files(self._root)}.values())

    def _key(self, name: str) -> str:
        if self.traits.decomposes:
            name = unicodedata.normalize("NFD", name)
        return name.casefold() if self.traits.folds_case else name

    def _parent(self, path: str, *, make: bool = False) -> tuple[Branch, str]:
        folder, _, name = path.rpartition("/")
        if make and folder and not self.lies(folder):
            parent, below = self._parent(folder, make=True)
            self._put(parent, below, Branch())
        node = self.node(folder)
        if isinstance(node, Branch):
            return node, name
        raise refusal(errno.ELOOP if isinstance(node, Link) else errno.ENOTDIR, path)

    def _refuse_taken(self, parent: Branch, name: str, path: str) -> None:
        if self._key(name) in parent.names:
            raise refusal(errno.EEXIST, path)

    def _put(self, parent: Branch, name: str, node: Node) -> None:
        self._check_name(name)
        if self.traits.decomposes:
            name = unicodedata.normalize("NFD", name)
        parent.names[self._key(name)] = (name, node)

    def _check_name(self, name: str) -> None:
        data = os.fsencode(name)
        if len(data) > _NAME_BYTES:
            raise refusal(errno.ENAMETOOLONG, name)
        if not set(name).isdisjoint(self.traits.refuses):
            raise refusal(errno.EINVAL, name)
        if self.traits.decomposes:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise refusal(errno.EILSEQ, name) from error


def _files(branch: Branch, prefix: str = "") -> Iterator[tuple[str, File]]:
    for name, node in branch.names.values():
        if isinstance(node, Branch):
            yield from _files(node, f"{prefix}{name}/")
        elif isinstance(node, File):
            yield f"{prefix}{name}", node
