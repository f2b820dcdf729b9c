"""A folder of a server that speaks SFTP, in a profile."""

from pathlib import Path

import pytest

from mirror.core.secret import CredentialSecret, FileSecret
from mirror.errors import ProfileError
from mirror.profile.loading import load_profile, show_profile
from mirror.profile.unit import drop_in

HEAD = """\
server = "https://photos.example.org"
accounts.a.api_key = { env = "KEY" }
[mirrors.m]
[[mirrors.m.destinations]]
"""
FULL = HEAD + (
    'url = "sftp://alice@NAS.example.net:2222/srv/photos/"\n'
    'key_file = "/home/alice/.ssh/mirror"\n'
    'password = { file = "/etc/mirror/nas.password" }\n'
    'known_hosts = "/etc/mirror/known_hosts"\n'
)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "p.toml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def test_every_key_of_a_server_arrives(write):
    (destination,) = load_profile(write(FULL)).mirrors[0].destinations
    assert destination.is_sftp
    assert destination.is_remote
    assert destination.path == "sftp://alice@nas.example.net:2222/srv/photos"
    assert destination.key_file == "/home/alice/.ssh/mirror"
    assert destination.password == FileSecret("/etc/mirror/nas.password")
    assert destination.known_hosts == "/etc/mirror/known_hosts"


def test_what_is_shown_of_a_server_loads_as_the_same(write):
    profile = load_profile(write(FULL))
    assert load_profile(write(show_profile(profile))) == profile


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("sftp://a@host/p", "sftp://a@host/p"),
        ("sftp://a@host:22/p/", "sftp://a@host/p"),
        ("sftp://a@[::1]:2222/p?q#r/%20", "sftp://a@[::1]:2222/p?q#r/%20"),
        ("sftp://a@host/", "sftp://a@host"),
        ("sftp://a@b.org@HOST:2222/p@q/~", "sftp://a@b.org@host:2222/p@q/~"),
    ],
)
def test_a_server_is_meant_as_it_is_written(write, url: str, meant: str):
    (destination,) = load_profile(write(HEAD + f'url = "{url}"\n')).mirrors[0].destinations
    assert destination.path == meant


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('url = "sftp://host/photos"', "should be sftp://user@host/folder"),
        ('url = "sftp://a:s3cret@host/photos"', "a password has a key of its own"),
        ('url = "sftp://a@host:0/photos"', "should have a port from 1 to 65535"),
        ('url = "sftp://a@host:65536/photos"', "should have a port from 1 to 65535"),
        ('url = "sftp://a@host//photos"', 'should have no "//"'),
        ('url = "sftp://a@host/b//photos"', 'should have no "//"'),
        ('url = "sftp://a@host/~"', 'should have no "~": write the whole path'),
        ('url = "sftp://a@host/~/photos"', 'should have no "~": write the whole path'),
        ('url = "sftp://a@host/~bob/photos"', 'should have no "~": write the whole path'),
        ('url = "sftp://a@b:s3cret@host/photos"', "a password has a key of its own"),
        ('url = "sftp://@host/photos"', "should be sftp://user@host/folder"),
        ('url = "sftp://a@host/b/../photos"', 'should have no ".", ".." or ".mirror"'),
        ('url = "sftp://a@host/p"\nendpoint = "https://x"', "are for a url of s3://"),
        ('url = "s3://photos"\nkey_file = "/k"', "are for a url of sftp://"),
        ('path = "/photos"\nknown_hosts = "/k"', "are for a url of sftp://"),
        ('url = "sftp://a@host/p"\nkey_file = "k"', "should be absolute"),
        ('url = "sftp://a@host/p"\nkey_file = 1', "should be the path of a file"),
        ('url = "sftp://a@host/p"\ndedupe = "reflink"', "require_mount and dedupe are for a path"),
    ],
)
def test_a_server_that_cannot_be_meant_is_refused(write, lines: str, problem: str):
    with pytest.raises(ProfileError) as caught:
        load_profile(write(HEAD + lines + "\n"))
    assert problem in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_folders_of_a_server_may_not_overlap(write):
    urls = ("sftp://a@host/p", "sftp://a@host:22/p/q")
    text = HEAD + "\n[[mirrors.m.destinations]]\n".join(f'url = "{url}"' for url in urls)
    with pytest.raises(ProfileError, match="give each its own folder"):
        load_profile(write(text))


def test_a_literal_password_is_refused_where_others_can_read_it(write):
    path = write(HEAD + 'url = "sftp://a@host/p"\npassword = "s3cret"\n')
    assert "s3cret" not in show_profile(load_profile(path))
    path.chmod(0o644)
    with pytest.raises(ProfileError, match="a literal key is refused") as caught:
        load_profile(path)
    assert "s3cret" not in str(caught.value)


def test_a_unit_gets_the_files_of_a_login_and_no_path_of_the_server(write):
    unit = drop_in(load_profile(write(FULL.replace("/etc/mirror/nas", "/root/nas"))))
    assert "BindReadOnlyPaths=-/home/alice/.ssh/mirror" in unit
    assert "BindReadOnlyPaths=-/root/nas.password" in unit
    assert "ReadWritePaths" not in unit
    assert "sftp://" not in unit
    text = HEAD + 'url = "sftp://a@host/p"\npassword = { credential = "nas" }\n'
    (destination,) = load_profile(write(text)).mirrors[0].destinations
    assert destination.password == CredentialSecret("nas")
    assert "LoadCredential=nas:/etc/mirror/credentials/nas" in drop_in(load_profile(write(text)))
