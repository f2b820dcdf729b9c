"""`python -m tests.benchmarks.immich`: answers what a mirror asks as Immich 3.1.0 does, at once.

So that neither Immich nor its sandbox is measured. Rows follow from their number, made once.

GET /control counts requests, and adds files.
"""

import argparse
import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from tests.benchmarks.library import (
    OWNER,
    UPLOADED,
    asset_id,
    count_until,
    encoded,
    first_since,
    number_of,
    stamp,
    taken_at,
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Immich:
    """A server of so many files."""

    def __init__(self, files: int, size_bytes: int, page_s: float) -> None:
        self._files = files
        self._size_bytes = size_bytes
        self._page_s = page_s  # for a page of a search
        self._rows: dict[int, str] = {}
        self._asked: Counter[str] = Counter()

    def application(self) -> web.Application:
        """Its routes."""

        @web.middleware
        async def counted(request: web.Request, handler: _Handler) -> web.StreamResponse:
            if not request.path.startswith("/control"):
                self._asked[request.path.removeprefix("/api")] += 1
            return await handler(request)

        made = web.Application(middlewares=[counted])
        made.router.add_get("/control", self._control)
        made.router.add_get("/api/server/version", _version)
        made.router.add_get("/api/server/config", _config)
        made.router.add_get("/api/users/me", _refused)
        made.router.add_get("/api/timeline/buckets", self._buckets)
        made.router.add_get("/api/timeline/bucket", self._bucket)
        made.router.add_post("/api/search/metadata", self._search)
        return made

    async def _control(self, request: web.Request) -> web.Response:
        self._files += int(request.query.get("add", "0"))
        asked, self._asked = self._asked, Counter()
        return web.json_response({"asked": asked, "files": self._files})

    # -- the timeline ------------------------------------------------------------------------------

    async def _buckets(self, request: web.Request) -> web.Response:
        if not _is_timeline(request):
            return web.json_response([])
        months = Counter[str]()
        day, last = taken_at(0), taken_at(self._files)
        while self._files and day < last:  # whole days alone, but for the last one
            following = min(day.replace(hour=0) + timedelta(days=1), last)
            months[f"{day:%Y-%m}-01"] += first_since(following) - first_since(day)
            day = following
        return web.json_response(
            [{"timeBucket": month, "count": count} for month, count in sorted(months.items())]
        )

    async def _bucket(self, request: web.Request) -> web.Response:
        month = datetime.fromisoformat(f"{request.query['timeBucket']}T00:00:00Z")
        following = (month + timedelta(days=32)).replace(day=1)
        found = range(first_since(month), min(first_since(following), self._files))
        return web.json_response(
            {
                "id": [asset_id(number) for number in found],
                "ownerId": [OWNER] * len(found),
                "fileCreatedAt": [stamp(taken_at(number)) for number in found],
            }
        )

    # -- the search --------------------------------------------------------------------------------

    async def _search(self, request: web.Request) -> web.Response:
        asked = await request.json()
        await asyncio.sleep(self._page_s)
        known = {"visibility", "withDeleted", "order", "size", "page", "withExif"}
        times = {f"{kind}{end}" for kind in ("taken", "created", "updated") for end in _ENDS}
        if unknown := asked.keys() - known - times - {"id"}:
            return web.json_response({"message": f"not made for {sorted(unknown)}"}, status=500)
        size, page = asked.get("size", 250), int(asked.get("page", 1))
        found = self._found(asked)[(page - 1) * size :]
        items = [self._row(number) for number in itertools.islice(found, size)]
        more = f'"{page + 1}"' if len(found) > size else "null"
        text = (
            '{"albums":{"total":0,"count":0,"items":[],"facets":[]},"assets":{"total":'
            f'{len(items)},"count":{len(items)},"items":[{",".join(items)}],"facets":[],'
            f'"nextPage":{more}}}}}'
        )
        return web.Response(text=text, content_type="application/json")

    def _found(self, asked: dict[str, str]) -> range:
        if asked.get("visibility", "timeline") != "timeline":
            return range(0)
        first, last = 0, self._files
        for kind, late in (("taken", timedelta(0)), ("created", UPLOADED), ("updated", UPLOADED)):
            if after := asked.get(f"{kind}After"):
                first = max(first, first_since(datetime.fromisoformat(after) - late))
            if before := asked.get(f"{kind}Before"):
                last = min(last, count_until(datetime.fromisoformat(before) - late))
        found = range(first, max(first, last))
        if "id" in asked:
            number = number_of(asked["id"])
            return range(number, number + 1) if number in found else range(0)
        return found

    def _row(self, number: int) -> str:
        if number not in self._rows:
            self._rows[number] = encoded(number, self._size_bytes)
        return self._rows[number]


_ENDS: Final = ("After", "Before")


def _is_timeline(request: web.Request) -> bool:
    query = request.query
    return query.get("visibility", "timeline") == "timeline" and query.get("isTrashed") != "true"


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"major": 3, "minor": 1, "patch": 0})


async def _config(_: web.Request) -> web.Response:
    return web.json_response({"maintenanceMode": False})


async def _refused(_: web.Request) -> web.Response:
    told = {"message": "Missing required permission: user.read", "statusCode": 403}
    return web.json_response(told, status=403)


async def _serve(immich: Immich, port: int) -> None:
    runner = web.AppRunner(immich.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--files", "--size-bytes", "--port", "--page-ms"):
        parser.add_argument(option, type=int, required=True)
    args = parser.parse_args()
    immich = Immich(args.files, args.size_bytes, args.page_ms / 1000)
    for number in range(args.files):
        immich._row(number)
    asyncio.run(_serve(immich, args.port))


if __name__ == "__main__":
    main()
