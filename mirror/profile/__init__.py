"""A profile: accounts and the mirrors of them, from a TOML file to frozen values.

Reading one is `mirror.profile.loading`, which needs pydantic; what a profile is needs nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path

from mirror.core.model import Limits, Mirror
from mirror.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A server and the key to it."""

    name: str
    server: str  # as written; the client finds "/api"
    api_key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One TOML file, checked and with every default filled in."""

    name: str
    path: Path
    accounts: dict[str, Account]
    mirrors: tuple[Mirror, ...]  # in the order of the file
    limits: Limits = field(default_factory=Limits)  # of all its mirrors together
    metrics: Path | None = None  # where Prometheus' node_exporter looks
    ping: Secret | None = None  # the address of a dead man's switch


@dataclass(frozen=True, slots=True)
class Chosen:
    """A profile and those of its mirrors that a command is about."""

    profile: Profile
    mirrors: tuple[Mirror, ...]
