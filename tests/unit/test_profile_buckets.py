"""Buckets in a profile: what is understood, refused, and shown."""

from pathlib import Path

import pytest

from mirror.core.secret import EnvSecret, FileSecret
from mirror.errors import ProfileError
from mirror.profile.loading import load_profile, show_profile
from mirror.profile.unit import drop_in

HEAD = """\
server = "https://photos.example.org"
[accounts.alice]
api_key = { env = "KEY" }
[mirrors.m]
[[mirrors.m.destinations]]
"""
FULL = (
    HEAD
    + """\
url = "s3://photos/alice/"
endpoint = "https://s3.example.net"
region = "eu-central-1"
access_key = { env = "ID" }
secret_key = { file = "/etc/mirror/s3.key" }
"""
)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "family.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def problems(write):
    def problems(text: str, mode: int = 0o600) -> list[str]:
        path = write(text, mode)
        with pytest.raises(ProfileError) as caught:
            load_profile(path)
        return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]

    return problems


def test_every_key_of_a_bucket_arrives(write):
    (destination,) = load_profile(write(FULL)).mirrors[0].destinations
    assert destination.is_bucket
    assert destination.path == "s3://photos/alice"
    assert destination.endpoint == "https://s3.example.net"
    assert destination.region == "eu-central-1"
    assert destination.access_key == EnvSecret("ID")
    assert destination.secret_key == FileSecret("/etc/mirror/s3.key")


def test_what_is_shown_of_a_bucket_loads_as_the_same(write):
    profile = load_profile(write(FULL))
    shown = show_profile(profile)
    assert load_profile(write(shown)) == profile
    assert 'url = "s3://photos/alice"' in shown
    assert "require_mount" not in shown


def test_a_bucket_needs_nothing_but_its_url(write):
    (destination,) = load_profile(write(HEAD + 'url = "s3://photos"\n')).mirrors[0].destinations
    assert destination.path == "s3://photos"
    assert destination.access_key is None


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('url = "photos"', "should be s3://bucket or s3://bucket/prefix"),
        ('url = "gs://photos"', "should be s3://bucket"),
        ('url = "s3://"', "should be s3://bucket"),
        ('url = "s3://Photos"', "should have a bucket's name of 3 to 63"),
        ('url = "s3://ab/photos"', "should have a bucket's name of 3 to 63"),
        ('url = "s3://-photos"', "should have a bucket's name of 3 to 63"),
        ('url = "s3://photos//a"', 'should have no "//"'),
        ('url = "s3://photos/a//"', 'should have no "//"'),
        ('url = "s3://photos/../a"', 'should have no ".", ".." or ".mirror"'),
        ('url = "s3://photos/.mirror"', 'should have no ".", ".." or ".mirror"'),
        ("url = 3", "should be s3://bucket"),
        ("min_free = 0", "should have either path, for a folder, or url, for a bucket"),
        ('path = "/srv"\nurl = "s3://photos"', "should have either path"),
        ('path = "/srv"\nregion = "x"', "are for a url"),
        ('url = "s3://photos"\naccess_key = { env = "A" }', "access_key and secret_key go togethe"),
        ('url = "s3://photos"\nrequire_mount = true', "require_mount and dedupe are for a path"),
        ('url = "s3://photos"\ndedupe = "reflink"', "require_mount and dedupe are for a path"),
        ('url = "s3://photos"\nendpoint = "s3.example.net"', "should be an http or https URL"),
        ('url = "s3://photos"\nendpoint = "https://a:s3cret@x"', "may not hold a user"),
    ],
)
def test_a_bucket_that_cannot_be_meant_is_refused(problems, lines: str, problem: str):
    found = problems(HEAD + lines + "\n")
    assert problem in found[0]
    assert len(found) == 1
    assert "s3cret" not in found[0]


@pytest.mark.parametrize("key", ["access_key", "secret_key"])
def test_keys_in_the_profile_are_guarded_as_those_of_accounts(problems, key: str):
    keys = {"access_key": '{ env = "A" }', "secret_key": '{ env = "B" }'}
    plain = "".join(f"{k} = {v}\n" for k, v in (keys | {key: '"s3cret"'}).items())
    (found,) = problems(HEAD + 'url = "s3://photos"\n' + plain, 0o644)
    assert f"destinations[0].{key}: a literal key is refused" in found
    command = keys | {key: '{ command = ["pass", "s3cret"] }'}
    asked = "".join(f"{k} = {v}\n" for k, v in command.items())
    (found,) = problems(HEAD + 'url = "s3://photos"\n' + asked, 0o666)
    assert f"destinations[0].{key}.command: is refused" in found
    assert "s3cret" not in found


def test_a_literal_key_is_masked_in_what_is_shown(write):
    text = HEAD + 'url = "s3://photos"\naccess_key = { env = "A" }\nsecret_key = "s3cret"\n'
    profile = load_profile(write(text))
    assert "s3cret" not in show_profile(profile)
    assert "s3cret" not in repr(profile)


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("s3://photos", "s3://photos/", "mirror 'm' already writes to s3://photos"),
        ("s3://photos", "s3://photos/a", "s3://photos/a lies inside s3://photos"),
        ("s3://photos/a/b", "s3://photos/a", "give each its own prefix"),
    ],
)
def test_buckets_may_not_overlap(problems, first: str, second: str, what: str):
    text = HEAD + f'url = "{first}"\n[[mirrors.m.destinations]]\nurl = "{second}"\n'
    (found,) = problems(text)
    assert what in found


def test_prefixes_side_by_side_and_a_folder_do_not_overlap(write):
    places = ('url = "s3://photos/ab"', 'url = "s3://photos/a"', 'path = "/photos/a"')
    text = HEAD + "\n[[mirrors.m.destinations]]\n".join(places)
    assert len(load_profile(write(text)).mirrors[0].destinations) == 3


def test_a_unit_gets_the_keys_of_a_bucket_and_no_path_of_it(write):
    keys = 'access_key = { credential = "s3-id" }\nsecret_key = { credential = "s3-key" }\n'
    unit = drop_in(load_profile(write(HEAD + 'url = "s3://photos"\n' + keys)))
    assert "LoadCredential=s3-id:/etc/mirror/credentials/s3-id" in unit
    assert "LoadCredential=s3-key:/etc/mirror/credentials/s3-key" in unit
    assert "s3://" not in unit
