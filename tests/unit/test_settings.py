"""What comes from the command line and the environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.settings import GlobalSettings, global_settings, state_directory


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in GlobalSettings.model_fields:
        monkeypatch.delenv(f"MIRROR_{name.upper()}", raising=False)


def test_without_anything_set_nothing_stands_above_the_profile():
    settings = global_settings(transfers=None)
    assert (settings.transfers, settings.min_free, settings.profiles) == (None, None, None)
    assert (settings.log_format, settings.log_file) == ("auto", None)


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("MIRROR_PROFILES", "~/p")
    monkeypatch.setenv("MIRROR_LOG_FORMAT", "json")
    monkeypatch.setenv("MIRROR_LOG_FILE", "/log")
    monkeypatch.setenv("MIRROR_TRANSFERS", "3")
    monkeypatch.setenv("MIRROR_MIN_FREE", "2KiB")
    settings = global_settings(transfers=None)
    assert settings.profiles == Path("/home/me/p")
    assert (settings.log_format, settings.log_file) == ("json", Path("/log"))
    assert (settings.transfers, settings.min_free) == (3, 2048)


def test_the_command_line_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("MIRROR_TRANSFERS", "3")
    assert global_settings(transfers=5).transfers == 5
    assert global_settings(transfers="5").transfers == 5


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("MIRROR_TRANSFERS", "")
    assert global_settings().transfers is None


def test_wrong_values_are_told_at_once_by_the_name_they_were_given_under(monkeypatch):
    monkeypatch.setenv("MIRROR_TRANSFERS", "900")
    monkeypatch.setenv("MIRROR_LOG_FORMAT", "xml")
    with pytest.raises(UsageError) as caught:
        global_settings(min_free="much")
    message = str(caught.value)
    assert "MIRROR_TRANSFERS should be less than or equal to 64" in message
    assert "MIRROR_LOG_FORMAT should be 'auto', 'json' or 'text'" in message
    assert '--min-free should be a size, such as "1GiB"' in message


def test_the_state_directory_is_systemd_s_or_the_user_s(monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mirror:/var/lib/other")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_directory() == Path("/var/lib/mirror")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert state_directory() == Path("/state/mirror")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_directory() == Path("/home/me/.local/state/mirror")
    monkeypatch.setenv("HOME", "~")  # what is left when nobody knows
    with pytest.raises(UsageError, match="no folder to remember"):
        state_directory()


def test_errors_and_secrets_are_imported_without_pydantic():
    code = "import sys, mirror.errors, mirror.secrets; print('pydantic' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout == "False\n"
