"""What may become of a file whose asset is not wanted any more, by the rules as they are written.

Runs among troubles leave in doubt what they did and saw; then there is more than one answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mirror.core.model import OnGone
from mirror.sandbox import Library
from mirror.sandbox.records import StoredAsset

KEPT = frozenset({OnGone.KEEP})


@dataclass
class Held:
    """An asset that has its file in the tree since the last good run, or some run after it."""

    asset_id: str
    owner_id: str
    sha1s: set[bytes]  # what its file may hold
    path: str = ""  # where it lay after the last good run
    still_id: str = ""
    certain: bool = True  # whether it has a file at all
    # Whether a run has seen it in the trash: what is purged from there was not just locked away.
    seen_trashed: set[bool] = field(default_factory=lambda: {False})


@dataclass(frozen=True)
class Policies:
    """Of the destination."""

    on_removed: OnGone = OnGone.KEEP
    on_unmatched: OnGone = OnGone.KEEP

    @property
    def keep_all(self) -> bool:
        """Whether nothing is ever asked."""
        return {self.on_removed, self.on_unmatched} == KEPT


class Leaving:
    """What the server says of the held assets that are not wanted now."""

    def __init__(
        self, library: Library, gone: Mapping[str, Held], policies: Policies, *, canary: bool
    ) -> None:
        """`canary`: whether an own asset is listed, without which a refusal says nothing."""
        self._library = library
        self._gone = gone
        self._policies = policies
        self._canary = canary

    def fates(self, held: Held) -> set[OnGone]:
        """What may become of its file, if no rule holds it back."""
        if self._policies.keep_all:
            return set(KEPT)
        return {fate for verdict in self.verdicts(held) for fate in self._fates(held, verdict)}

    def verdicts(self, held: Held) -> set[str]:
        """A live photo's video follows its still, if that leaves with its file at the same time."""
        own = {self._verdict(held)}
        still = self._gone.get(held.still_id)
        if still is None:
            return own
        return self.verdicts(still) if still.certain else self.verdicts(still) | own

    def _verdict(self, held: Held) -> str:
        asset = self._library.assets.get(held.asset_id)
        mine = held.owner_id == self._library.owner_id
        if asset is None or not self._is_readable(asset):
            return ("gone" if mine else "unshared") if self._canary else "unknown"
        if asset.is_offline:
            return "offline"
        return "trashed" if asset.trashed else "unmatched"

    def _is_readable(self, asset: StoredAsset) -> bool:
        me = self._library.owner_id
        if asset.owner_id == me:
            return asset.visibility != "locked"
        shared = asset.owner_id in self._library.partners_of(me)
        return shared and not asset.trashed and asset.visibility in {"timeline", "hidden"}

    def _fates(self, held: Held, verdict: str) -> Iterator[OnGone]:
        on_removed, on_unmatched = self._policies.on_removed, self._policies.on_unmatched
        if verdict == "trashed":
            yield on_removed
        elif verdict == "gone":
            for seen in held.seen_trashed:
                yield on_removed if seen else _at_most(on_removed)
        elif verdict == "unmatched":
            yield on_unmatched
        elif verdict == "unshared":
            yield _at_most(on_unmatched)
        else:
            yield OnGone.KEEP


def _at_most(policy: OnGone) -> OnGone:
    return OnGone.QUARANTINE if policy is OnGone.DELETE else policy
