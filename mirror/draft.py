"""A profile that is being made: one account, one mirror, one destination; tried, then written."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import tomli_w

from mirror.core.secret import LiteralSecret
from mirror.errors import MirrorError, UsageError
from mirror.immich.client import Client
from mirror.online import RETRY, Findings, tried
from mirror.profile import Profile
from mirror.profile.loading import drafted
from mirror.status import Memory
from mirror.whole import create_file

_NO_KEY_YET: Final = "no-key-yet"  # what is asked before there is a key is told to everybody
_SOMEWHERE: Final = "/not-said-yet"


class Attempt(Protocol):
    """Tries what a draft says so far."""

    async def __call__(
        self, draft: "Draft", memory: Memory, *, allow_unknown_server: bool
    ) -> Findings:
        """What was found."""
        ...


@dataclass(slots=True, kw_only=True)
class Draft:
    """What was answered so far, in the words of a profile."""

    path: Path  # of the profile
    server: str = "https://not-said-yet.example"
    account: str = "me"
    mirror: str = "photos"
    api_key: dict[str, str] = field(default_factory=lambda: {"env": "NOT_SAID_YET"})
    new_key: str | None = field(default=None, repr=False)  # to be written to its file
    filter: dict[str, Any] = field(default_factory=dict)
    layout: str | None = None
    destination: str = _SOMEWHERE

    def tables(self) -> dict[str, Any]:
        """The document."""
        mirror: dict[str, Any] = {}
        if self.filter:
            mirror["filter"] = self.filter
        if self.layout is not None:
            mirror["layout"] = self.layout
        kind = "url" if "://" in self.destination else "path"
        return {
            "server": self.server,
            "accounts": {self.account: {"api_key": self.api_key}},
            "mirrors": {self.mirror: {**mirror, "destinations": [{kind: self.destination}]}},
        }

    def profile(self) -> Profile:
        """The profile that it would be, with the key at hand where its file is not written yet.

        Raises:
            ProfileError: an answer is none.
        """
        made = drafted(self.tables(), self.path)
        if self.new_key is None:
            return made
        account = replace(made.accounts[self.account], api_key=LiteralSecret(self.new_key))
        return replace(made, accounts={self.account: account})


async def try_server(draft: Draft, *, allow_unknown_server: bool) -> str:
    """The version of the server.

    Raises:
        ProfileError, AccountError: it is no address, or no server that can be used.
    """
    server = draft.profile().accounts[draft.account].server
    async with Client(
        server, _NO_KEY_YET, allow_unknown_server=allow_unknown_server, retry=RETRY
    ) as client:
        return str(await client.connect())


async def try_key(draft: Draft, memory: Memory, *, allow_unknown_server: bool) -> Findings:
    """What the key may do, and how much is selected, before there is a destination."""
    profile = draft.profile()
    mirrors = tuple(replace(mirror, destinations=()) for mirror in profile.mirrors)
    profile = replace(profile, mirrors=mirrors)
    return await tried(profile, memory, allow_unknown_server=allow_unknown_server)


async def try_all(draft: Draft, memory: Memory, *, allow_unknown_server: bool) -> Findings:
    """What `profile check --online` would say of it."""
    return await tried(draft.profile(), memory, allow_unknown_server=allow_unknown_server)


def write(draft: Draft) -> None:
    """Write the key, if it is new, and the profile; both, or neither. Blocks.

    Raises:
        UsageError: one of them is there already, or cannot be written.
    """
    made: list[Path] = []
    try:
        if draft.new_key is not None:
            key_file = Path(draft.api_key["file"]).expanduser()
            _create(key_file, f"{draft.new_key}\n")
            made.append(key_file)
        _create(draft.path, tomli_w.dumps(draft.tables()))
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def check_free(path: Path) -> None:
    """Nothing may be overwritten.

    Raises:
        UsageError: something is there.
    """
    if path.exists() or path.is_symlink():
        raise _there(path)


def _create(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_file(path, text.encode(), mode=0o600)
    except FileExistsError as error:
        raise _there(path) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be written", why=error.strerror or str(error)) from error


def _there(path: Path) -> MirrorError:
    return UsageError(
        f"{path} is there already", why="it is never overwritten", hint="choose another name"
    )
