"""Who is told of a profile's runs: the file of metrics, and the dead man's switch."""

import re
from pathlib import Path

import pytest

from mirror.core.secret import CommandSecret, CredentialSecret, EnvSecret, FileSecret, LiteralSecret
from mirror.errors import ProfileError
from mirror.metrics import HELP, PREFIX
from mirror.profile import Profile
from mirror.profile.loading import load_profile, show_profile
from mirror.profile.unit import drop_in

MINIMAL = (
    'server = "https://photos.example.org"\n[accounts.me]\napi_key = { env = "KEY" }\n'
    '[mirrors.m]\n[[mirrors.m.destinations]]\npath = "/srv/m"\n'
)
URL = "https://hc-ping.com/0f3a5e0c-secret"
REFERENCE = (Path(__file__).parents[2] / "profiles" / "README.md").read_text()


def loaded(folder: Path, line: str, mode: int = 0o644) -> Profile:
    path = folder / "family.toml"
    path.write_text(f"{line}\n{MINIMAL}")
    path.chmod(mode)
    return load_profile(path)


@pytest.mark.parametrize(
    ("written", "secret"),
    [
        (f'"{URL}"', LiteralSecret(URL)),
        ('{ credential = "ping" }', CredentialSecret("ping")),
        ('{ file = "/etc/mirror/ping" }', FileSecret("/etc/mirror/ping")),
        ('{ env = "PING" }', EnvSecret("PING")),
        ('{ command = ["pass", "ping"] }', CommandSecret(("pass", "ping"))),
    ],
)
def test_every_source_of_a_ping_arrives_unread(tmp_path: Path, written: str, secret: object):
    assert loaded(tmp_path, f"ping = {written}").ping == secret


def test_metrics_arrive_as_a_path(tmp_path: Path):
    assert loaded(tmp_path, 'metrics = "/run/m.prom"').metrics == Path("/run/m.prom")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('metrics = "/run/m.txt"', "should end in .prom"),
        ('metrics = "m.prom"', "should be absolute"),
        ("metrics = true", "should be the path of a file"),
        ('ping = "hc-ping.com/s3cret"', "should be an http or https URL"),
        ('ping = "https://hc-ping.com/s3cret s"', "should be an http or https URL"),
        ('ping = "https://[s3cret"', "should be an http or https URL"),
        ('ping = { url = "s3cret" }', "should be exactly one of"),
        ("ping = 3", "should be exactly one of"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_no_address_quoted(
    tmp_path: Path, line: str, words: str
):
    with pytest.raises(ProfileError) as refused:
        loaded(tmp_path, line)
    assert words in str(refused.value)
    assert "family.toml:1: " in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_command_for_the_ping_is_trusted_no_further_than_one_for_a_key(tmp_path: Path):
    with pytest.raises(ProfileError, match=r"ping\.command: is refused"):
        loaded(tmp_path, 'ping = { command = ["pass", "ping"] }', mode=0o666)


def test_a_shown_profile_masks_the_address_and_can_be_read_again(tmp_path: Path):
    profile = loaded(tmp_path, f'metrics = "/run/m.prom"\nping = "{URL}"')
    shown = show_profile(profile)
    assert "secret" not in shown
    (tmp_path / "shown.toml").write_text(shown)
    again = load_profile(tmp_path / "shown.toml")
    assert again.metrics == profile.metrics
    assert again.ping == LiteralSecret("https://********")


def test_the_unit_may_write_the_metrics_and_read_the_address(tmp_path: Path):
    text = drop_in(
        loaded(tmp_path, 'metrics = "/var/lib/node/m.prom"\nping = { credential = "ping" }')
    )
    assert "ReadWritePaths=-/srv/m\nReadWritePaths=-/var/lib/node\n" in text
    assert "LoadCredential=ping:/etc/mirror/credentials/ping\n" in text
    assert "RequiresMountsFor=/srv/m\n\n" in text


def test_the_reference_has_every_metric():
    table = set(re.findall(rf"^\| `{PREFIX}(\w+)`", REFERENCE, re.MULTILINE))
    assert table == HELP.keys()
