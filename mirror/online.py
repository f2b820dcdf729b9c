"""A profile tried before it is relied upon: every account asked, every destination looked at.

Nothing is written, here or there. What one account meets hides nothing of the others.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from mirror.core.layout import compile_layout
from mirror.core.model import Asset, Filter, Mirror, Visibility
from mirror.core.permissions import Judged, judged, needed
from mirror.destinations import site_of
from mirror.errors import (
    AssetError,
    ExitCode,
    InternalError,
    MirrorError,
    PermissionMissingError,
    RequestError,
    TransientError,
    UnavailableError,
    worst,
)
from mirror.immich import wire
from mirror.immich.client import Client, RetryPolicy
from mirror.immich.listing import Listing, Selection, user_id
from mirror.index import Index
from mirror.premises import Premises, premises, too_much_together
from mirror.profile import Account, Profile
from mirror.secrets import read_secret
from mirror.select import Pins, selected
from mirror.status import Memory, look

# Somebody waits for the answer; a run that finds a server away waits longer for it.
RETRY: Final = RetryPolicy(attempts=3)
_CLOCKS: Final = timedelta(minutes=5)
_SHOWN: Final = (Visibility.TIMELINE, Visibility.ARCHIVE)


@dataclass(slots=True, kw_only=True)
class Own:
    """The account's own assets, and those of them that no mirror of the profile selects.

    Without what is in the trash or in the locked folder.
    """

    assets: int
    unselected: int
    of_archive: int  # of the unselected ones
    of_live_photos: int  # of them, videos of live photos


@dataclass(slots=True, kw_only=True)
class AccountCheck:
    """What one account says."""

    account: Account
    url: str = ""  # of the API, once it was found
    version: str = ""
    user_id: str | None = None
    user_name: str = ""  # empty: the key may not ask
    key_name: str = ""
    permissions: Judged | None = None  # None: the server does not tell
    ahead_s: float | None = None  # by how much our clock is ahead of the server's
    own: Own | None = None  # None: it could not be listed, or not every mirror of it
    problems: list[MirrorError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class MirrorCheck:
    """What one mirror would do."""

    mirror: Mirror
    assets: int | None = None  # None: they could not be listed
    size_bytes: int | None = None  # estimated where the server does not tell
    destinations: list[Premises] = field(default_factory=list)
    problems: list[MirrorError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Findings:
    """Everything that was found, in the order of the profile."""

    profile: Profile
    accounts: list[AccountCheck]
    mirrors: list[MirrorCheck]
    problems: list[MirrorError] = field(default_factory=list)  # of several together

    @property
    def exit_code(self) -> ExitCode:
        """What it says to the caller; warnings say nothing."""
        return worst(problem.exit_code for problem in self._problems())

    @property
    def worst(self) -> MirrorError | None:
        """The problem that decides the exit code; None: there is none."""
        code = self.exit_code
        return next((found for found in self._problems() if found.exit_code is code), None)

    def _problems(self) -> Iterator[MirrorError]:
        yield from self.problems
        for account in self.accounts:
            yield from account.problems
        for mirror in self.mirrors:
            yield from mirror.problems
            for place in mirror.destinations:
                yield from place.problems


async def tried(profile: Profile, memory: Memory, *, allow_unknown_server: bool) -> Findings:
    """Ask every account, side by side, and look at every destination."""
    trials = [
        _Trial(profile, account, memory, allow_unknown_server=allow_unknown_server)
        for account in profile.accounts.values()
    ]
    await asyncio.gather(*(trial.run() for trial in trials))
    by_name = {check.mirror.name: check for trial in trials for check in trial.mirrors}
    mirrors = [by_name[mirror.name] for mirror in profile.mirrors]
    places = [place for mirror in mirrors for place in mirror.destinations]
    return Findings(
        profile=profile,
        accounts=[trial.check for trial in trials],
        mirrors=mirrors,
        problems=list(too_much_together(places)),
    )


class _Trial:
    """One account and its mirrors."""

    def __init__(
        self, profile: Profile, account: Account, memory: Memory, *, allow_unknown_server: bool
    ) -> None:
        self.check = AccountCheck(account=account)
        self.mirrors = [
            MirrorCheck(mirror=mirror)
            for mirror in profile.mirrors
            if mirror.account == account.name
        ]
        self._profile = profile
        self._memory = memory
        self._allow_unknown_server = allow_unknown_server
        self._listed: dict[str, dict[str, int]] = {}  # by mirror: the size of each asset by its id

    async def run(self) -> None:
        """Never raises: what goes wrong is a problem of the account or of one of its mirrors."""
        try:
            await self._ask()
        except PermissionMissingError as error:
            if self.check.permissions is None:  # else all that is missing was told at once
                self.check.problems.append(error)
        except MirrorError as error:
            self.check.problems.append(error)
        except Exception as error:  # noqa: BLE001 (it must not hide the other accounts)
            self.check.problems.append(InternalError.of(error))
        for mirror in self.mirrors:
            await asyncio.to_thread(self._look, mirror)

    async def _ask(self) -> None:
        account = self.check.account
        key = await asyncio.to_thread(read_secret, account.api_key)
        async with Client(
            account.server,
            key,
            account=account.name,
            allow_unknown_server=self._allow_unknown_server,
            retry=RETRY,
        ) as client:
            self.check.version = str(await client.connect())
            self.check.url = client.url
            await self._clock(client)
            await self._key(client)
            self.check.user_id = await user_id(client)
            for mirror in self.mirrors:
                await self._select(client, mirror)
            await self._own(client)

    # -- the account -------------------------------------------------------------------------------

    async def _clock(self, client: Client) -> None:
        date = (await client.get("/server/version")).server_date
        if date is None:
            return
        self.check.ahead_s = (datetime.now(UTC) - date).total_seconds()
        if abs(self.check.ahead_s) > _CLOCKS.total_seconds():
            self.check.warnings.append(
                "the clocks here and at the server differ; above a day, removals are held"
            )

    async def _key(self, client: Client) -> None:
        self.check.user_name = await _user_name(client)
        told = await _key_told(client)
        if told is None:
            self.check.warnings.append("the server does not tell what the key may do")
            return
        name, granted = told
        found = judged(granted, needed(check.mirror for check in self.mirrors))
        self.check.key_name, self.check.permissions = name, found
        if found.lacking:
            missing = ", ".join(found.lacking)
            self.check.problems.append(
                PermissionMissingError(
                    f"the API key lacks {missing}",
                    why=f"it has {', '.join(found.granted) or 'none'}",
                    hint="give it to the key in Immich: Account Settings, API Keys",
                )
            )
        if found.changing:
            self.check.warnings.append(_too_much(found))

    async def _own(self, client: Client) -> None:
        """Count what none of the mirrors selects; only where all of them could be listed."""
        if not all(check.mirror.name in self._listed for check in self.mirrors):
            return
        selection = Selection(filter=Filter(visibility=_SHOWN), user_id=self.check.user_id)
        listing = Listing(client, selection)
        chosen = set().union(*self._listed.values())
        own = Own(assets=0, unselected=0, of_archive=0, of_live_photos=0)
        async for page in listing:
            for item in page:
                own.assets += 1
                if item.asset.id in chosen:
                    continue
                own.unselected += 1
                own.of_live_photos += item.still is not None
                own.of_archive += item.asset.visibility is Visibility.ARCHIVE
        if listing.complete:
            self.check.own = own
        else:
            self.check.warnings.append(f"own assets: {'; '.join(listing.problems)}")

    # -- a mirror ----------------------------------------------------------------------------------

    async def _select(self, client: Client, check: MirrorCheck) -> None:
        try:
            sizes, sample = await self._sizes(client, check)
            if sample is not None:
                await _try_download(client, check, sample)
        except MirrorError as error:
            check.problems.append(error)
            return
        told = [size_bytes for size_bytes in sizes.values() if size_bytes is not None]
        average = sum(told) // len(told) if told else 0
        listed = {
            asset_id: average if size_bytes is None else size_bytes
            for asset_id, size_bytes in sizes.items()
        }
        self._listed[check.mirror.name] = listed
        check.assets, check.size_bytes = len(listed), sum(listed.values())

    async def _sizes(
        self, client: Client, check: MirrorCheck
    ) -> tuple[dict[str, int | None], Asset | None]:
        """The size of everything that is selected, and one of it."""
        mirror = check.mirror
        layout = compile_layout(mirror.layout, mirror.names)
        pins = await asyncio.to_thread(_pins, mirror)
        found = await selected(mirror, layout, client, user_id=self.check.user_id, pins=pins)
        check.warnings += found.vanished
        selection = Selection(
            filter=found.selection.filter,
            user_id=self.check.user_id,
            exclude=found.selection.exclude,
            live_photos=mirror.live_photos,
            needs_exif=True,  # the size is there
        )
        listing = Listing(client, selection)
        sizes: dict[str, int | None] = {}
        sample = None
        async for page in listing:
            for item in page:
                sample = sample or item.asset
                sizes[item.asset.id] = item.asset.exif.size_bytes if item.asset.exif else None
        if not listing.complete:
            check.warnings.append(f"the listing is not complete: {'; '.join(listing.problems)}")
        elif not sizes:
            check.warnings.append("it selects nothing")
        return sizes, sample

    def _look(self, check: MirrorCheck) -> None:
        mirror = check.mirror
        statuses = look(self._profile, [mirror], self._memory)
        for status, destination in zip(statuses, mirror.destinations, strict=True):
            listed = self._listed.get(mirror.name)
            check.destinations.append(premises(status, destination, listed, self.check.user_id))


def _too_much(found: Judged) -> str:
    if "all" in found.granted:
        return "the key may do everything; one that can only read is safer"
    return f"the key can change things on the server ({', '.join(found.changing)})"


async def _user_name(client: Client) -> str:
    try:
        return wire.member((await client.get("/users/me")).json, "name", str)
    except PermissionMissingError:
        return ""


async def _key_told(client: Client) -> tuple[str, Sequence[str]] | None:
    """The key's name and permissions; None where the server does not tell them."""
    try:
        told = (await client.get("/api-keys/me")).json
    except (RequestError, PermissionMissingError):
        return None
    granted = told.get("permissions") if isinstance(told, Mapping) else None
    if not isinstance(told, Mapping) or not isinstance(granted, list):
        return None
    return str(told.get("name", "")), [str(permission) for permission in granted]


async def _try_download(client: Client, check: MirrorCheck, sample: Asset) -> None:
    """Ask for one original, without its bytes."""
    try:
        await client.original_head(sample.id)
    except UnavailableError:
        # An answer to HEAD has no words: only GET tells a permission from a file that is lost.
        await _try_to_open(client, check, sample)


async def _try_to_open(client: Client, check: MirrorCheck, sample: Asset) -> None:
    try:
        async with client.original(sample.id):
            return  # its bytes are not read
    except (AssetError, TransientError) as error:
        # Perhaps it is this one alone: a run would say so, and go on.
        check.warnings.append(f"{sample.original_file_name}: {error.what} ({error.why})")


def _pins(mirror: Mirror) -> Pins:
    """What names meant when the mirror used them first."""
    for destination in mirror.destinations:
        path = site_of(destination).index_path
        try:
            if path.exists():
                with Index(path, dry=True) as index:
                    return index.pins()
        except (MirrorError, OSError):
            continue  # the look at the destination says what is wrong
    return {}
