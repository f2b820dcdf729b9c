"""What `mirror copy` may be told, from where, and what it makes of it."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic_settings import BaseSettings, CliImplicitFlag, SettingsConfigDict, SettingsError

from mirror.copy_options import add_copy_options
from mirror.copying import THREADS, CopyRequest, copy_request
from mirror.core.model import Choice, Filter, LivePhotos, Mirror, NameRules, Owners, Visibility
from mirror.core.secret import LiteralSecret
from mirror.errors import UsageError

URL, KEY = "https://photos.example.org/api", "abcdEFGH1234"
ANN, BOB = "a1111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
ALBUM = "33333333-3333-4333-8333-333333333333"
SCRIPT = (
    "immich_api_url", "immich_api_key", "save_to", "person_ids", "after", "last_days", "filters",
    "threads", "dry",
)  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Nothing of this machine's environment, and an account to copy from."""
    for variable in os.environ:
        if variable.lower() in {*SCRIPT, "credentials_directory", "layout", "owners", "names"}:
            monkeypatch.delenv(variable)
        if variable.startswith("MIRROR_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("IMMICH_API_URL", URL)
    monkeypatch.setenv("IMMICH_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def credentials(monkeypatch, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def asked(*argv: str) -> CopyRequest:
    parser = argparse.ArgumentParser()
    add_copy_options(parser)
    return copy_request(parser.parse_args(argv))


def mirror_of(request: CopyRequest) -> Mirror:
    (mirror,) = request.profile.mirrors
    return mirror


def filter_of(*argv: str) -> Filter:
    return mirror_of(asked(*argv)).filter


def meaning(request: CopyRequest) -> dict[str, Any]:
    """What was asked for, by the script's own names."""
    (account,) = request.profile.accounts.values()
    assert isinstance(account.api_key, LiteralSecret)
    mirror = mirror_of(request)
    people = mirror.filter.people
    assert people is None or people.every
    return {
        "immich_api_url": account.server,
        "immich_api_key": account.api_key.key,
        "save_to": str(request.save_to),
        "person_ids": list(people.values) if people else [],
        "after": mirror.filter.uploaded_after,
        "last_days": mirror.filter.uploaded_within_days,
        "filters": mirror.filter.search,
        "threads": mirror.transfers,
        "dry": request.dry,
    }


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        asked(*argv)
    return str(caught.value)


def test_without_options_it_is_the_script_s_defaults():
    assert meaning(asked()) == {
        "immich_api_url": URL, "immich_api_key": KEY, "save_to": ".", "person_ids": [],
        "after": None, "last_days": None, "filters": {}, "threads": 4, "dry": False,
    }  # fmt: skip


# -- every form ------------------------------------------------------------------------------------

NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
BOTH = [ANN, BOB]

FORMS: list[tuple[str, list[str], object]] = [
    ("immich_api_url", ["--immich_api_url", "http://a/api"], "http://a/api"),
    ("immich_api_url", ["--immich-api-url", "http://a"], "http://a"),
    ("immich_api_url", ["--immich_api_url=http://a:2283/api/"], "http://a:2283/api/"),
    ("immich_api_key", ["--immich_api_key", "k3y"], "k3y"),
    ("immich_api_key", ["--immich-api-key=k3y"], "k3y"),
    ("save_to", ["--save_to", "photos"], "photos"),
    ("save_to", ["--save-to", "/srv/photos"], "/srv/photos"),
    ("save_to", ["--SAVE_TO", "photos"], "photos"),
    ("save_to", ["--save_to", "old", "--save-to", "new"], "new"),
    ("person_ids", ["--person_ids", ANN], [ANN]),
    ("person_ids", ["--person_ids", ANN, "--person_ids", BOB], BOTH),
    ("person_ids", ["--person-ids", ANN, "--person_ids", BOB], BOTH),
    ("person_ids", ["--person_ids", f"{ANN},{BOB}"], BOTH),
    ("person_ids", ["--person_ids", f"{ANN}, {BOB}"], BOTH),
    ("person_ids", ["--person_ids", json.dumps(BOTH)], BOTH),
    ("person_ids", ["--person_ids", f"[{ANN},{BOB}]"], BOTH),
    ("person_ids", ["--person_ids", json.dumps([ANN]), "--person_ids", BOB], BOTH),
    ("person_ids", ["--person_ids", ANN.replace("-", "").upper()], [ANN]),
    ("person_ids", ["--person_ids", "[]"], []),
    ("after", ["--after", "2024-01-31T12:00:00Z"], NOON),
    ("after", ["--after", "2024-01-31 14:00:00.000+02:00"], NOON),
    ("after", ["--after=2024-01-31T12:00"], NOON.replace(hour=11)),
    ("after", ["--after", "2024-01-31 12:00"], NOON.replace(hour=11)),
    ("after", ["--after", "2024-07-31"], datetime(2024, 7, 30, 22, tzinfo=UTC)),
    ("after", ["--after", "1706702400"], NOON),
    ("last_days", ["--last_days", "3"], 3),
    ("last_days", ["--last-days=3"], 3),
    ("filters", ["--filters", '{"model": "Pixel 10", "isFavorite": true, "type": "IMAGE"}'],
        {"model": "Pixel 10", "isFavorite": True, "type": "IMAGE"}),
    ("filters", ["--filters", "model=Pixel 10", "--filters", "isFavorite=true"],
        {"model": "Pixel 10", "isFavorite": True}),
    ("filters", ["--filters", "model=Pixel 10,isFavorite=true"],
        {"model": "Pixel 10", "isFavorite": True}),
    ("filters", ["--filters", 'city="Paris, France",make=Google'],
        {"city": "Paris, France", "make": "Google"}),
    ("filters", ["--filters", '{"make": "Google"}', "--filters", "rating=5"],
        {"make": "Google", "rating": 5}),
    ("filters", ["--filters", '{"make": "A"}', "--filters", '{"make": "B"}'], {"make": "B"}),
    ("filters", ["--filters", "{}"], {}),
    ("threads", ["--threads", "8"], 8),
    ("dry", ["--dry"], True),
    ("dry", ["--dry", "--save_to", "x"], True),
    ("dry", ["--dry", "true"], True),
    ("dry", ["--dry=true"], True),
    ("dry", ["--dry", "True"], True),
    ("dry", ["--dry", "1"], True),
    ("dry", ["--dry=false"], False),
    ("dry", ["--dry", "--no-dry"], False),
]  # fmt: skip


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(("name", "argv", "expected"), FORMS)
def test_an_option_is_taken_in_every_form(name, argv, expected):
    assert meaning(asked(*argv))[name] == expected


class Script(BaseSettings):
    """immich-ppdl's options, read as it read them."""

    model_config = SettingsConfigDict(cli_exit_on_error=False)

    immich_api_url: str
    immich_api_key: str
    save_to: Path = Path()
    person_ids: list[UUID] = []
    after: datetime | None = None
    last_days: int | None = None
    filters: dict[str, Any] = {}
    threads: int = 4
    dry: bool = False


class ImplicitScript(Script):
    """The same where `--dry` may stand alone."""

    dry: CliImplicitFlag[bool] = False


def script_meaning(argv: list[str]) -> dict[str, Any] | None:
    """What the script made of it; None if it took no such form."""
    for script in (Script, ImplicitScript):
        try:
            found = script(_cli_parse_args=argv).model_dump()
        except SettingsError:
            continue
        after = found["after"]
        return found | {
            "save_to": str(found["save_to"]),
            "person_ids": [str(person) for person in found["person_ids"]],
            "after": after and after.astimezone(UTC),
        }
    return None


def as_texts(filters: dict[str, Any]) -> dict[str, str]:
    return {name: str(value).lower() for name, value in filters.items()}


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize("argv", [argv for _, argv, _ in FORMS])
def test_what_the_script_took_means_what_it_meant(argv):
    theirs, ours = script_meaning(argv), meaning(asked(*argv))
    if theirs is None:
        assert any("-" in word.removeprefix("--") for word in argv)
        return
    # There a pair's value was a text always, and the server refused "true" for true.
    assert as_texts(ours.pop("filters")) == as_texts(theirs.pop("filters"))
    assert ours == theirs


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("IMMICH_API_URL", "http://a", "http://a"),
        ("IMMICH_API_KEY", "k3y", "k3y"),
        ("SAVE_TO", "/srv/photos", "/srv/photos"),
        ("save_to", "/srv/photos", "/srv/photos"),
        ("Save_To", "/srv/photos", "/srv/photos"),
        ("PERSON_IDS", json.dumps(BOTH), BOTH),
        ("PERSON_IDS", ",".join(BOTH), BOTH),
        ("PERSON_IDS", "[]", []),
        ("AFTER", "2024-01-31T12:00", NOON.replace(hour=11)),
        ("LAST_DAYS", "30", 30),
        ("FILTERS", '{"isFavorite": true, "city": null}', {"isFavorite": True, "city": None}),
        ("FILTERS", "isFavorite=true", {"isFavorite": True}),
        ("THREADS", "2", 2),
        ("DRY", "1", True),
        ("DRY", "true", True),
        ("DRY", "0", False),
        ("DRY", "", False),
        ("AFTER", "", None),
    ],
)
def test_a_variable_is_taken_in_every_form(monkeypatch, variable, text, expected):
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(variable, text)
    assert meaning(asked())[variable.lower()] == expected


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("immich_api_key", "k3y\n", "k3y"),
        ("IMMICH_API_KEY", "k3y", "k3y"),
        ("immich_api_url", "http://a\n", "http://a"),
        ("person_ids", json.dumps(BOTH) + "\n", BOTH),
        ("filters", '{"rating": 5}\n', {"rating": 5}),
        ("after", "2024-01-31T12:00Z\n", NOON),
        ("dry", "true\n", True),
    ],
)
def test_a_credential_is_a_file_of_the_option_s_name(
    credentials, monkeypatch, name, text, expected
):
    monkeypatch.delenv(name.upper(), raising=False)
    (credentials / name).write_text(text)
    assert meaning(asked())[name.lower()] == expected


