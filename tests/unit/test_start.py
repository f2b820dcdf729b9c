"""What a start loads: heavy packages only where they are used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"aiohttp", "asyncio", "pydantic", "pydantic_settings", "rich", "structlog"}
CODE = """
import json, sys
from mirror.__main__ import main
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)))
"""


def loaded(home: Path, *args: str) -> set[str]:
    """The heavy packages that a command has loaded when it ends."""
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *args],
        env={"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=True,
        text=True,
    )
    assert not ended.stderr
    return HEAVY & set(json.loads(ended.stdout.splitlines()[-1]))


def test_the_version_is_told_without_any_of_them(tmp_path: Path):
    assert loaded(tmp_path, "--version") == set()


@pytest.mark.parametrize("command", [["status", "photos"], ["profile", "show", "photos"]])
def test_what_asks_no_server_loads_only_what_reads_a_profile(tmp_path: Path, command: list[str]):
    folder = tmp_path / ".config/mirror/profiles"
    folder.mkdir(parents=True)
    folder.joinpath("photos.toml").write_text(
        """
server = "https://photos.example.org"
accounts.me.api_key.env = "KEY"
mirrors.all.destinations = [{ path = "~/photos" }]
"""
    )
    tmp_path.joinpath("photos").mkdir()
    assert loaded(tmp_path, *command) == {"pydantic"}


def test_a_command_that_logs_does_not_load_rich_for_it(tmp_path: Path):
    code = (
        "import sys; from mirror import commands, logs; logs.logger().error('error', v=1);"
        "assert 'structlog' in sys.modules and 'rich' not in sys.modules;"
        "import rich.console"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
