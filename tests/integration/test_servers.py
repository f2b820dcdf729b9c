"""Mirrors to servers that speak SFTP, OpenSSH's own and rclone's: whole runs of the command."""

import asyncio
import json
import os
import shutil
import sqlite3
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL

import pytest

from mirror.core.model import Destination
from mirror.destinations.sftp_site import SftpSite
from mirror.sandbox import Sandbox, sample_library
from tests.integration.command import Ended, mirror
from tests.integration.mirroring import of_profile, photos
from tests.integration.starts import environment, started
from tests.integration.test_buckets import tree
from tests.servers import PASSWORD, Server, served


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

    async def synced(self) -> dict[str, int]:
        ended = await self.run("sync", "family")
        assert ended.code == 0, ended.said
        counts: dict[str, int] = ended.events("run.end")[0]["counts"]
        return counts

    async def synced_here(self) -> dict[str, int]:
        """The same in this process: a start less."""
        login = self.server.login()
        site = SftpSite(
            Destination(
                path=self.server.url(), key_file=login.key_file, known_hosts=login.known_hosts
            )
        )
        run = await replace(of_profile(self.home, self.sandbox), site=site).synced()
        return run.report.counted

    async def refused(self, *words: str, code: int = 4, **environ: str) -> str:
        ended = await self.run(*(words or ("sync",)), "family", **environ)
        assert ended.code == code, ended.said
        return ended.said

    def held(self) -> dict[str, int]:
        """When each file is dated, by path, as the copy of the index has it."""
        with closing(sqlite3.connect(self.photos / ".mirror/index.sqlite3")) as index:
            rows = index.execute("SELECT path, mtime_ns FROM asset").fetchall()
        return {path.decode(): mtime_ns for path, mtime_ns in rows}

    def own(self) -> list[str]:
        """The files of our own state on the server."""
        state = self.photos / ".mirror"
        return [str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()]

    async def killed_after(self, count: int, pattern: str = "*.jpg") -> None:
        """A run that dies when so many photos, called like this, lie on the server."""
        environ = environment(self.home, PLANTED_PASSWORD=PASSWORD)
        words = ("-m", "mirror", "sync", "family")
        process = await started(*words, folder=self.home, environ=environ, out=DEVNULL)
        while process.returncode is None:
            if len(list(self.photos.rglob(pattern))) >= count:
                process.kill()
                break
            await asyncio.sleep(0.02)
        assert await process.wait() == -SIGKILL

    def originals(self) -> int:
        return sum(request.original_of is not None for request in self.sandbox.requests)


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
async def family(sshd: Server, tmp_path: Path) -> AsyncIterator[Family]:
    async with Sandbox(sample_library(30)) as sandbox:
        yield made(sandbox, sshd, tmp_path)


async def test_a_server_of_rclones_holds_what_a_folder_would(tmp_path: Path):
    with served("rclone", tmp_path) as server:
        async with Sandbox(sample_library(30)) as sandbox:
            family = made(sandbox, server, tmp_path)
            folder = family.home / "photos"
            plain = f'[[mirrors.all.destinations]]\npath = "{folder}"\nmin_free = 0\n'
            family.write(plain, server.destination())
            counts = await family.synced()
    expected = tree(folder)
    assert len(expected) > 20
    assert tree(family.photos) == expected
    assert family.originals() == len(expected)
    assert sum(counts.values()) == 2 * len(expected)
    assert family.held() == {path: (family.photos / path).stat().st_mtime_ns for path in expected}
    assert not [path for path in family.own() if path.startswith(("locks/", "uploads/"))]


