"""`python -m tests.benchmarks.keyset URL`: the least that lists a library by key; keeps the ids."""

import asyncio
import sys

import aiohttp


async def listed(url: str) -> set[str]:
    """The ids of everything, page by page, each beginning where the last one ended."""
    ids: set[str] = set()
    after, more = "0100-01-01T00:00:00.000Z", True
    async with aiohttp.ClientSession(headers={"x-api-key": "key"}) as session:
        while more:
            body = {"visibility": "timeline", "order": "asc", "size": 1000, "takenAfter": after}
            async with session.post(f"{url}/api/search/metadata", json=body) as answer:
                page = (await answer.json())["assets"]
            ids.update(row["id"] for row in page["items"])
            more = page["nextPage"] is not None
            after = page["items"][-1]["fileCreatedAt"]
    return ids


if __name__ == "__main__":
    print(len(asyncio.run(listed(sys.argv[1]))))
