"""Every API key of every sample server of this session: none may ever be said, or written down."""

import os
from collections.abc import Iterator
from pathlib import Path

# What a run leaves: its own folders, its state, and whatever it was told to write.
_OWN = {".mirror", "state", "log"}
_OWN_ENDINGS = (".log", ".jsonl", ".prom", ".html", ".journal")
_MOST_BYTES = 8 << 20

PLANTED: set[str] = set()


def assert_unsaid(text: str) -> None:
    """No key is in a text that somebody may read."""
    said = [key for key in PLANTED if key in text]
    assert not said, f"a key is told: {said}"


def assert_unwritten(folder: Path) -> None:
    """No key is in a file that the program wrote below a folder."""
    for file in _written(folder):
        data = file.read_bytes()
        told = [key for key in PLANTED if key.encode() in data]
        assert not told, f"{file} holds a key: {told}"


def _written(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        is_own = not _OWN.isdisjoint(Path(place).relative_to(folder).parts)
        for name in names:
            file = Path(place, name)
            if (is_own or name.endswith(_OWN_ENDINGS)) and _is_readable(file):
                yield file


def _is_readable(file: Path) -> bool:
    return (
        file.is_file() and not file.is_symlink() and 0 < file.stat().st_size <= _MOST_BYTES
    ) and os.access(file, os.R_OK)