def test_the_command_line_wins_over_the_environment_and_that_over_credentials(
    credentials, monkeypatch
):
    for name in ("threads", "last_days", "save_to"):
        (credentials / name).write_text("1")
    for name in ("THREADS", "LAST_DAYS"):
        monkeypatch.setenv(name, "2")
    found = meaning(asked("--threads", "3"))
    assert (found["threads"], found["last_days"], found["save_to"]) == (3, 2, "1")


def test_a_credentials_directory_that_is_not_there_is_no_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    assert meaning(asked())["immich_api_key"] == KEY


# -- what is made of them --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "path"),
    [(".", "."), ("photos/../all", "all"), ("/srv/photos", "/srv/photos"), ("a ~b", "a ~b")],
)
def test_the_folder_is_made_absolute_and_shown_as_it_was_written(tmp_path, written, path):
    request = asked("--save_to", written)
    (destination,) = mirror_of(request).destinations
    assert destination.path == os.path.normpath(tmp_path / path)
    assert request.save_to == Path(written)


def test_home_is_expanded_where_no_shell_did(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    request = asked("--save_to=~/photos")
    assert mirror_of(request).destinations[0].path == "/home/me/photos"


def test_every_person_is_to_be_on_the_photo():
    assert filter_of("--person_ids", f"{ANN},{BOB}").people == Choice((ANN, BOB), every=True)


def test_eight_digits_are_a_day_and_not_seconds_since_1970():
    assert filter_of("--after", "20240131") == filter_of("--after", "2024-01-31")


def test_only_own_assets_of_the_timeline_are_selected_unless_told():
    assert filter_of() == Filter(visibility=(Visibility.TIMELINE,), owners=Owners.ME)


@pytest.mark.parametrize(
    ("argv", "field", "lost"),
    [
        (["--after", "2024-01-31"], "createdAfter=2020-01-01T00:00:00Z", "uploaded_after"),
        (["--last_days", "3"], "createdAfter=2020-01-01T00:00:00Z", "uploaded_within_days"),
        (["--person_ids", ANN], f"personIds={BOB}", "people"),
    ],
)
def test_filters_win_over_the_option_that_says_the_same(argv, field, lost):
    assert getattr(filter_of(*argv), lost) is not None
    found = filter_of(*argv, "--filters", field)
    assert getattr(found, lost) is None
    assert field.partition("=")[0] in found.search


def test_filters_leave_the_options_that_say_something_else():
    argv = ["--last_days", "3", "--person_ids", ANN, "--filters", "createdBefore=2024-01-31"]
    found = filter_of(*argv)
    assert (found.uploaded_within_days, found.people) == (3, Choice((ANN,), every=True))


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("isFavorite=true", True),
        ("isFavorite=false", False),
        ("rating=5", 5),
        ("rating=null", None),
        ("city=null", None),
        ("city=", ""),
        ("model=5", "5"),
        ("description=true", "true"),
        ("originalFileName=a=b", "a=b"),
        ("originalFileName=a,b", "a,b"),
        ("deviceId=7", "7"),
        ("checksum=2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        ("visibility=archive", "archive"),
        (f"albumIds={ALBUM}", (ALBUM,)),
        (f"albumIds={ALBUM},{ANN}", (ALBUM, ANN)),
        (f'albumIds=["{ALBUM}"]', (ALBUM,)),
        (f"libraryId={ALBUM}", ALBUM),
        (' make = "Canon" ', "Canon"),
    ],
)
def test_the_text_of_a_pair_becomes_what_the_field_wants(pair, value):
    assert list(filter_of("--filters", pair).search.values()) == [value]


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("2024-01-31", "2024-01-30T23:00:00.000Z"),
        ("2024-01-31T12:00", "2024-01-31T11:00:00.000Z"),
        ("2024-01-31T12:00:00Z", "2024-01-31T12:00:00.000Z"),
    ],
)
def test_a_date_in_a_filter_is_local_and_sent_as_every_server_takes_it(text, sent):
    assert filter_of("--filters", json.dumps({"takenBefore": text})).search == {"takenBefore": sent}


