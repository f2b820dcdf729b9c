"""Where a key comes from: a profile names the source, and what is read there is kept nowhere."""

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class CredentialSecret:
    """A file in `$CREDENTIALS_DIRECTORY`, as systemd's LoadCredential= makes it."""

    name: str


@dataclass(frozen=True, slots=True)
class FileSecret:
    """A file that holds the key and nothing else."""

    path: str  # absolute


@dataclass(frozen=True, slots=True)
class EnvSecret:
    """An environment variable."""

    name: str


@dataclass(frozen=True, slots=True)
class CommandSecret:
    """A program that prints the key; started without a shell."""

    argv: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LiteralSecret:
    """The key itself, written in the profile."""

    key: str = field(repr=False)


Secret: TypeAlias = CredentialSecret | FileSecret | EnvSecret | CommandSecret | LiteralSecret
