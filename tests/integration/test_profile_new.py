"""`mirror profile new`: by options, and by a person at a terminal; what it writes works."""

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
import pytest

from mirror.sandbox import Sandbox
from tests.integration.command import Ended, mirror
from tests.integration.mirroring import photos, whole
from tests.planted import assert_unsaid
from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, served

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(photos(3)) as started:
        yield started


def key_file(home: Path, sandbox: Sandbox, key: str = "minimum") -> Path:
    path = home / "me.key"
    path.write_text(sandbox.api_keys[key] + "\n")
    path.chmod(0o600)
    return path


def written(home: Path) -> Path:
    return home / ".config/mirror/profiles/family.toml"


async def new(home: Path, *options: str | Path, **environ: str) -> Ended:
    return await mirror(home, "profile", "new", *options, "--log-format", "text", **environ)


async def assert_works(home: Path, files: int = 3) -> None:
    assert (await mirror(home, "profile", "check", "family", "--online")).code == 0
    assert (await mirror(home, "sync", "family")).code == 0
    assert sum(path.suffix == ".jpg" for path in (home / "photos").rglob("*")) == files


# -- by options ------------------------------------------------------------------------------------


async def test_options_make_a_profile_that_works(tmp_path: Path, sandbox: Sandbox):
    ended = await new(
        tmp_path, "--name", "family", "--server", sandbox.url,
        "--key-file", key_file(tmp_path, sandbox), "--destination", "photos",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Immich 3.1.0 answers" in ended.out
    assert "permissions: asset.download, asset.read" in ended.out
    assert "to come: 3" in ended.out
    assert written(tmp_path).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "photos").exists()
    await assert_works(tmp_path)


async def test_filters_and_a_layout_come_from_options_too(tmp_path: Path, sandbox: Sandbox):
    ended = await new(
        tmp_path, "--name", "family", "--server", sandbox.url, "--key-env", "MY_KEY",
        "--destination", tmp_path / "photos", "--archive", "--taken-after", "2021-01-01",
        "--layout", "{taken:%Y}/{filename}", MY_KEY=sandbox.api_keys["minimum"],
    )  # fmt: skip
    assert ended.code == 0, ended.err
    told = tomllib.loads(written(tmp_path).read_text())
    assert told["accounts"]["me"]["api_key"] == {"env": "MY_KEY"}
    (only,) = told["mirrors"].values()
    assert only["layout"] == "{taken:%Y}/{filename}"
    assert only["filter"] == {"visibility": ["timeline", "archive"], "taken_after": "2021-01-01"}


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"--server": "http://127.0.0.1:9"}, 3, "server-unreachable"),
        ({"--server": "not a url"}, 2, "profile"),
        ({"--key-file": "nothing.key"}, 3, "key-refused"),
        ({"--destination": "/proc/photos"}, 4, ""),
        ({"--destination": "ftp://me@host/photos"}, 2, "s3://"),
        ({"--layout": "{nonsense}"}, 2, "nonsense"),
        ({"--taken-after": "yesterday"}, 2, "taken_after"),
        ({"--name": "../family"}, 2, "no name"),
    ],
)
async def test_an_option_that_is_wrong_writes_nothing(
    tmp_path: Path, sandbox: Sandbox, changes: dict[str, str], code: int, words: str
):
    given = {
        "--name": "family", "--server": sandbox.url,
        "--key-file": str(key_file(tmp_path, sandbox)), "--destination": "photos",
    } | changes  # fmt: skip
    before = whole(tmp_path)
    ended = await new(tmp_path, *(word for option in given.items() for word in option))
    assert ended.code == code, ended.said
    assert words in ended.err
    assert whole(tmp_path) == before


async def test_a_key_that_lacks_a_permission_is_refused_and_named(tmp_path: Path, sandbox: Sandbox):
    sandbox.key("minimum").permissions.remove("asset.download")
    ended = await new(
        tmp_path, "--name", "family", "--server", sandbox.url,
        "--key-file", key_file(tmp_path, sandbox), "--destination", "photos",
    )  # fmt: skip
    assert ended.code == 3
    assert "asset.download" in ended.err
    assert not written(tmp_path).exists()


async def test_a_profile_that_is_there_is_never_overwritten(tmp_path: Path, sandbox: Sandbox):
    path = written(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    ended = await new(
        tmp_path, "--name", "family", "--server", sandbox.url,
        "--key-file", key_file(tmp_path, sandbox), "--destination", "photos",
    )  # fmt: skip
    assert ended.code == 2
    assert path.read_text() == "mine"


async def test_without_a_terminal_what_is_missing_is_named(tmp_path: Path):
    ended = await new(tmp_path, "--name", "family")
    assert ended.code == 2
    assert "--server, --destination, --key-file, --key-env or --key-credential" in ended.err


async def test_a_bucket_is_tried_and_written_as_one(tmp_path: Path, sandbox: Sandbox):
    environ = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "x",
    }  # fmt: skip
    with served(tmp_path / "store") as store:
        environ["AWS_ENDPOINT_URL"] = store.endpoint
        ended = await new(
            tmp_path, "--name", "family", "--server", sandbox.url,
            "--key-file", key_file(tmp_path, sandbox), "--destination", f"s3://{BUCKET}/us",
            **environ,
        )  # fmt: skip
        assert ended.code == 0, ended.said
        (only,) = tomllib.loads(written(tmp_path).read_text())["mirrors"].values()
        assert only["destinations"] == [{"url": f"s3://{BUCKET}/us"}]
        ended = await mirror(tmp_path, "sync", "family", **environ)
        assert ended.code == 0, ended.said
        found = [meta["path"] for batch in obstore.list(store.store("us")) for meta in batch]
        assert sum(path.endswith(".jpg") for path in found) == 3


