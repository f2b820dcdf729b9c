"""Sizes for people."""

from typing import Final

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def size(size_bytes: float) -> str:
    """A size for people, in powers of 1000."""
    for unit in _UNITS[:-1]:
        if size_bytes < 1000:  # noqa: PLR2004 (the power)
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} {_UNITS[-1]}"
