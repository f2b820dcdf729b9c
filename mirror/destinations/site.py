"""Where a folder is, or is to be."""

from pathlib import Path

from mirror.destinations import INDEX, MARKER, STATE, unwritable
from mirror.destinations.folder import Folder
from mirror.errors import NotMountedError, NotOursError


class FolderSite:
    """A path of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)
        self.index_path = root / STATE / INDEX

    def check(self, *, require_mount: bool | str) -> None:
        """Refuse a place where a destination must not be, before anything is made there.

        Raises:
            NotMountedError: the mount that the profile requires is not there.
            NotOursError: it is Immich's own, or inside another destination.
        """
        self._check_mount(required=require_mount)
        if (self.root / ".immich").exists():
            raise NotOursError(
                f"{self.root}: this folder belongs to Immich itself",
                why="it holds a file named .immich",
                hint="choose a folder outside Immich's own storage",
            )
        for parent in self.root.parents:
            if (parent / STATE / MARKER).exists():
                raise NotOursError(
                    f"{self.root}: lies inside another destination",
                    why=f"{parent / STATE / MARKER} exists",
                    hint=(
                        "choose a folder beside it;"
                        f" if nothing is mirrored there any more, remove {parent / STATE}"
                    ),
                )

    def open(self) -> Folder | None:
        """The folder; None when it is not there.

        Raises:
            UnwritableError: it is no folder, or cannot be opened.
        """
        return Folder(self.root) if self.root.exists() else None

    def make(self) -> Folder:
        """The folder, made if need be.

        Raises:
            NoSpaceError, UnwritableError: it cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error
        return Folder(self.root)

    def _check_mount(self, *, required: bool | str) -> None:
        if required is False:
            return
        places = [self.root, *self.root.parents][:-1] if required is True else [Path(required)]
        if any(place.is_mount() for place in places):
            return
        what = "a mount above it" if required is True else f"a mount at {required}"
        raise NotMountedError(
            f"{self.root}: the profile requires {what}, and there is none",
            hint="mount the disk and run again",
        )