def test_the_options_that_the_script_did_not_have():
    request = asked(
        "--layout", "{taken:%Y}/{filename}", "--live-photos", "still", "--names", "posix",
        "--owners", "anyone", "--min-free", "1KiB",
    )  # fmt: skip
    mirror = mirror_of(request)
    assert mirror.layout == "{taken:%Y}/{filename}"
    assert (mirror.live_photos, mirror.names) == (LivePhotos.STILL, NameRules.POSIX)
    assert mirror.filter.owners is Owners.ANYONE
    assert mirror.destinations[0].min_free_bytes == 1024
    assert mirror_of(asked("--live_photos", "video")).live_photos is LivePhotos.VIDEO


def test_what_has_a_common_name_is_not_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("LAYOUT", "{id}")
    monkeypatch.setenv("NAMES", "posix")
    monkeypatch.setenv("OWNERS", "anyone")
    mirror, plain = mirror_of(asked()), Mirror(name="", account="")
    assert (mirror.layout, mirror.names) == (plain.layout, plain.names)
    assert mirror.filter.owners is Owners.ME


def test_the_global_knobs_hold_here_too(monkeypatch):
    monkeypatch.setenv("MIRROR_TRANSFERS", "2")
    monkeypatch.setenv("MIRROR_MIN_FREE", "1KiB")
    mirror = mirror_of(asked())
    assert (mirror.transfers, mirror.destinations[0].min_free_bytes) == (2, 1024)
    assert mirror_of(asked("--threads", "3")).transfers == 3


