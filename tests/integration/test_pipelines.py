"""The log as operators use it: rotated, routed by real programs, and read again."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.events import Event, emit
from mirror.logs import LogFile, configure
from mirror.sandbox import Sandbox
from tests.integration.command import Ended, mirror, write_profile
from tests.integration.mirroring import NOON, content, empty, until

_SHIPPED = Path(__file__).parents[2] / "systemd"
_ODD_NAME = 'quo"te \\ back ☃ \u202e \x1b[31m.jpg'


def found(program: str, package: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/lib/systemd")
    if path is None:
        pytest.skip(f"needs {program} (Debian: {package})")
    return path


# -- rotation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["create", "nocreate", "copytruncate"])
def test_a_rotated_log_file_loses_no_line_and_doubles_none(tmp_path: Path, how: str) -> None:
    logrotate = found("logrotate", "logrotate")
    log, rules = tmp_path / "all.log", tmp_path / "rules"
    rules.write_text(f"{log} {{\n rotate 9\n {how}\n}}\n")
    rules.chmod(0o644)
    tmp_path.chmod(0o755)
    command = [logrotate, "--force", "--state", str(tmp_path / "state"), str(rules)]
    file = LogFile(log)
    for number in range(30):
        if number in {10, 20}:
            subprocess.run(command, check=True, capture_output=True)
        file.write(str(number))
    file.close()
    lines = [log.with_name(f"all.log{end}").read_text() for end in (".2", ".1", "")]
    assert "".join(lines).split() == [str(number) for number in range(30)]


def test_the_shipped_rules_are_what_logrotate_understands(tmp_path: Path) -> None:
    logrotate = found("logrotate", "logrotate")
    rules = tmp_path / "mirror"
    shutil.copy(_SHIPPED / "logrotate-mirror.conf", rules)
    rules.chmod(0o644)
    told = subprocess.run(
        [logrotate, "--debug", "--state", str(tmp_path / "state"), str(rules)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "error" not in told.stderr


# -- rsyslog ---------------------------------------------------------------------------------------


@contextmanager
def rsyslog(folder: Path) -> Iterator[None]:
    """The shipped configuration, with its own folders and nothing of the machine's."""
    program = found("rsyslogd", "rsyslog")
    if not list(Path("/usr/lib").rglob("mmjsonparse.so")):
        pytest.skip("needs rsyslog's mmjsonparse (Debian: rsyslog)")
    shipped = (_SHIPPED / "rsyslog-mirror.conf").read_text()
    work = folder / "work"
    work.mkdir()
    rules = folder / "rsyslog.conf"
    rules.write_text(
        f'global(workDirectory="{work}" maxMessageSize="64k")\n'
        + shipped.replace("/var/log/mirror", str(folder / "log"))
    )
    process = subprocess.Popen(
        [program, "-n", "-f", str(rules), "-i", str(folder / "pid")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=20)
    assert "error" not in complaints.lower(), complaints


async def _run(home: Path, sandbox: Sandbox, name: str) -> Ended:
    write_profile(home, sandbox.url, sandbox.api_keys["minimum"], name=name)
    log = home / "log/all.log"
    return await mirror(home, "sync", name, "--rebind", "--log-file", str(log), "--quiet")


async def test_rsyslog_sorts_the_lines_of_runs_by_profile_byte_by_byte(tmp_path: Path) -> None:
    library = empty()
    library.upload(_ODD_NAME, content("odd"), taken_at=NOON)
    for number in range(50):
        library.upload(f"{'long ' * number}.jpg", content(number), taken_at=NOON)
    (tmp_path / "log").mkdir()
    sorted_into = tmp_path / "log/by-profile"
    async with Sandbox(library) as sandbox:
        with rsyslog(tmp_path):
            for name in ("family", "second-one"):
                ended = await _run(tmp_path, sandbox, name)
                assert ended.code == 0, ended.err
            lines = (tmp_path / "log/all.log").read_bytes().splitlines(keepends=True)

            def all_came() -> bool:
                files = sorted_into.glob("*.jsonl") if sorted_into.is_dir() else []
                return sum(len(file.read_bytes().splitlines()) for file in files) == len(lines)

            await until(all_came)
    assert {path.name for path in sorted_into.iterdir()} == {
        "family.jsonl",
        "second-one.jsonl",
        "_runs.jsonl",
    }
    for path in sorted_into.iterdir():
        wanted = [line for line in lines if json.loads(line).get("profile", "_runs") == path.stem]
        assert path.read_bytes() == b"".join(wanted)


# -- journald's files ------------------------------------------------------------------------------


def test_a_line_comes_out_of_a_journal_as_it_went_in(tmp_path: Path) -> None:
    write = found("systemd-journal-remote", "systemd-journal-remote")
    read = found("journalctl", "systemd")
    log = tmp_path / "log"
    configure(json_lines=True, level="info", log_file=log)
    emit("info", Event.ASSET_DOWNLOADED, path=_ODD_NAME, reason="new", bytes=5, asset_id="1")
    configure(json_lines=True, level="info")
    line = log.read_text().rstrip("\n")
    entry = (
        f"__REALTIME_TIMESTAMP=1700000000000000\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID={'0' * 31}1\n"
    )
    (tmp_path / "export").write_text(f"{entry}MESSAGE={line}\n\n")
    journal = tmp_path / "mirror.journal"
    subprocess.run(
        [write, f"--output={journal}", str(tmp_path / "export")], check=True, capture_output=True
    )
    told = subprocess.run(
        [read, "--file", str(journal), "--output", "json"], check=True, capture_output=True
    )
    message = json.loads(told.stdout)["MESSAGE"]
    # journalctl gives what is not plain text as a list of bytes.
    text = message if isinstance(message, str) else bytes(message).decode()
    assert json.loads(text) == json.loads(line)
    assert json.loads(text)["path"] == _ODD_NAME


# -- the key ---------------------------------------------------------------------------------------


async def test_the_key_is_in_no_argument_and_in_no_environment_of_a_child(tmp_path: Path) -> None:
    found("strace", "strace")
    async with Sandbox(empty()) as sandbox:
        key = sandbox.api_keys["minimum"]
        profile = write_profile(tmp_path, sandbox.url, key)
        text = profile.read_text()
        command = json.dumps(["cat", str(tmp_path / "key")])
        start = text.index("api_key")
        end = text.index("\n", start)
        profile.write_text(f"{text[:start]}api_key = {{ command = {command} }}{text[end:]}")
        profile.chmod(0o600)
        trace = tmp_path / "trace"
        process = await asyncio.create_subprocess_exec(
            "strace", "-f", "-v", "-s", "65536", "-e", "trace=execve", "-o", str(trace),
            sys.executable, "-m", "mirror", "sync", "family",
            cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
        )  # fmt: skip
        _, err = await process.communicate()
    assert process.returncode == 0, err
    calls = trace.read_text()
    assert str(tmp_path / "key") in calls
    assert key not in calls
