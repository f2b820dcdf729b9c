"""What the commands do between their arguments and what they print."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from mirror.core.layout import compile_layout
from mirror.core.model import Listed, Mirror
from mirror.core.report import Report
from mirror.errors import IncompleteListingError
from mirror.immich.listing import Listing, user_id
from mirror.notices import noticed
from mirror.profile import Profile
from mirror.select import selected
from mirror.session import Session, told


@dataclass(frozen=True, slots=True)
class Chosen:
    """A profile and those of its mirrors that a command is about."""

    profile: Profile
    mirrors: tuple[Mirror, ...]


async def sync(profiles: Iterable[Chosen], session: Session) -> list[Report]:
    """Every mirror of every profile; or their plans, when the session is dry."""
    choices = [(choice.profile, choice.mirrors) for choice in profiles]
    async with noticed(choices, session):
        with told(session.options.run_id, session.reports):
            await session.run_all(choices)
    return session.reports


async def listed(choice: Chosen, session: Session) -> AsyncIterator[tuple[Mirror, Listed, str]]:
    """What the mirrors select, each asset with the path that its layout gives.

    Raises:
        MirrorError: an account cannot be used, or a listing is not complete.
    """
    async with AsyncExitStack() as stack:
        for mirror in choice.mirrors:
            client = await session.client(choice.profile.accounts[mirror.account], stack)
            layout = compile_layout(mirror.layout, mirror.names)
            user = await user_id(client)
            found = await selected(mirror, layout, client, user_id=user, pins={})
            listing = Listing(client, found.selection)
            async for page in listing:
                for item in page:
                    asset, still = item.asset, item.still
                    path = layout.video_path(still, asset) if still else layout.path(asset)
                    yield mirror, item, path
            if not listing.complete:
                raise IncompleteListingError(
                    f"the listing of mirror {mirror.name!r} is not complete",
                    why="; ".join(listing.problems),
                )
