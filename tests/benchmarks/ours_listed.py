"""`python -m tests.benchmarks.ours_listed URL`: the listing of a run by itself."""

import asyncio
import sys

from mirror.core.model import Filter
from mirror.immich.client import Client
from mirror.immich.listing import Listing, Selection
from tests.benchmarks.library import OWNER


async def listed(url: str) -> int:
    """How many assets it gives; all of them."""
    async with Client(url, "key") as client:
        await client.connect()
        listing = Listing(client, Selection(filter=Filter(), user_id=OWNER))
        count = 0
        async for page in listing:
            count += len(page)
        if not listing.complete:
            raise SystemExit(str(listing.problems))
    return count


if __name__ == "__main__":
    print(asyncio.run(listed(sys.argv[1])))
