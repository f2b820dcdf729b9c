"""Every error a user can meet: a stable code, the exit code, and what / why / what to do.

Raise the narrowest class, with data in its sentences and never a key. Foreign exceptions become one
of these once, at the boundary that knows the context (`raise … from error`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process tells its caller; the README's table is tested against this."""

    OK = 0
    PARTIAL = 1
    USAGE = 2
    ACCOUNT = 3
    DESTINATION = 4
    HELD = 5
    DAMAGED = 6
    LOCKED = 7
    LIMIT = 8
    INTERRUPTED = 130


# Of several mirrors the first in this order is the exit code of the run.
_PRECEDENCE = (130, 2, 4, 3, 6, 5, 7, 1, 8, 0)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code of a run of several parts; OK when there are none."""
    return ExitCode(min(codes, key=_PRECEDENCE.index, default=ExitCode.OK))


class MirrorError(Exception):
    """Something a user can read and act upon.

    `what` names the thing and what happened, `why` the evidence, `hint` what to do next.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.PARTIAL

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        self.what = what
        self.why = why
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}"]
        if self.why:
            lines.append(f"why: {self.why}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


# -- usage and profile -----------------------------------------------------------------------------


class UsageError(MirrorError):
    """The command line asks for something that cannot be done."""

    code = "usage"
    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a profile and its place."""

    place: str  # "profiles/family.toml:12", or "environment MIRROR_TRANSFERS"
    key: str  # dotted, "" when the whole file is meant
    what: str
    hint: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.place}: {self.key}: {self.what}" if self.key else f"{self.place}: {self.what}"
        )
        return f"{text} ({self.hint})" if self.hint else text


class ProfileError(MirrorError):
    """A profile cannot be used; carries every problem found, not only the first."""

    code = "profile"
    exit_code = ExitCode.USAGE

    def __init__(self, what: str, problems: Sequence[Problem] = (), *, hint: str = "") -> None:
        self.problems = tuple(problems)
        why = "\n     ".join(str(problem) for problem in problems)
        super().__init__(what, why=why, hint=hint)


class UnknownNameError(ProfileError):
    """A person, album or tag that the account does not have."""

    code = "unknown-name"


class AmbiguousNameError(ProfileError):
    """Several people, albums or tags have the name."""

    code = "ambiguous-name"


# -- account ---------------------------------------------------------------------------------------


class AccountError(MirrorError):
    """One account cannot be used; other accounts of the run go on."""

    code = "account"
    exit_code = ExitCode.ACCOUNT


class ServerUnreachableError(AccountError):
    """No connection, or none that answers, after all retries."""

    code = "server-unreachable"


class NotImmichError(AccountError):
    """Something answers at the URL, but it is not Immich's API."""

    code = "not-immich"


class UnknownServerError(AccountError):
    """A server version whose filters we do not know: it may ignore them and list everything."""

    code = "unknown-server"


class MaintenanceError(AccountError):
    """The server is in maintenance mode."""

    code = "maintenance"


class KeyRefusedError(AccountError):
    """401: the key is wrong or was revoked, or no key could be read."""

    code = "key-refused"


class PermissionMissingError(AccountError):
    """403: the key lacks a permission, which the message names."""

    code = "permission-missing"


class RequestError(AccountError):
    """The server refused a request that it should know (400, 404, 5xx after retries)."""

    code = "request-failed"

    def __init__(self, what: str, *, status: int, why: str = "", hint: str = "") -> None:
        self.status = status
        super().__init__(what, why=why, hint=hint)


class TransientError(AccountError):
    """A request failed in a way that another try may cure; `outcome` says what it is if none does.

    `brief` marks what waiting seldom cures (a 500, an unknown host name): few tries are enough.
    """

    code = "transient"

    def __init__(
        self,
        outcome: AccountError,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        brief: bool = False,
    ) -> None:
        self.outcome = outcome
        self.status = status
        self.retry_after_s = retry_after_s
        self.brief = brief
        super().__init__(outcome.what, why=outcome.why, hint=outcome.hint)


class OtherAccountError(AccountError):
    """The key belongs to another user than the one this mirror was made for."""

    code = "other-account"
    exit_code = ExitCode.DESTINATION


# -- destination -----------------------------------------------------------------------------------


class DestinationError(MirrorError):
    """One destination cannot be used, or not any more."""

    code = "destination"
    exit_code = ExitCode.DESTINATION


class NotOursError(DestinationError):
    """The destination belongs to another mirror or user, or to Immich itself."""

    code = "not-ours"


class NotMountedError(DestinationError):
    """A destination seen before has lost its marker: most likely a disk that is not mounted."""

    code = "not-mounted"


class NoSpaceError(DestinationError):
    """The next file would not fit."""

    code = "no-space"


class UnwritableError(DestinationError):
    """The file system refuses."""

    code = "unwritable"


class IndexBrokenError(DestinationError):
    """The index cannot be used, or was written by a newer version."""

    code = "index"


class IndexDamagedError(IndexBrokenError):
    """The index is no index of ours, or not any more: it is made anew from what lies there."""


class LockedError(MirrorError):
    """Another run holds the destination."""

    code = "locked"
    exit_code = ExitCode.LOCKED


# -- one asset -------------------------------------------------------------------------------------


class AssetError(MirrorError):
    """One asset failed; the others go on."""

    code = "asset"
    exit_code = ExitCode.PARTIAL


class ChecksumMismatchError(AssetError):
    """The bytes received are not those whose SHA-1 the server lists."""

    code = "checksum-mismatch"


class TransferError(AssetError):
    """The bytes did not come: short, long, of the wrong kind, or refused."""

    code = "transfer"


class UnavailableError(AssetError):
    """The server lists the asset and does not give its original (400, 404, 500)."""

    code = "unavailable"


class ConflictError(AssetError):
    """No name is left for the asset at the destination."""

    code = "conflict"


class LimitError(MirrorError):
    """A limit that the user set is reached; the next run goes on."""

    code = "limit"
    exit_code = ExitCode.LIMIT


class IncompleteListingError(MirrorError):
    """What was listed is not all that is selected."""

    code = "incomplete"
    exit_code = ExitCode.PARTIAL


class InternalError(MirrorError):
    """A fault of this program."""

    code = "internal"
    exit_code = ExitCode.PARTIAL

    @classmethod
    def of(cls, error: Exception) -> "InternalError":
        """What to say of an exception that nobody expected; it stays the cause."""
        told = cls(
            f"{type(error).__name__}: {error}",
            why="this is a fault of mirror itself; what was done before it is consistent",
            hint="run again with MIRROR_TRACEBACK=1 and report what it prints",
        )
        told.__cause__ = error
        return told


class InterruptedRunError(MirrorError):
    """The user, or the service manager, asked to stop."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
