"""The command as people run it: its own process, no terminal."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.starts import Started, anew, environment, started
from tests.planted import assert_unsaid
from tests.published import assert_published


@dataclass(frozen=True)
class Ended:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log; every line is checked against the published schema."""
        lines = [json.loads(line) for line in self.err.splitlines()]
        for line in lines:
            assert_published(line)
        return lines

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines if line["event"] == name]

    @property
    def said(self) -> str:
        """Everything a person would read."""
        return self.out + self.err


async def mirror(home: Path, *args: str | Path, **environ: str) -> Ended:
    """Run `mirror` with nothing of our own environment but PATH."""
    words = ("-m", "mirror", *map(str, args))
    return await _ended(await started(*words, folder=home, environ=environment(home) | environ))


async def mirror_anew(home: Path, *args: str | Path, **environ: str) -> Ended:
    """The same where the start or the end of the interpreter matters."""
    words = ("-m", "mirror", *map(str, args))
    return await _ended(await anew(*words, folder=home, environ=environment(home) | environ))


async def _ended(process: Started) -> Ended:
    out, err = await process.communicate()
    return ended_with(process.returncode, out, err)


def ended_with(code: int | None, out: bytes, err: bytes) -> Ended:
    """What a process said, checked: nothing secret, and what looks like a log line is one."""
    ended = Ended(code or 0, out.decode(), err.decode())
    assert_unsaid(ended.said)
    for line in ended.err.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):  # a kill leaves the half of one
            assert_published(json.loads(line))
    return ended


def write_profile(
    home: Path, server: str, key: str, *, text: str = "", name: str = "family"
) -> Path:
    """A profile with one mirror into `home/photos`; `text` is added to the mirror."""
    folder = home / ".config" / "mirror" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    key_file = home / "key"
    key_file.write_text(key + "\n")
    key_file.chmod(0o600)
    path = folder / f"{name}.toml"
    path.write_text(
        f'server = "{server}"\n'
        f'[accounts.me]\napi_key = {{ file = "{key_file}" }}\n'
        f"[mirrors.all]\n{text}\n"
        f'[[mirrors.all.destinations]]\npath = "{home / "photos"}"\nmin_free = 0\n'
    )
    return path
