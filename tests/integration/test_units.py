"""The units that are shipped are what systemd takes them for."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.core.model import Destination, Mirror
from mirror.core.secret import CommandSecret, CredentialSecret, FileSecret, Secret
from mirror.errors import ProfileError
from mirror.profile import Account, Profile
from mirror.profile.loading import load_profile
from mirror.profile.unit import drop_in
from mirror.sandbox import Sandbox
from mirror.settings import STATE_OF_UNITS
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import photos

_UNITS = Path(__file__).parents[2] / "systemd"
_ODD = '/srv/photos of "Ann" 100%\\x'

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="Debian package systemd"
)


def a_profile(*paths: str, key: Secret | None = None, name: str = "family") -> Profile:
    key = key or CredentialSecret("alice")
    return Profile(
        name=name,
        path=Path("/etc/mirror/profiles/family.toml"),
        accounts={"alice": Account(name="alice", server="https://x", api_key=key)},
        mirrors=(
            Mirror(
                name="all",
                account="alice",
                destinations=tuple(Destination(path=path) for path in paths),
            ),
        ),
    )


def installed(folder: Path, profile: Profile | None = None) -> list[Path]:
    """The units as an administrator puts them, with a program that is there."""
    units = []
    for unit in _UNITS.glob("mirror*@.*"):
        if unit.is_dir():
            shutil.copytree(unit, folder / unit.name)
            continue
        text = unit.read_text().replace("/usr/local/bin/mirror", "/bin/true")
        units.append(folder / unit.name)
        units[-1].write_text(text)
    if profile is not None:
        extra = folder / f"mirror@{profile.name}.service.d/profile.conf"
        extra.parent.mkdir()
        extra.write_text(drop_in(profile))
    return units


def analyzed(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *command], check=False, capture_output=True, text=True
    )


def assert_nothing_to_say(*command: str | Path) -> None:
    """An unknown key is said on stderr alone."""
    told = analyzed(*command)
    assert (told.returncode, told.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    assert_nothing_to_say("verify", *installed(tmp_path))


@needs_systemd
@pytest.mark.parametrize("path", ["/srv/photos", "/home/ann/photos", _ODD])
def test_systemd_finds_nothing_to_say_of_a_profiles_drop_in(tmp_path: Path, path: str) -> None:
    profile = a_profile(path)
    installed(tmp_path, profile)
    assert_nothing_to_say("verify", tmp_path / "mirror@family.service")


@needs_systemd
@pytest.mark.parametrize("path", ["/srv/photos", "/home/ann/photos"])
def test_the_unit_exposes_little_with_a_profiles_drop_in(tmp_path: Path, path: str) -> None:
    profile = a_profile(path)
    installed(tmp_path, profile)
    # Offline, it does not read drop-ins: they are appended, which means the same.
    unit = tmp_path / "mirror@family.service"
    whole = (tmp_path / "mirror@.service").read_text() + drop_in(profile)
    unit.write_text(whole)
    told = analyzed("security", "--offline=true", "--threshold=20", unit)
    assert told.returncode == 0, told.stdout.splitlines()[-1]


@needs_systemd
def test_systemd_finds_nothing_to_say_of_the_units_of_one_user(tmp_path: Path) -> None:
    units = []
    for unit in (_UNITS / "user").glob("mirror@.*"):
        text = unit.read_text().replace("%h/.local/bin/mirror", "/bin/true")
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)
    assert len(units) == 2
    told = analyzed("--user", "verify", *units)
    # Without a login it cannot ask a manager; of the units it has nothing to say.
    said = [line for line in told.stderr.splitlines() if "mirror@" in line]
    assert said == []


@pytest.mark.parametrize("unit", ["mirror@.service", "user/mirror@.service"])
def test_the_log_goes_to_the_journal(unit: str) -> None:
    # StandardError= is StandardOutput= where nothing is said of it.
    assert "\nStandardError=journal\n" in (_UNITS / unit).read_text()


def test_status_knows_where_the_unit_remembers() -> None:
    (name,) = re.findall(
        "^StateDirectory=(.+)$", (_UNITS / "mirror@.service").read_text(), re.MULTILINE
    )
    assert Path("/var/lib", name) == STATE_OF_UNITS


# -- what the README tells an administrator to do --------------------------------------------------

_README = (_UNITS / "README.md").read_text()
_STEPS = re.findall(r"^\*\*\d\. .*?^```sh\n(.*?)\n```$", _README, re.MULTILINE | re.DOTALL)
_DROP_IN = "etc/systemd/system/mirror@family.service.d/profile.conf"
(_SHARDS,) = re.findall(r"^(sudo cp systemd/mirror-shard@.service .*)$", _README, re.MULTILINE)
_DROP_IN_OF_SHARDS = "etc/systemd/system/mirror-shard@.service.d/profile.conf"


@dataclass
class Machine:
    """A root of its own for these commands: `sudo` only runs what it is given."""

    root: Path

    def __post_init__(self) -> None:
        (self.root / "bin").mkdir()
        (self.root / "etc/systemd/system").mkdir(parents=True)
        (self.root / "srv").mkdir()
        self.program("sudo", 'exec "$@"')
        for name in ("id", "chown", "systemctl"):
            self.program(name, "true")
        self.program("sudoedit", "true")

    def program(self, name: str, script: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def does(self, command: str) -> int:
        return subprocess.run(
            ["sh", "-c", re.sub("(?=/(?:etc|srv)/)", str(self.root), command)],
            check=False,
            cwd=_UNITS.parent,
            env={"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
        ).returncode

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_nightly_run_takes_five_commands() -> None:
    assert len(_STEPS) == 5
    assert "in five commands" in _README


def test_folders_that_are_there_keep_their_mode(machine: Machine) -> None:
    folders = [machine.root / path for path in ("srv/photos", "srv/photos/alice", "srv/photos/bob")]
    assert machine.does(_STEPS[1]) == 0
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o755}
    for folder in folders:
        folder.chmod(0o750)
    assert machine.does(_STEPS[1]) == 0
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o750}


def test_nobody_is_left_out_of_the_proof(machine: Machine) -> None:
    (proof,) = re.findall(r"^(sudo sh -c .*SHA1SUMS.*)$", _README, re.MULTILINE)
    for name in ("alice", "bob"):
        folder = machine.root / "srv/photos" / name
        (folder / ".mirror").mkdir(parents=True)
        (folder / "a.jpg").write_text(name)
        sums = subprocess.run(["sha1sum", "a.jpg"], cwd=folder, capture_output=True, check=True)
        (folder / ".mirror/SHA1SUMS").write_bytes(sums.stdout)
    assert machine.does(proof) == 0
    (machine.root / "srv/photos/bob/a.jpg").write_text("rotten")
    assert machine.does(proof) != 0


def test_the_keys_and_the_profile_outlive_a_second_time(machine: Machine) -> None:
    profile, key = "etc/mirror/profiles/family.toml", "etc/mirror/credentials/alice"
    assert machine.does(_STEPS[2]) == 0
    assert machine.text(profile) == (_UNITS.parent / "profiles/nightly.toml").read_text()
    assert (machine.root / key).stat().st_mode & 0o777 == 0o600
    for path in (profile, key):
        (machine.root / path).write_text("mine")
    assert machine.does(_STEPS[2]) == 0
    assert [machine.text(path) for path in (profile, key)] == ["mine", "mine"]


@pytest.mark.parametrize(
    ("command", "path"),
    [(_STEPS[3], _DROP_IN), (_SHARDS, _DROP_IN_OF_SHARDS)],
    ids=["one", "shards"],
)
def test_a_drop_in_outlives_a_profile_that_is_not_right(
    machine: Machine, command: str, path: str
) -> None:
    needs = drop_in(a_profile(_ODD))
    (machine.root / "needs").write_text(needs)
    machine.program("mirror", f"cat {machine.root}/needs")
    assert machine.does(command) == 0
    assert machine.text(path) == needs
    machine.program("mirror", "exit 2")
    assert machine.does(command) == 2
    assert machine.text(path) == needs


def test_a_drop_in_is_made_again_as_it_was_made() -> None:
    made = _STEPS[3][_STEPS[3].index("needs=") :]
    assert f"\n{made} && sudo systemctl daemon-reload\n" in _README


def test_the_first_run_holds_up_nobody() -> None:
    assert "start --no-block mirror@family.service" in _STEPS[4]


def test_another_command_gets_the_keys_and_the_state_of_the_unit() -> None:
    (given,) = re.findall(r"^sudo systemd-run (.*) mirror plan family$", _README, re.MULTILINE)
    properties = set(re.findall(r"-p (\S+)", given))
    unit = (_UNITS / "mirror@.service").read_text().splitlines()
    profile = load_profile(_UNITS.parent / "profiles/nightly.toml")
    assert properties <= {*unit, *drop_in(profile).splitlines()}
    assert {"User=mirror", "StateDirectory=mirror"} <= properties
    assert len([each for each in properties if each.startswith("LoadCredential=")]) == 2


def test_cron_is_told_the_whole_path_of_the_program() -> None:
    (program,) = re.findall(r"^17 3 \* \* \*  (\S+) ", _README, re.MULTILINE)
    assert f"\nExecStart={program} " in (_UNITS / "mirror@.service").read_text()


# -- the drop-in -----------------------------------------------------------------------------------


def test_a_drop_in_names_what_the_profile_needs() -> None:
    told = drop_in(a_profile("/srv/a", "/srv/b")).splitlines()
    assert told[0] == "# /etc/systemd/system/mirror@family.service.d/profile.conf"
    assert told[2:] == [
        "[Unit]",
        "RequiresMountsFor=/srv/a",
        "RequiresMountsFor=/srv/b",
        "",
        "[Service]",
        "ReadWritePaths=-/srv/a",
        "ReadWritePaths=-/srv/b",
        "LoadCredential=alice:/etc/mirror/credentials/alice",
    ]


def test_what_lies_in_a_home_is_bound_into_the_unit() -> None:
    told = drop_in(a_profile("/home/ann/photos", key=FileSecret("/home/ann/key")))
    assert "ProtectHome=tmpfs\n" in told
    assert "BindPaths=-/home/ann/photos\n" in told
    assert "BindReadOnlyPaths=-/home/ann/key\n" in told
    assert "LoadCredential" not in told


def test_odd_paths_are_quoted() -> None:
    told = drop_in(a_profile(_ODD))
    assert 'ReadWritePaths="-/srv/photos of \\"Ann\\" 100%%\\\\x"\n' in told


def test_a_key_from_a_command_is_only_remarked_and_not_shown() -> None:
    told = drop_in(a_profile("/srv/a", key=CommandSecret(("pass", "show", "immich/secret"))))
    assert "immich/secret" not in told
    assert "# The key of account alice comes from a command" in told


def test_a_profile_that_no_unit_can_be_called_like_is_refused() -> None:
    with pytest.raises(ProfileError, match="no unit can be called"):
        drop_in(a_profile("/srv/a", name="the family"))


# -- what a run does, and the unit lets it do ------------------------------------------------------


# SQLite gives a journal to the database's owner, when root runs it; the unit never does.
_OF_ROOT = {"fchown"} if os.geteuid() == 0 else set()


def calls_of(name: str) -> set[str]:
    """The system calls of a set that systemd knows by this name."""
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
    )
    names = {line.strip() for line in told.stdout.splitlines()[1:] if "#" not in line} - {""}
    deeper = {call for each in names if each.startswith("@") for call in calls_of(each)}
    return {each for each in names if not each.startswith("@")} | deeper


def allowed_calls() -> set[str]:
    """What the service may ask of the kernel: anything else ends it at once."""
    allowed = calls_of("@default")
    for line in (_UNITS / "mirror@.service").read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            sets = line.partition("=")[2]
            calls = {call for name in sets.lstrip("~").split() for call in calls_of(name)}
            allowed = allowed - calls if sets.startswith("~") else allowed | calls
    return allowed


@needs_systemd
@pytest.mark.skipif(shutil.which("strace") is None, reason="Debian package strace")
async def test_a_run_makes_no_system_call_that_the_unit_forbids(tmp_path: Path) -> None:
    library = photos(30)
    async with Sandbox(library) as sandbox:
        key = sandbox.api_keys["minimum"]
        write_profile(tmp_path, sandbox.url, key, text='on_removed = "quarantine"')
        for number in range(2):
            traced = await traced_calls(tmp_path, f"trace-{number}")
            assert {"execve", "openat", "fsync"} <= traced
            assert traced - allowed_calls() <= _OF_ROOT
            first, second, third = list(library.own())[:3]
            library.trash(first.id)
            library.rename(second.id, "renamed.jpg")
            library.replace(third.id, b"other bytes")


async def traced_calls(home: Path, name: str) -> set[str]:
    """The system calls of one run."""
    command = [sys.executable, "-m", "mirror", "sync", "family"]
    ended = await asyncio.to_thread(
        subprocess.run,
        ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(home / name), *command],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(_UNITS.parent)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(re.findall(r"^\d+ +(\w+)\(", (home / name).read_text(), re.MULTILINE))


# -- a run under a service manager -----------------------------------------------------------------


async def test_a_service_manager_is_told_how_far_a_run_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        async with Sandbox(photos(3)) as sandbox:
            write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
            ended = await mirror(tmp_path, "sync", "family", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert ended.code == 0
        assert manager.recv(1000) == b"STATUS=all: at work"
        assert manager.recv(1000) == b"STATUS=all: 3 downloaded"


@pytest.mark.parametrize(
    ("key", "code", "last"),
    [
        (None, 0, "2 of 2 in sync: 3 copied, 3 downloaded"),
        ("", 3, "bob: no API key could be read from the file {file}; 1 of 2 in sync: 3 downloaded"),
    ],
)
async def test_the_last_word_to_a_service_manager_is_of_all_mirrors_and_failures_come_first(
    tmp_path: Path, key: str | None, code: int, last: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        async with Sandbox(photos(3)) as sandbox:
            good = sandbox.api_keys["minimum"]
            profile = write_profile(tmp_path, sandbox.url, good, text='account = "me"')
            file = tmp_path / "key of bob"
            file.write_text(good if key is None else key)
            file.chmod(0o600)
            with profile.open("a") as text:
                text.write(
                    f'[accounts.bob]\napi_key = {{ file = "{file}" }}\n'
                    f'[mirrors.bob]\naccount = "bob"\n[[mirrors.bob.destinations]]\n'
                    f'path = "{tmp_path / "of bob"}"\nmin_free = 0\n'
                )
            ended = await mirror(tmp_path, "sync", "family", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert ended.code == code
        said = list(everything_sent_to(manager))
    # Each of the two downloads some, and copies what the other one has.
    before, _, counts = said[-1].rpartition(": ")
    told = f"{before}: {', '.join(sorted(counts.split(', ')))}"
    assert told == f"STATUS={last.format(file=file)}"


def everything_sent_to(manager: socket.socket) -> Iterator[str]:
    with suppress(BlockingIOError):
        while True:
            yield manager.recv(1000).decode()


async def test_a_service_manager_that_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    async with Sandbox(photos(1)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        ended = await mirror(tmp_path, "sync", "family", NOTIFY_SOCKET="@nobody/listens")
    assert ended.code == 0