def test_the_help_tells_the_defaults_that_hold():
    parser = argparse.ArgumentParser()
    add_copy_options(parser)
    told = re.sub(r"\s+", " ", parser.format_help())
    plain = Mirror(name="", account="")
    for option, default in [
        ("--layout LAYOUT", plain.layout),
        ("--live-photos both|still|video", plain.live_photos.value),
        ("--names portable|posix", plain.names.value),
        ("--owners me|anyone", plain.filter.owners.value),
        ("--threads N", str(THREADS)),
        ("--min-free SIZE", str(mirror_of(asked()).destinations[0].min_free_bytes)),
    ]:
        assert re.search(rf"{re.escape(option)} ((?!--).)*default: {re.escape(default)}( |$)", told)
    for name in SCRIPT:
        assert f"--{name} " in told


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--after", "soon"], "--after: should be a valid datetime"),
        (["--after", "0001-01-01T00:00+23:00"], "--after: is outside the years"),
        (["--last_days", "0"], "--last_days: should be greater than or equal to 1"),
        (["--last_days", "3", "--after", "2024-01-31"], "--last_days: cannot stand beside after"),
        (["--person_ids", "Grandma"], "--person_ids: should be a valid UUID"),
        (["--person_ids", ""], "--person_ids: names nobody"),
        (["--filters", '{"isFavorite": tru}'], "--filters: is not JSON"),
        (["--filters", "isFavorite"], "--filters: 'isFavorite' is neither JSON nor KEY=VALUE"),
        (["--filters", "isFavorit=true"], "--filters: isFavorit: no server would know it"),
        (["--filters", "isFavorite=maybe"], "--filters: isFavorite: must be true or false"),
        (["--filters", "visibility=locked"], "--filters: visibility: no API key may list"),
        (["--filters", '{"withStacked": true}'], "--filters: withStacked: cannot be asked for"),
        (["--filters", "takenAfter=soon"], "--filters: takenAfter: must be a date"),
        (["--threads", "900"], "--threads: should be less than or equal to 64"),
        (["--threads", "many"], "--threads: should be a valid integer"),
        (["--dry", "perhaps"], "--dry: should be a valid boolean"),
        (
            ["--save_to", "s3://bucket"],
            "--save_to: should be a folder; `mirror sync` fills buckets",
        ),
        (
            ["--save_to", "sftp://a@b/c"],
            "--save_to: should be a folder; `mirror sync` fills buckets",
        ),
        (["--immich_api_url", "photos"], "--immich_api_url: should be an http or https URL"),
        (["--layout", "{album}"], "--layout: {album} cannot be in a layout"),
        (["--live-photos", "all"], "--live-photos: should be 'both', 'still' or 'video'"),
        (["--owners", "you"], "--owners: should be 'me' or 'anyone'"),
        (["--names", "any", "--layout", "a"], "--names: should be 'portable' or 'posix'"),
    ],
)
def test_a_wrong_value_is_told_with_its_option(argv, words):
    assert words in refusal(*argv)