async def test_a_server_that_does_not_answer_is_no_folder_here(tmp_path: Path, sandbox: Sandbox):
    before = whole(tmp_path)
    key = key_file(tmp_path, sandbox)
    ended = await new(
        tmp_path, "--name", "family", "--server", sandbox.url,
        "--key-file", key, "--destination", "sftp://me@127.0.0.1:1/photos",
    )  # fmt: skip
    assert ended.code == 4, ended.said
    assert "sftp://127.0.0.1:1: the server cannot be reached" in ended.err
    key.unlink()
    assert whole(tmp_path) == before


# -- at a terminal ---------------------------------------------------------------------------------


# What runs in the background of a shell, as tests may, hands down a SIGINT that is ignored.
_AT_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("mirror", run_name="__main__", alter_sys=True)
"""


class Person:
    """Answers questions at a pseudo-terminal."""

    def __init__(self, home: Path) -> None:
        self.said = ""
        self._terminal, slave = pty.openpty()
        self._child = subprocess.Popen(
            [sys.executable, "-c", _AT_A_TERMINAL, "profile", "new"],
            stdin=slave, stdout=slave, stderr=slave, cwd=home, start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(PROJECT),
                 "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)

    async def hears(self, words: str) -> None:
        """Wait for a question."""
        mark = len(self.said)
        while words not in self.said[mark:]:
            chunk = await asyncio.to_thread(self._read)
            assert chunk, f"{words!r} was never said: {self.said}"
            self.said += chunk

    def says(self, answer: str) -> None:
        os.write(self._terminal, f"{answer}\n".encode())

    async def answers(self, *dialogue: tuple[str, str]) -> None:
        for question, answer in dialogue:
            await self.hears(question)
            self.says(answer)

    async def ends(self) -> int:
        while chunk := await asyncio.to_thread(self._read):
            self.said += chunk
        code = await asyncio.to_thread(self._child.wait)
        os.close(self._terminal)
        assert_unsaid(self.said)
        return code

    async def interrupts(self) -> int:
        """Ctrl-C, and again: one that comes between a question and the reading of it is missed."""
        ending = asyncio.create_task(self.ends())
        while not ending.done():
            self._child.send_signal(signal.SIGINT)
            await asyncio.wait([ending], timeout=3)
        return await ending

    def _read(self) -> str:
        """What is said next; nothing once the command has ended, or says no word for a minute."""
        try:
            if not select.select([self._terminal], [], [], 60)[0]:
                self._child.kill()
                return ""
            return os.read(self._terminal, 65536).decode()
        except OSError:
            return ""


async def test_a_person_is_asked_and_each_answer_is_tried_at_once(tmp_path: Path, sandbox: Sandbox):
    person = Person(tmp_path)
    await person.answers(
        ("Name of the profile [photos]: ", "family"),
        ("Immich server: ", "http://127.0.0.1:9"),
        ("Immich server: ", sandbox.url),
        ("Key: ", ""),
        ("API key (it is not shown): ", "wrong-key-0123456789"),
        ("Key: ", ""),
        ("API key (it is not shown): ", sandbox.api_keys["minimum"]),
        ("Which photos", "some"),
        ("Which photos", ""),
        ("taken since", "never"),
        ("taken since", ""),
        ("Path of each photo", ""),
        ("for the photos [~/photos]: ", ""),
    )
    code = await person.ends()
    assert code == 0, person.said
    assert "server-unreachable" in person.said
    assert "key-refused" in person.said
    assert "'some' is none of them" in person.said
    key = tmp_path / ".config/mirror/family.key"
    assert key.read_text() == sandbox.api_keys["minimum"] + "\n"
    for file in (key, written(tmp_path)):
        assert file.stat().st_mode & 0o777 == 0o600
    assert sandbox.api_keys["minimum"] not in written(tmp_path).read_text()
    await assert_works(tmp_path)


@pytest.mark.parametrize("questions", [0, 1, 3, 5])
async def test_an_interruption_leaves_nothing(tmp_path: Path, sandbox: Sandbox, questions: int):
    before = whole(tmp_path)
    dialogue = [
        ("Name of the profile", "family"),
        ("Immich server: ", sandbox.url),
        ("Key: ", ""),
        # Not a word less: what is typed before the terminal is silenced is thrown away.
        ("API key (it is not shown): ", sandbox.api_keys["minimum"]),
        ("Which photos", ""),
        ("taken since", ""),
    ]
    person = Person(tmp_path)
    await person.answers(*dialogue[:questions])
    await person.hears(dialogue[questions][0])
    assert await person.interrupts() == 130
    assert not re.search("Traceback", person.said)
    assert whole(tmp_path) == before
