"""What the commands do between their arguments and what they print."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from mirror import logs
from mirror.core.layout import compile_layout
from mirror.core.model import Listed, Mirror
from mirror.core.report import Report
from mirror.core.verify import Verification
from mirror.errors import IncompleteListingError
from mirror.immich.listing import Listing, user_id
from mirror.limits import Allowances
from mirror.notices import noticed
from mirror.profile import Chosen
from mirror.select import selected
from mirror.session import Session, tell_end, told
from mirror.verify import Asked, VerifyRun


async def sync(profiles: Iterable[Chosen], session: Session) -> list[Report]:
    """Every mirror of every profile; or their plans, when the session is dry."""
    choices = [(choice.profile, choice.mirrors) for choice in profiles]
    async with noticed(choices, session):
        with told(session.options.run_id, session.reports):
            await session.run_all(choices)
    return session.reports


async def verify(
    choice: Chosen, session: Session, asked: Asked, reports: list[Verification]
) -> None:
    """Read the files of every mirror again, one destination after the other.

    Reports come into `reports` as they begin. What one leaves of its share of the time, the
    others have.
    """
    parts = [(mirror, each) for mirror in choice.mirrors for each in mirror.destinations]
    ending_s = None if asked.budget_s is None else time.monotonic() + asked.budget_s
    # How long it may take is the budget's to say.
    allowance = replace(Allowances(session.limits).of(choice.profile.limits), max_duration_s=None)
    with told(asked.run_id, reports):
        async with AsyncExitStack() as stack:
            for number, (mirror, destination) in enumerate(parts):
                account = choice.profile.accounts[mirror.account]
                begun_s = time.monotonic()
                share_s = ending_s and (ending_s - begun_s) / (len(parts) - number)
                run = VerifyRun(
                    mirror=mirror,
                    destination=destination,
                    label=f"{choice.profile.name}/{mirror.name}",
                    known=session.known,
                    asked=asked,
                    until_s=None if share_s is None else begun_s + share_s,
                    connected=partial(session.client, account, stack, allowance.bandwidth),
                    allowance=allowance,
                    progress=session.progress,
                )
                reports.append(run.report)
                with logs.bound(
                    run_id=asked.run_id,
                    profile=choice.profile.name,
                    mirror=mirror.name,
                    account=account.name,
                    destination=destination.path,
                ):
                    try:
                        await run.run()
                    finally:
                        tell_end(run.report, begun_s)


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