def test_every_problem_is_told_at_once():
    told = refusal(
        "--threads", "900", "--filters", "{bad", "--after", "soon", "--last_days", "3",
        "--layout", "{x}", "--immich_api_url", "nowhere",
    )  # fmt: skip
    problems = re.findall(r"^(?:why:)? +(--\w+): ", told, re.MULTILINE)
    assert sorted(problems) == [
        "--after", "--filters", "--immich_api_url", "--last_days", "--layout", "--threads",
    ]  # fmt: skip
    assert "the options of copy have 6 problems" in told


def test_every_wrong_field_of_a_filter_is_told_at_once():
    told = refusal("--filters", '{"isFavorit": true, "size": 50}')
    assert "isFavorit" in told
    assert "size" in told


def test_a_wrong_value_is_told_with_the_variable_or_credential_it_came_from(
    credentials, monkeypatch
):
    monkeypatch.setenv("Threads", "900")
    (credentials / "LAST_DAYS").write_text("many")
    told = refusal()
    assert "Threads: should be" in told
    assert "the credential last_days: should be" in told


def test_what_is_missing_is_told_with_all_the_places_it_may_stand_in(monkeypatch):
    monkeypatch.delenv("IMMICH_API_URL")
    monkeypatch.delenv("IMMICH_API_KEY")
    told = refusal()
    assert "--immich_api_url: is missing; IMMICH_API_URL or a credential file" in told
    assert "--immich_api_key: is missing" in told


@pytest.mark.parametrize("key", ["two words-of-a-key", "ключ-ключ", "key\nkey-key-key", " "])
def test_a_key_that_is_none_is_refused_and_never_shown(monkeypatch, key):
    monkeypatch.setenv("IMMICH_API_KEY", key)
    told = refusal("--threads", "900")
    assert "IMMICH_API_KEY: " in told
    assert not key.strip() or key not in told


def test_a_good_key_is_never_shown_either():
    assert KEY not in refusal("--threads", "900")
    assert KEY not in repr(asked())


def test_a_credential_that_cannot_be_read_is_told(credentials):
    (credentials / "filters").write_bytes(b"\xff\xfe secret")
    told = refusal()
    assert "not text" in told
    assert "secret" not in told


def test_a_credential_that_would_be_passed_over_is_told(credentials):
    (credentials / "filters").mkdir()
    assert "filters" in refusal()


def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the current folder: No such file or directory" in refusal()


def test_the_options_are_declared_without_loading_what_reads_them():
    code = (
        "import sys, mirror.copy_options;"
        "print({'pydantic', 'aiohttp', 'mirror.copying'} & sys.modules.keys())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout == "set()\n"
