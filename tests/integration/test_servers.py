"""Mirrors to servers that speak SFTP, OpenSSH's own and rclone's: whole runs of the command."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.sandbox import Sandbox, sample_library
from tests.integration.command import Ended, mirror
from tests.integration.test_buckets import tree
from tests.servers import KINDS, PASSWORD, Server, served


@dataclass
class Family:
    """A server of photos, one for them, and a profile with one mirror."""

    sandbox: Sandbox
    server: Server
    home: Path

    @property
    def photos(self) -> Path:
        return self.server.folder / "photos"

    @property
    def state(self) -> Path:
        return self.home / ".local/state/mirror"

    def write(self, *destinations: str, text: str = "") -> None:
        key = self.home / "key"
        key.write_text(self.sandbox.api_keys["minimum"])
        key.chmod(0o600)
        file = self.home / ".config/mirror/profiles/family.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f'server = "{self.sandbox.url}"\n[accounts.me]\napi_key = {{ file = "{key}" }}\n'
            f"[mirrors.all]\n{text}\n" + "".join(destinations or [self.server.destination()])
        )

    async def run(self, *words: str, **environ: str) -> Ended:
        ended = await mirror(self.home, *words, **{"PLANTED_PASSWORD": PASSWORD} | environ)
        assert PASSWORD not in ended.said
        assert "Traceback" not in ended.said
        return ended

    async def synced(self, *options: str) -> dict[str, int]:
        ended = await self.run("sync", "family", *options)
        assert ended.code == 0, ended.said
        counts: dict[str, int] = ended.events("run.end")[0]["counts"]
        return counts

    async def refused(self, *words: str, code: int = 4, **environ: str) -> str:
        ended = await self.run(*(words or ("sync",)), "family", **environ)
        assert ended.code == code, ended.said
        return ended.said

    def originals(self) -> int:
        return sum(request.original_of is not None for request in self.sandbox.requests)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as serving:
        yield serving


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Server]:
    with served("openssh", tmp_path) as serving:
        yield serving


def made(sandbox: Sandbox, server: Server, folder: Path) -> Family:
    (folder / "home").mkdir()
    family = Family(sandbox, server, folder / "home")
    family.write()
    return family


@pytest.fixture
async def family(server: Server, tmp_path: Path) -> AsyncIterator[Family]:
    async with Sandbox(sample_library(30)) as sandbox:
        yield made(sandbox, server, tmp_path)


async def test_a_server_holds_what_a_folder_would(family: Family):
    folder = family.home / "photos"
    plain = f'[[mirrors.all.destinations]]\npath = "{folder}"\nmin_free = 0\n'
    family.write(plain, family.server.destination())
    counts = await family.synced()

    expected = tree(folder)
    assert len(expected) > 20
    assert tree(family.photos) == expected
    assert family.originals() == len(expected)
    assert sum(counts.values()) == 2 * len(expected)
    with sqlite3.connect(family.photos / ".mirror/index.sqlite3") as index:
        rows = index.execute("SELECT path, mtime_ns FROM asset").fetchall()
    index.close()
    held = {path.decode(): mtime_ns for path, mtime_ns in rows}
    assert held == {path: (family.photos / path).stat().st_mtime_ns for path in expected}
    family.sandbox.requests.clear()
    assert set(await family.synced()) == {"unchanged"}
    assert family.originals() == 0
    assert tree(family.photos) == expected
    assert not list((family.photos / ".mirror/locks").iterdir())
    assert not list((family.photos / ".mirror/uploads").iterdir())