async def test_the_commands_know_a_server(family: Family, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(family.state.parent))
    await family.synced_here()
    before = tree(family.photos)
    assert family.held() == {path: (family.photos / path).stat().st_mtime_ns for path in before}
    own = set(family.own())
    assert await family.synced_here() == {"unchanged": len(before)}
    assert set(family.own()) == own
    lost, drifted, rotten, *_ = sorted(before)

    lock = family.photos / ".mirror/locks/theirs"
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "boot": "x", "since": "today"}))
    assert "process 1 on elsewhere, since today" in await family.refused("sync", code=7)
    os.utime(lock, (0, 0))  # by the server's clock, it is over

    # Another machine, or this one with a new disk, and somebody was there in the meantime.
    shutil.rmtree(family.state / "sftp")
    (family.photos / lost).unlink()
    (family.photos / drifted).write_bytes(b"edited")
    family.sandbox.requests.clear()
    counts = await family.synced_here()
    assert counts.pop("unchanged") == len(before) - 2
    assert sum(counts.values()) == family.originals() == 2
    assert tree(family.photos) == before
    assert not lock.exists()

    restored = await family.run("quarantine", "restore", "family", drifted)
    assert restored.code == 0, restored.said
    assert sorted(tree(family.photos).values()) == sorted([*before.values(), b"edited"])

    stamp = (family.photos / rotten).stat()
    (family.photos / rotten).write_bytes(bytes(len(before[rotten])))
    os.utime(family.photos / rotten, (stamp.st_atime, stamp.st_mtime))
    repaired = await family.run("verify", "family", "--repair")
    assert repaired.code == 0, repaired.said
    assert rotten in repaired.said
    assert {path: tree(family.photos)[path] for path in before} == before

    shutil.rmtree(family.state / "sftp")
    (family.photos / ".mirror/index.sqlite3").unlink()
    family.sandbox.requests.clear()
    assert await family.synced_here() == {"adopted": len(before)}
    assert family.originals() == 0
    status = await family.run("status", "family")
    assert family.server.url() in status.out
    assert "free" not in status.out, "that of this machine"


async def test_a_server_that_is_not_known_is_refused_with_what_to_do(family: Family):
    family.write(family.server.destination(known_hosts=str(family.home / "none")))
    said = await family.refused("sync")
    assert "SHA256:" in said
    assert "ssh-keyscan" in said
    assert not family.photos.exists()


async def test_without_the_extra_it_says_what_to_install(family: Family):
    hidden = family.home / "hidden" / "asyncssh"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text('raise ImportError("no asyncssh here")')
    path = f"{hidden.parent}{os.pathsep}{Path(__file__).parents[2]}"
    for words in (["sync"], ["profile", "check"]):
        said = await family.refused(*words, PYTHONPATH=path)
        assert "uv tool install '.[sftp]'" in said
        assert "in order" not in said


async def test_a_key_file_that_is_none_is_found_without_asking_the_server(family: Family):
    (family.home / "text").write_text("no key")
    family.write(
        family.server.destination(key_file=str(family.home / "text")),
        family.server.destination("other", key_file=str(family.home / "nothing")),
        family.server.destination("third"),
    )
    family.server.kill()
    said = await family.refused("profile", "check")
    assert f"{family.home / 'text'} is no private key" in said
    assert f"{family.home / 'nothing'}: No such file" in said
    family.write()
    ended = await family.run("profile", "check", "family")
    assert ended.code == 0, ended.said
    assert "in order" in ended.out


async def test_a_killed_run_is_finished_by_the_next(sshd: Server, tmp_path: Path):
    count = 60
    async with Sandbox(photos(count)) as sandbox:
        family = made(sandbox, sshd, tmp_path)
        await family.killed_after(count // 2)
        whole = tree(family.photos)
        assert all(whole.values())
        # What has its name is moved, the rest comes; and that is cut in the middle, too.
        family.write(text='layout = "{taken:%Y}/{id8}/{filename}"')
        await family.killed_after(count // 2, "*/????????/*.jpg")
        await family.synced()
        lying = list(family.photos.glob("*/????????/*.jpg"))
        assert len(lying) == count == len(tree(family.photos))
        assert set(whole.values()) <= set(tree(family.photos).values())
        assert not [path for path in family.own() if path.startswith("uploads/")]
        assert family.originals() <= count + 2 * 8, "what was whole is not asked for again"
