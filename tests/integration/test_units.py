"""The units that are shipped are what systemd takes them for."""

import shutil
import subprocess
from pathlib import Path

import pytest

_UNITS = Path(__file__).parents[2] / "systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="Debian package systemd")
def test_systemd_finds_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    for unit in _UNITS.glob("mirror@.*"):
        # It wants the program to exist, and says an unknown key on stderr alone.
        text = unit.read_text().replace("/usr/local/bin/mirror", "/bin/true")
        (tmp_path / unit.name).write_text(text)

    told = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.iterdir()],
        check=True,
        capture_output=True,
        text=True,
    )

    assert told.stderr == ""
