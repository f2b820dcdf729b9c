"""A plain HTTP client for asking the sandbox, with none of the mirror's own in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from mirror.sandbox import Library, Sandbox, sample_library


@dataclass
class Client:
    """Asks one sandbox."""

    sandbox: Sandbox
    session: aiohttp.ClientSession

    @property
    def library(self) -> Library:
        return self.sandbox.library

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, *, key: str | None = "minimum", **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = dict(options.pop("headers", None) or {})
        if key is not None:
            headers["x-api-key"] = self.sandbox.api_keys[key]
        async with self.session.request(
            method,
            self.sandbox.url + path,
            headers=headers,
            allow_redirects=False,
            **options,
        ) as response:
            yield response

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.ask(method, path, **options) as response:
            return response.status, await response.json()

    async def body(self, path: str, **options: Any) -> tuple[int, bytes]:
        async with self.ask("GET", path, **options) as response:
            return response.status, await response.read()

    async def page(self, **fields: Any) -> dict[str, Any]:
        status, answer = await self.json("POST", "/api/search/metadata", json=fields)
        assert status == 200, answer
        page: dict[str, Any] = answer["assets"]
        return page

    async def ids(self, **fields: Any) -> list[str]:
        return [row["id"] for row in (await self.page(size=1000, **fields))["items"]]


@asynccontextmanager
async def connected(library: Library | None = None) -> AsyncIterator[Client]:
    """A running sandbox and a client for it."""
    async with (
        Sandbox(library or sample_library()) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        yield Client(sandbox, session)


def original(asset_id: str) -> str:
    return f"/api/assets/{asset_id}/original"
