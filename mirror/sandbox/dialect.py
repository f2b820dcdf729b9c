"""How one release of the server differs from another, as far as a mirror can tell.

Proven against recordings of 2.7.5 and 3.1.0; a release between or beyond them is given the nearest
known behaviour.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from mirror.errors import UsageError


@dataclass(frozen=True)
class Dialect:
    """One release of Immich."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @cached_property
    def modern(self) -> bool:
        """Zod validation, lean errors, all visibilities by default: everything new in 3.0."""
        return self.major >= 3  # noqa: PLR2004 (the release)

    @cached_property
    def ties_by_id(self) -> bool:
        """Equal fileCreatedAt are ordered by id (3.1.0, search.repository.ts)."""
        return (self.major, self.minor) >= (3, 1)


def parse(version: str) -> Dialect:
    """The dialect of a version such as "3.1.0".

    Raises:
        UsageError: it is not three numbers.
    """
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        raise UsageError(
            f"{version!r} is no version of Immich",
            hint="give three numbers; 3.1.0 and 2.7.5 are proven against real servers",
        )
    major, minor, patch = (int(part) for part in found.groups())
    return Dialect(major, minor, patch)
