"""Why an asset may leave the tree: what the server said of it, graded.

Nothing leaves because it was not in a listing. Each candidate was asked for by its id, and only an
answer that means something moves its file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mirror.core.model import Destination, OnGone, Row


class Verdict(StrEnum):
    """What the server says of an asset that it did not list; the value is kept as the reason."""

    TRASHED = "in the trash"
    GONE = "purged or moved to the locked folder"  # no API key can tell which
    UNMATCHED = "no longer selected"
    UNSHARED = "no longer shared"  # another owner's: trashed, archived and unshared look alike
    OFFLINE = "offline on the server"
    UNKNOWN = "nothing was learnt"


@dataclass(frozen=True, slots=True)
class Sentence:
    """What becomes of the file, and why."""

    disposal: OnGone
    reason: Verdict


def judge(row: Row, verdict: Verdict, destination: Destination) -> Sentence:
    """The policy that a verdict calls for; KEEP where it proves nothing."""
    match verdict:
        case Verdict.TRASHED:
            return Sentence(destination.on_removed, verdict)
        case Verdict.GONE:
            return Sentence(_for_gone(row, destination.on_removed), verdict)
        case Verdict.UNMATCHED | Verdict.UNSHARED:
            return Sentence(destination.on_unmatched, verdict)
        case Verdict.OFFLINE | Verdict.UNKNOWN:
            return Sentence(OnGone.KEEP, verdict)


def _for_gone(row: Row, on_removed: OnGone) -> OnGone:
    """Seen in the trash by an earlier run, it was removed; if not, it may be locked: quarantine."""
    if on_removed is OnGone.DELETE and row.reason != Verdict.TRASHED.value:
        return OnGone.QUARANTINE
    return on_removed


def of_videos(rows: Mapping[str, Row], verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """All verdicts; a live photo's video has none of its own and follows its still.

    `rows` are the candidates by id. A video whose still is no candidate is no longer wanted.
    """
    return {
        asset_id: verdicts.get(row.still_id, Verdict.UNMATCHED)
        if row.still_id
        else verdicts.get(asset_id, Verdict.UNKNOWN)
        for asset_id, row in rows.items()
    }
