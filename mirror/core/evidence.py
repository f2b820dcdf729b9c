"""Why an asset may leave the tree: what the server said of it, and what each policy makes of that.

Nothing leaves because it was not in a listing. Each candidate was asked for by its id, and only an
answer that means something moves its file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from mirror.core.model import Asset, Destination, Filter, OnGone, Row, Visibility

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Verdict(StrEnum):
    """What the server says of an asset that it did not list; the value is kept as the reason."""

    TRASHED = "in the trash"
    GONE = "purged or moved to the locked folder"  # no API key can tell which
    UNMATCHED = "no longer selected"
    UNSHARED = "no longer shared"  # another owner's: trashed, archived and unshared look alike
    OFFLINE = "offline on the server"
    UNKNOWN = "nothing was learnt of it"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A verdict, and what else the answer told."""

    verdict: Verdict
    asset: Asset | None = None  # as the server describes it, where it does
    left_window: bool = False  # it is UNMATCHED only because a moving window left it behind


@dataclass(frozen=True, slots=True)
class Sentence:
    """What becomes of a file whose asset is not listed, and why."""

    disposal: OnGone
    reason: Verdict
    left_window: bool = False


def judge(row: Row, evidence: Evidence, destination: Destination) -> Sentence:
    """The policy that a verdict calls for; KEEP where it proves nothing."""
    disposal = _disposal(row, evidence.verdict, destination)
    if row.sha1 is None:
        disposal = _at_most(disposal)  # found by its size, and perhaps somebody's own
    return Sentence(disposal, evidence.verdict, evidence.left_window)


def _disposal(row: Row, verdict: Verdict, destination: Destination) -> OnGone:
    match verdict:
        case Verdict.TRASHED:
            return destination.on_removed
        case Verdict.GONE if row.seen_trashed_at is not None:
            return destination.on_removed  # in the trash when an earlier run asked: it was purged
        case Verdict.GONE:
            return _at_most(destination.on_removed)  # it may only be locked
        case Verdict.UNMATCHED:
            return destination.on_unmatched
        case Verdict.UNSHARED:
            return _at_most(destination.on_unmatched)
        case Verdict.OFFLINE | Verdict.UNKNOWN:
            return OnGone.KEEP


def _at_most(policy: OnGone) -> OnGone:
    """Weak evidence deletes nothing: a quarantine can be undone."""
    return OnGone.QUARANTINE if policy is OnGone.DELETE else policy


# The less an answer allows, the earlier: of several stills the first of these speaks for the video.
_MOST_CAREFUL: Final = (
    Verdict.UNKNOWN,
    Verdict.OFFLINE,
    Verdict.UNMATCHED,
    Verdict.UNSHARED,
    Verdict.GONE,
    Verdict.TRASHED,
)


def with_videos(rows: Iterable[Row], told: Mapping[str, Evidence]) -> dict[str, Evidence]:
    """The evidence of each row; a live photo's video that is there follows its stills.

    `told` are answers by asset id: of the rows, and of the stills of hidden videos among them.
    """
    stills: dict[str, list[Evidence]] = {}
    for evidence in told.values():
        if evidence.asset is not None and evidence.asset.live_photo_video_id is not None:
            stills.setdefault(evidence.asset.live_photo_video_id, []).append(evidence)
    return {row.asset_id: _of_video(row, told, stills.get(row.asset_id, [])) for row in rows}


def _of_video(row: Row, told: Mapping[str, Evidence], stills: list[Evidence]) -> Evidence:
    """What is said of a row: by itself, unless it is a video that is only there for a still."""
    evidence = told[row.asset_id]
    asset = evidence.asset
    if asset is None or asset.visibility is not Visibility.HIDDEN or not row.still_id:
        return evidence
    if evidence.verdict is not Verdict.UNMATCHED:
        return evidence
    remembered = told.get(row.still_id)
    if remembered is not None and remembered.asset is None:  # nobody can say what it had
        stills = [*stills, remembered]
    return min(stills, key=lambda one: _MOST_CAREFUL.index(one.verdict), default=evidence)


def left_window(filter_: Filter, asset: Asset, row: Row, now: datetime) -> bool:
    """Whether time alone took an asset out of a window of the filter that moves with it.

    Not another date: when a server redates photos by the hundred, a limit is to notice that. The
    file has the date that the asset had when it came. `now` is the server's clock.
    """
    came_as = _EPOCH + timedelta(microseconds=row.mtime_ns // 1000)
    return any(
        days is not None and all(moment < now - timedelta(days=days) for moment in moments)
        for days, moments in (
            (filter_.taken_within_days, (asset.taken_at or now, came_as)),
            (filter_.uploaded_within_days, (asset.uploaded_at,)),
        )
    )


# -- is it the server that it was? -----------------------------------------------------------------


@dataclass(slots=True)
class Landmarks:
    """What one listing shows of the server's state, without remembering the listing.

    `watched_id` is the asset that had the newest `updatedAt` when the mirror was last in line.
    """

    user_id: str | None
    watched_id: str = ""
    watched_updated_at: datetime | None = None  # None: it was not listed
    newest_updated: Asset | None = None  # own assets, from here on
    newest_uploaded: Asset | None = None
    first: Asset | None = None
    owners: set[str] = field(default_factory=set)  # whose assets were listed

    def see(self, asset: Asset) -> None:
        """Take note of a listed asset."""
        self.owners.add(asset.owner_id)
        if asset.id == self.watched_id:
            self.watched_updated_at = asset.updated_at
        if asset.owner_id != self.user_id:
            return
        self.first = self.first or asset
        if self.newest_updated is None or asset.updated_at > self.newest_updated.updated_at:
            self.newest_updated = asset
        if self.newest_uploaded is None or asset.uploaded_at > self.newest_uploaded.uploaded_at:
            self.newest_uploaded = asset

    @property
    def canaries(self) -> list[str]:
        """Ids of own assets that exist: the newest, and another one where there is any."""
        seen = (self.newest_uploaded, self.first)
        return list(dict.fromkeys(asset.id for asset in seen if asset is not None))


@dataclass(frozen=True, slots=True)
class Newest:
    """The asset with the newest `updatedAt` that a mirror has seen, and that stamp."""

    asset_id: str
    updated_at: datetime

    def __str__(self) -> str:
        return f"{self.asset_id} {self.updated_at.isoformat()}"

    @classmethod
    def parse(cls, text: str) -> "Newest | None":
        """What `str` made; None of anything else."""
        asset_id, _, stamp = text.partition(" ")
        try:
            return cls(asset_id, datetime.fromisoformat(stamp))
        except ValueError:
            return None


def went_back(
    remembered: Newest | None,
    landmarks: Landmarks,
    rows: Iterable[Row],
    told: Mapping[str, Evidence],
) -> str:
    """Why the server looks restored from a backup; empty when it does not.

    `rows` are the candidates for removal, `told` what was said of them.
    """
    if remembered is not None:
        stamp = _stamp(remembered.asset_id, landmarks, told)
        if stamp is not None and stamp < remembered.updated_at:
            return (
                f"asset {remembered.asset_id} was changed at {remembered.updated_at:%F %T},"
                f" and the server knows it only as of {stamp:%F %T}"
            )
    newest = landmarks.newest_uploaded
    younger = gone_after(landmarks, rows, told)
    if younger and newest is not None:
        are = "1 asset is" if len(younger) == 1 else f"{len(younger)} assets are"
        return (
            f"{are} gone that came after {newest.uploaded_at:%F %T}, when the newest one listed was"
        )
    return ""


def gone_after(
    landmarks: Landmarks, rows: Iterable[Row], told: Mapping[str, Evidence]
) -> list[datetime]:
    """When those were uploaded that are gone without a trace and newer than all that is known."""
    newest = landmarks.newest_uploaded
    return [
        row.uploaded_at
        for row in rows
        if newest is not None
        and told[row.asset_id].verdict is Verdict.GONE
        and row.seen_trashed_at is None
        and row.reason != Verdict.GONE.value  # it was said, and answered, in an earlier run
        and row.uploaded_at is not None
        and row.uploaded_at > newest.uploaded_at
    ]


def _stamp(asset_id: str, landmarks: Landmarks, told: Mapping[str, Evidence]) -> datetime | None:
    if landmarks.watched_updated_at is not None:
        return landmarks.watched_updated_at
    evidence = told.get(asset_id)
    return evidence.asset.updated_at if evidence and evidence.asset else None
