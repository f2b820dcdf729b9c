"""From a TOML file to frozen values, and everything that is refused on the way."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mirror.core.model import (
    AssetType,
    Choice,
    Destination,
    Filter,
    Limit,
    LivePhotos,
    Mirror,
    NameRules,
    OnGone,
    Owners,
    Visibility,
)
from mirror.core.secret import CommandSecret, CredentialSecret, EnvSecret, FileSecret, LiteralSecret
from mirror.errors import ExitCode, Problem, ProfileError
from mirror.profile.loading import all_profiles, find_profile, load_profile, show_profile

EXAMPLES = sorted((Path(__file__).parents[2] / "profiles").glob("*.toml"))
ZONE = timezone(timedelta(hours=2))

HEAD = """\
server = "https://photos.example.org"
[accounts.alice]
api_key = { env = "KEY" }
"""
MINIMAL = HEAD + '[mirrors.m]\n[[mirrors.m.destinations]]\npath = "/srv/m"\n'


def filtered(keys: str) -> str:
    return MINIMAL.replace("[mirrors.m]", f"[mirrors.m]\nfilter = {{ {keys} }}", 1)


@pytest.fixture
def write(tmp_path):
    def write(text, name="family", mode=0o600):
        path = tmp_path / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def load(write):
    return lambda text, **more: load_profile(write(text), zone=ZONE, **more)


@pytest.fixture
def problems(write):
    """The problems of a text as "line key: what (hint)"."""

    def problems(text, mode=0o600):
        path = write(text, mode=mode)
        with pytest.raises(ProfileError) as caught:
            load_profile(path, zone=ZONE)
        return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]

    return problems


@pytest.fixture
def filter_of(load):
    return lambda keys: load(filtered(keys)).mirrors[0].filter


# -- values ----------------------------------------------------------------------------------------


def test_a_minimal_profile_has_the_defaults_of_the_model(load, tmp_path):
    profile = load(MINIMAL)
    assert profile.name == "family"
    assert profile.path == tmp_path / "family.toml"
    assert profile.accounts["alice"].server == "https://photos.example.org"
    assert profile.mirrors == (
        Mirror(name="m", account="alice", destinations=(Destination(path="/srv/m"),)),
    )


def test_every_key_of_a_mirror_and_a_destination_arrives(load):
    mirror = load(
        HEAD
        + """
[mirrors.m]
account = "alice"
filter = { favorite = true }
exclude = [{ type = "VIDEO" }, { rating = [1, 2] }]
layout = "{taken:%Y}/{filename}"
names = "posix"
live_photos = "video"
transfers = 3
[[mirrors.m.destinations]]
path = "~/m/../n/"
on_removed = "quarantine"
on_unmatched = "delete"
quarantine_days = 3
max_removed = { count = 5 }
max_lost = { share = 1 }
min_free = "500MB"
require_mount = "/mnt"
"""
    ).mirrors[0]
    assert mirror == Mirror(
        name="m",
        account="alice",
        filter=Filter(favorite=True),
        exclude=(Filter(type=(AssetType.VIDEO,)), Filter(rating=(1, 2))),
        layout="{taken:%Y}/{filename}",
        names=NameRules.POSIX,
        live_photos=LivePhotos.VIDEO,
        transfers=3,
        destinations=(
            Destination(
                path=str(Path("~/n").expanduser()),
                on_removed=OnGone.QUARANTINE,
                on_unmatched=OnGone.DELETE,
                quarantine_days=3,
                max_removed=Limit(count=5),
                max_lost=Limit(share=1.0),
                min_free_bytes=500_000_000,
                require_mount="/mnt",
            ),
        ),
    )


def test_every_key_of_a_filter_arrives(filter_of):
    assert filter_of(
        'taken_after = 2020-01-01T00:00:00Z, taken_before = "2021-01-01T00:00:00+01:00", '
        "uploaded_before = 2022-01-01T00:00:00Z, uploaded_within_days = 7, "
        "updated_after = 2020-01-01T00:00:00Z, updated_before = 2021-01-01T00:00:00Z, "
        'people = "Grandma", albums = ["A", "B"], tags = { all = ["x", "y"] }, '
        'type = ["IMAGE", "VIDEO"], favorite = false, visibility = ["timeline", "archive"], '
        'in_album = true, rating = 5, city = "", state = "s", country = ["c"], make = "m", '
        'model = "n", file_name = "IMG", owners = "anyone", search = { isOffline = false }'
    ) == Filter(
        taken_after=datetime(2020, 1, 1, tzinfo=UTC),
        taken_before=datetime(2020, 12, 31, 23, tzinfo=UTC),
        uploaded_before=datetime(2022, 1, 1, tzinfo=UTC),
        uploaded_within_days=7,
        updated_after=datetime(2020, 1, 1, tzinfo=UTC),
        updated_before=datetime(2021, 1, 1, tzinfo=UTC),
        people=Choice(("Grandma",)),
        albums=Choice(("A", "B")),
        tags=Choice(("x", "y"), every=True),
        type=(AssetType.IMAGE, AssetType.VIDEO),
        favorite=False,
        visibility=(Visibility.TIMELINE, Visibility.ARCHIVE),
        in_album=True,
        rating=(5,),
        city=("",),
        state=("s",),
        country=("c",),
        make=("m",),
        model=("n",),
        file_name=("IMG",),
        owners=Owners.ANYONE,
        search={"isOffline": False},
    )


def test_the_old_names_after_and_last_days_mean_the_upload(filter_of):
    assert filter_of("last_days = 3") == Filter(uploaded_within_days=3)
    assert filter_of("after = 2020-01-01") == filter_of("uploaded_after = 2020-01-01")


def test_a_bare_date_is_the_whole_day_in_the_local_zone(filter_of):
    wanted = filter_of("taken_after = 2024-12-31, taken_before = 2024-12-31")
    assert wanted.taken_after == datetime(2024, 12, 31, tzinfo=ZONE)
    assert wanted.taken_before == datetime(2024, 12, 31, 23, 59, 59, 999_000, tzinfo=ZONE)
    assert filter_of('taken_after = "2024-12-31", taken_before = "2024-12-31"') == wanted


def test_a_time_without_a_zone_is_local_and_every_time_becomes_utc(filter_of):
    wanted = filter_of("taken_after = 2024-07-01T12:00:00").taken_after
    assert (wanted, wanted.tzinfo) == (datetime(2024, 7, 1, 10, tzinfo=UTC), UTC)


def test_without_a_zone_given_the_machine_s_own_is_used_with_its_daylight_saving(write):
    path = write(filtered("taken_after = 2024-01-15T12:00:00, taken_before = 2024-07-15T12:00:00"))
    show = "import sys, pathlib, mirror.profile.loading as p;"
    show += "f = p.load_profile(pathlib.Path(sys.argv[1])).mirrors[0].filter;"
    show += "print(f.taken_after.hour, f.taken_before.hour)"
    zone = {**os.environ, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    out = subprocess.run(
        [sys.executable, "-c", show, path], env=zone, capture_output=True, check=True, text=True
    )
    assert out.stdout.split() == ["11", "10"]


def test_times_in_search_become_what_the_server_reads(filter_of):
    assert filter_of(
        "search = { trashedAfter = 2024-12-31, trashedBefore = 2024-12-31, "
        "x = [2024-01-01T00:00:00.5Z, { y = 2024-01-01T00:00:00 }], checksum = '2024-01-01' }"
    ).search == {
        "trashedAfter": "2024-12-30T22:00:00.000Z",
        "trashedBefore": "2024-12-31T21:59:59.999Z",
        "x": ("2024-01-01T00:00:00.500Z", {"y": "2023-12-31T22:00:00.000Z"}),
        "checksum": "2024-01-01",
    }


def test_an_account_may_have_its_own_server(load):
    text = MINIMAL.replace('"KEY" }', '"KEY" }\nserver = "http://10.0.0.1:2283/"')
    assert load(text).accounts["alice"].server == "http://10.0.0.1:2283/"


# -- layers ----------------------------------------------------------------------------------------

LAYERS = (
    HEAD
    + """
[defaults]
layout = "{filename}"
transfers = 2
filter = { favorite = true, rating = 3 }
min_free = 1
quarantine_days = 1
max_lost = { count = 1 }
[mirrors.a]
filter = { type = "VIDEO" }
quarantine_days = 2
min_free = 2
[[mirrors.a.destinations]]
path = "/a"
min_free = 3
[[mirrors.a.destinations]]
path = "/b"
[mirrors.b]
transfers = 4
[[mirrors.b.destinations]]
path = "/c"
"""
)


def test_the_nearest_table_wins_and_a_key_replaces_the_whole_value(load):
    a, b = load(LAYERS).mirrors
    assert (a.layout, a.transfers, b.transfers) == ("{filename}", 2, 4)
    assert a.filter == Filter(type=(AssetType.VIDEO,))
    assert b.filter == Filter(favorite=True, rating=(3,))
    assert [d.min_free_bytes for d in (*a.destinations, *b.destinations)] == [3, 2, 1]
    assert [d.quarantine_days for d in (*a.destinations, *b.destinations)] == [2, 2, 1]
    assert b.destinations[0].max_lost == Limit(count=1)


def test_what_the_command_line_says_stands_above_the_profile(load):
    a, b = load(LAYERS, transfers=7, min_free_bytes=0).mirrors
    assert (a.transfers, b.transfers) == (7, 7)
    assert {d.min_free_bytes for d in (*a.destinations, *b.destinations)} == {0}


def test_an_exclusion_looks_where_the_mirror_looks(load):
    text = filtered('visibility = ["timeline", "archive"], owners = "anyone"').replace(
        "[mirrors.m]", '[mirrors.m]\nexclude = [{ albums = "P" }, { visibility = "archive" }]', 1
    )
    wide, narrow = load(text).mirrors[0].exclude
    assert (wide.visibility, wide.owners) == (
        (Visibility.TIMELINE, Visibility.ARCHIVE),
        Owners.ANYONE,
    )
    assert (narrow.visibility, narrow.owners) == ((Visibility.ARCHIVE,), Owners.ANYONE)


def test_the_account_of_defaults_serves_mirrors_that_name_none(load):
    text = MINIMAL + '[accounts.bob]\napi_key = { env = "B" }\n[defaults]\naccount = "bob"\n'
    assert load(text).mirrors[0].account == "bob"


# -- problems --------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_in_the_order_of_the_file(problems):
    found = problems(
        """\
sever = "x"
server = "ftp://x"
[accounts.alice]
api_key = { env = "KEY", file = "/k" }
[defaults]
layout = "{taken:%Y"
path = "/x"
[mirrors.m]
account = "alicia"
people = ["x"]
filter = { taken_after = 2020-01-01, peple = "x" }
[[mirrors.m.destinations]]
path = "photos"
max_removed = { shar = 1 }
[mirrors.n]
"""
    )
    assert found.pop(3).startswith("6: defaults.layout: ")
    assert found == [
        "1: sever: unknown key (did you mean 'server'?)",
        "2: server: should be an http or https URL, such as https://photos.example.org",
        (
            "4: accounts.alice.api_key: should be exactly one of "
            "{ credential = … }, { file = … }, { env = … } or { command = [ … ] }"
        ),
        "7: defaults.path: unknown key (it belongs in [[mirrors.NAME.destinations]])",
        "9: mirrors.m.account: there is no account 'alicia' (did you mean 'alice'?)",
        "10: mirrors.m.people: unknown key (it belongs in filter or exclude)",
        "11: mirrors.m.filter.peple: unknown key (did you mean 'people'?)",
        (
            '13: mirrors.m.destinations[0].path: should be absolute or begin with "~/": '
            "a timer runs elsewhere"
        ),
        "14: mirrors.m.destinations[0].max_removed.shar: unknown key (did you mean 'share'?)",
        "15: mirrors.n.destinations: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = \n", 2),
        ("a = 1\na = 2\n", 2),
        ("[x\n", 1),
        ("a = [", 1),
        ("a = " + "[" * 5000, 1),
    ],
)
def test_a_file_that_is_not_toml_says_only_where(write, text, line):
    path = write(text)
    with pytest.raises(ProfileError, match="is not TOML") as caught:
        load_profile(path)
    (problem,) = caught.value.problems
    assert problem.place == f"{path}:{line}"
    assert "line" not in problem.what


def test_a_file_that_cannot_be_read_is_a_profile_error(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"\n')
    with pytest.raises(ProfileError, match="not UTF-8"):
        load_profile(tmp_path / "latin.toml")


def test_a_profile_error_is_a_usage_error_to_the_caller(write):
    with pytest.raises(ProfileError, match="has 1 problem") as caught:
        load_profile(write(MINIMAL + "[x]\n"))
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.problems == (Problem(f"{write('')}:7", "x", "unknown key"),)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            "taken_within_days = 3, taken_after = 2020-01-01",
            "taken_within_days: cannot stand beside taken_after",
        ),
        ("last_days = 3, after = 2020-01-01", "last_days: cannot stand beside after"),
        (
            "after = 2020-01-01, uploaded_after = 2020-01-01",
            "after: means the same as uploaded_after, which is given too",
        ),
        (
            "last_days = 3, uploaded_within_days = 3",
            "last_days: means the same as uploaded_within_days, which is given too",
        ),
        (
            "favorite = true, search = { isFavorite = true }",
            "search.isFavorite: means the same as favorite, which is given too",
        ),
        (
            'people = "x", search = { personIds = [] }',
            "search.personIds: means the same as people, which is given too",
        ),
        (
            "last_days = 1, search = { createdAfter = 2020-01-01 }",
            "search.createdAfter: means the same as last_days, which is given too",
        ),
        ("search = { page = 2 }", "search.page: may not be searched for"),
        (
            'search = { visibility = "archive" }',
            "search.visibility: may not be searched for (use the key visibility",
        ),
        ("search = { withStacked = false }", "search.withStacked: may not be searched for"),
        ("search = { x = nan }", "search: JSON has no nan and no inf"),
        ("search = { x = 10:00:00 }", "search: a time of day without its date"),
        ("search = 3", "search: should be a table of the server's search fields"),
        ('visibility = "locked"', "visibility: 'locked' cannot be mirrored: no API key may list"),
        (
            'visibility = ["timeline", "hidden"]',
            "visibility[1]: 'hidden' cannot be mirrored: hidden assets are",
        ),
        (
            'visibility = "timelin"',
            "not 'timelin' (did you mean 'timeline'?)",
        ),
        (
            'type = ["IMAG"]',
            "type[0]: should be 'IMAGE', 'VIDEO', 'AUDIO' or 'OTHER', not 'IMAG' (did you mean",
        ),
        ('owners = "you"', "owners: should be 'me' or 'anyone', not 'you'"),
        ("rating = 6", "rating: should be less than or equal to 5"),
        ("rating = 0", "rating: should be greater than or equal to 1"),
        ('rating = "3"', "rating: should be a valid integer"),
        ('favorite = "yes"', "favorite: should be a valid boolean"),
        ("in_album = 1", "in_album: should be a valid boolean"),
        ("taken_within_days = 0", "taken_within_days: should be greater than or equal to 1"),
        ("people = []", "people: is empty"),
        ("people = { all = [] }", "people: is empty"),
        ("people = 3", "people: should be a name, a list of names, or { all = [names] }"),
        (
            'people = { any = ["x"] }',
            "people: should be a name, a list of names, or { all = [names] }",
        ),
        ('people = ["x", " "]', "people: should be a name, a list of names, or { all = [names] }"),
        ('city = { all = ["x"] }', "city: should be a valid string"),
        ("city = []", "city: is empty"),
        ('file_name = ""', "file_name: "),
        ("taken_after = 3", "taken_after: should be a date or a date and time"),
        ("taken_after = 10:00:00", "taken_after: should be a date or a date and time"),
        ('taken_after = "yesterday"', "taken_after: 'yesterday' is not an ISO date"),
        ("taken_after = 0001-01-01", "taken_after: is outside the years"),
        (
            "taken_after = 2020-01-02, taken_before = 2020-01-01",
            "taken_after is later than taken_before: nothing can match",
        ),
        (
            "after = 2020-01-02, uploaded_before = 2020-01-01",
            "uploaded_after is later than uploaded_before",
        ),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(problems, keys, problem):
    (found,) = problems(filtered(keys))
    assert problem in found
    assert found.startswith("5: mirrors.m.filter")


@pytest.mark.parametrize("exclude", ["{}", "[{}]", "[]"])
def test_an_empty_exclusion_is_refused(problems, exclude):
    (found,) = problems(MINIMAL.replace("[mirrors.m]", f"[mirrors.m]\nexclude = {exclude}", 1))
    assert "is empty" in found


def test_a_lone_exclusion_and_a_list_of_them_have_their_line(problems):
    one = "[mirrors.m.exclude]\nx = 1\n"
    row = "[[mirrors.m.exclude]]\n"
    many = f"{row}rating = 1\n{row}last_days = 1\nafter = 2020-01-01\n"
    assert problems(MINIMAL + one) == ["8: mirrors.m.exclude.x: unknown key"]
    (found,) = problems(MINIMAL + many)
    assert found.startswith("10: mirrors.m.exclude[1].last_days: cannot stand beside after")


@pytest.mark.parametrize(
    "server",
    [
        "photos.example.org",
        "ftp://photos.example.org",
        "https://",
        "https:///api",
        "https://a b",
        "https://x:99999",
        "https://me:hunter2@photos.example.org",
        "https://hunter2@photos.example.org",
        "https://photos.example.org/?apiKey=hunter2",
        "https://photos.example.org/#hunter2",
    ],
)
def test_a_server_that_is_no_plain_url_is_refused_and_never_quoted(problems, server):
    text = MINIMAL.replace("https://photos.example.org", server)
    (found,) = problems(text)
    assert found.startswith("1: server: ")
    assert "hunter2" not in found


def test_an_account_without_any_server_is_refused(problems):
    (found,) = problems(MINIMAL.partition("\n")[2])
    assert found.startswith("1: accounts.alice: has no server")


def test_with_two_accounts_a_mirror_must_name_its_own(problems):
    (found,) = problems(MINIMAL + '[accounts.bob]\napi_key = { env = "B" }\n')
    assert found == "4: mirrors.m: names no account (one of: alice, bob)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: accounts: is missing", "1: mirrors: is missing"]),
        (HEAD + "[mirrors]\n", ["4: mirrors: is empty"]),
        (HEAD + "[mirrors.m]\ndestinations = []\n", ["5: mirrors.m.destinations: is empty"]),
    ],
)
def test_a_profile_without_mirrors_or_destinations_is_refused(problems, text, expected):
    assert problems(text) == expected


@pytest.mark.parametrize("name", ["a/b", ".hidden", "-x", "a b", ""])
def test_a_mirror_s_name_must_do_as_a_file_s_name(problems, name):
    (found,) = problems(MINIMAL.replace("mirrors.m", f'mirrors."{name}"'))
    assert "is no name" in found


def test_names_may_have_letters_of_any_alphabet(load):
    assert (
        load(MINIMAL.replace("mirrors.m", 'mirrors."Großeltern"')).mirrors[0].name == "Großeltern"
    )


def test_a_mirror_may_be_called_like_a_key(load):
    for name in ("exclude", "filter", "destinations"):
        assert load(MINIMAL.replace("mirrors.m", f"mirrors.{name}")).mirrors[0].name == name


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("/srv/a", "/srv/b/../a/", "mirror 'm' already writes to /srv/a"),
        ("/srv/a", "//srv/a", "mirror 'm' already writes to /srv/a"),
        ("~", "~/", "mirror 'm' already writes to"),
        ("/srv/a", "/srv/a/b", "/srv/a/b lies inside /srv/a"),
        ("/srv/a/b", "/srv/./a", "/srv/a/b lies inside /srv/a"),
        ("/", "/srv", "/srv lies inside /"),
    ],
)
def test_destinations_may_not_overlap_in_one_mirror_or_between_two(problems, first, second, what):
    start = HEAD + f'[mirrors.m]\ntransfers = "x"\n[[mirrors.m.destinations]]\npath = "{first}"\n'
    same = problems(start + f'[[mirrors.m.destinations]]\npath = "{second}"\n')
    other = problems(start + f'[mirrors.n]\n[[mirrors.n.destinations]]\npath = "{second}"\n')
    # Found although another key of the profile is wrong.
    assert "5: mirrors.m.transfers: should be a valid integer" in same
    assert what in same[-1]
    assert what in other[-1]


def test_without_a_home_a_path_that_begins_there_is_refused(problems, monkeypatch):
    monkeypatch.setenv("HOME", "~")  # what is left when nobody knows
    text = MINIMAL.replace("/srv/m", "~/m").replace('{ env = "KEY" }', '{ file = "~/k" }')
    assert problems(text) == [
        f"{key}: the home folder is not known; set HOME, or write the whole path"
        for key in ("3: accounts.alice.api_key", "6: mirrors.m.destinations[0].path")
    ]


def test_a_byte_order_mark_is_no_part_of_the_profile(load):
    assert load("\N{ZERO WIDTH NO-BREAK SPACE}" + MINIMAL).mirrors[0].name == "m"


def test_folders_side_by_side_do_not_overlap(load):
    text = MINIMAL + '[[mirrors.m.destinations]]\npath = "/srv/m2"\n'
    assert len(load(text).mirrors[0].destinations) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('path = "photos"', "should be absolute"),
        ('path = "./photos"', "should be absolute"),
        ('path = "~bob/photos"', "should be absolute"),
        ('path = "s3://bucket/x"', "a bucket is given as url"),
        ("path = 3", "should be the path of a folder"),
        ('path = "/a\\u0000"', "should be absolute"),
        ('path = "/x"\nmin_free = "1GiB or so"', "should be a size"),
        ('path = "/x"\nmin_free = -1', "should be a size"),
        ('path = "/x"\nmin_free = true', "should be a size"),
        ('path = "/x"\nmin_free = "1 parsec"', "could not interpret byte unit"),
        ('path = "/x"\nquarantine_days = -1', "greater than or equal to 1"),
        ('path = "/x"\nrequire_mount = "mnt"', "should be absolute"),
        ('path = "/x"\nrequire_mount = 1', "should be true, false, or the mount point's path"),
        ('path = "/x"\non_removed = "quarantin"', "did you mean 'quarantine'?"),
        ('path = "/x"\nmax_lost = { share = 2 }', "less than or equal to 1"),
        ('path = "/x"\nmax_lost = { count = -1 }', "greater than or equal to 0"),
        ('path = "/x"\nmax_lost = 3', "should be a valid dictionary"),
        ('path = "/x"\nlayout = "x"', "it belongs in [mirrors.NAME] or [defaults]"),
    ],
)
def test_a_destination_that_cannot_be_meant_is_refused(problems, line, problem):
    (found,) = problems(MINIMAL.replace('path = "/srv/m"', line))
    assert problem in found


def test_a_layout_is_compiled_with_the_names_it_will_have(problems):
    text = MINIMAL.replace("[mirrors.m]", '[mirrors.m]\nlayout = "{nothing}/{filename}"', 1)
    (found,) = problems(text)
    assert found.startswith("5: mirrors.m.layout: ")
    twice = text.replace("[mirrors.m]\nlayout", "[defaults]\nlayout", 1).replace(
        "[[mirrors.m.", '[mirrors.n]\n[[mirrors.n.destinations]]\npath = "/n"\n[[mirrors.m.', 1
    )
    assert [p.split(":")[1] for p in problems(twice)] == [" defaults.layout"]


def test_problems_of_a_dotted_or_quoted_key_are_shown_as_toml_spells_it(problems):
    (found,) = problems(MINIMAL + '[mirrors.m."x.y"]\n')
    assert found == '7: mirrors.m."x.y": unknown key'


# -- secrets in a profile --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "secret"),
    [
        ('{ credential = "alice" }', CredentialSecret("alice")),
        ('{ file = "~/k" }', FileSecret(str(Path.home() / "k"))),
        ('{ env = "KEY" }', EnvSecret("KEY")),
        ('{ command = ["pass", "show"] }', CommandSecret(("pass", "show"))),
        ('"s3cret"', LiteralSecret("s3cret")),
    ],
)
def test_every_source_of_a_key_arrives_unread(load, written, secret):
    assert load(MINIMAL.replace('{ env = "KEY" }', written)).accounts["alice"].api_key == secret


@pytest.mark.parametrize(
    "written",
    [
        '""',
        "3",
        "{}",
        '{ credential = "a", env = "b" }',
        '{ credental = "s3cret" }',
        '{ credential = "../s3cret" }',
        '{ credential = "" }',
        '{ file = "s3cret" }',
        '{ env = "" }',
        "{ command = [] }",
        '{ command = "pass s3cret" }',
        '{ command = ["pass", 3] }',
        '{ command = [""] }',
    ],
)
def test_another_form_of_secret_is_refused_and_never_quoted(problems, written):
    (found,) = problems(MINIMAL.replace('{ env = "KEY" }', written))
    assert found.startswith("3: accounts.alice.api_key: ")
    assert "s3cret" not in found


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_literal_key_is_refused_in_a_file_that_others_can_open(problems, mode):
    (found,) = problems(MINIMAL.replace('{ env = "KEY" }', '"s3cret"'), mode=mode)
    assert "a literal key is refused" in found
    assert "s3cret" not in found


COMMAND = MINIMAL.replace('{ env = "KEY" }', '{ command = ["pass", "s3cret"] }')


@pytest.mark.parametrize("mode", [0o660, 0o606])
def test_a_command_is_refused_in_a_file_that_others_can_write(problems, mode):
    (found,) = problems(COMMAND, mode=mode)
    assert found.startswith("3: accounts.alice.api_key.command: is refused")
    assert "others may write to the profile; chmod go-w" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_command_is_refused_in_a_file_of_somebody_else(write):
    path = write(COMMAND)
    os.chown(path, 12345, -1)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert "must belong to you or to root" in str(caught.value)


def test_a_profile_looked_up_in_the_current_folder_may_not_run_commands(write, monkeypatch):
    folder = write("").parent / "profiles"
    folder.mkdir()
    write(COMMAND).rename(folder / "here.toml")
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent / "config"))
    with pytest.raises(ProfileError, match=r"found in \./profiles may not run commands"):
        load_profile(find_profile("here", profiles_dir=None))
    # A path, or a folder given, is the user's word.
    for found in (
        find_profile("profiles/here.toml", profiles_dir=None),
        find_profile("here", profiles_dir=Path("profiles")),
    ):
        assert load_profile(found).accounts["alice"].api_key == CommandSecret(("pass", "s3cret"))


# -- looking up ------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folders that are looked in, in order: given, the user's, the current one's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = [tmp_path / "given", tmp_path / "config" / "mirror" / "profiles", tmp_path / "profiles"]
    for folder in found:
        folder.mkdir(parents=True)
    return found


def test_a_name_is_looked_up_in_order(folders, tmp_path):
    given, user, here = folders
    for folder in reversed(folders):
        (folder / "family.toml").touch()
    assert find_profile("family", profiles_dir=given) == given / "family.toml"
    assert find_profile("family", profiles_dir=None) == user / "family.toml"
    (user / "family.toml").unlink()
    assert find_profile("family", profiles_dir=None) == here.relative_to(tmp_path) / "family.toml"


def test_the_folder_of_the_configuration_defaults_to_the_home(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config" / "mirror" / "profiles").mkdir(parents=True)
    path = tmp_path / ".config" / "mirror" / "profiles" / "family.toml"
    path.touch()
    assert find_profile("family", profiles_dir=None) == path


def test_an_unknown_name_tells_the_nearest_and_where_it_was_looked_for(folders):
    given, user, here = folders
    (here / "family.toml").touch()
    with pytest.raises(ProfileError) as caught:
        find_profile("famly", profiles_dir=given)
    message = str(caught.value)
    assert "did you mean 'family'?" in message
    assert f"looked in {given}, {user}, /etc/mirror/profiles, profiles" in message


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_profile("x.toml", profiles_dir=None) == tmp_path / "x.toml"
    assert find_profile("./x", profiles_dir=None) == tmp_path / "x"


def test_a_name_that_no_file_can_have_is_unknown_like_any_other(folders):
    for name in ("x" * 300, "x\0y", ""):
        with pytest.raises(ProfileError, match="there is no profile"):
            find_profile(name, profiles_dir=folders[0])


def test_all_profiles_are_those_of_the_folder_given_or_of_every_folder(folders):
    given, user, here = folders
    for path in (
        given / "g.toml",
        user / "b.toml",
        here / "b.toml",
        here / "a.toml",
        user / "x.md",
    ):
        path.touch()
    assert all_profiles(profiles_dir=given) == [given / "g.toml"]
    found = [path for path in all_profiles(profiles_dir=None) if path.parts[1:2] != ("etc",)]
    assert found == [Path("profiles/a.toml"), user / "b.toml"]


# -- showing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_is_shown_of_an_example_loads_as_the_same(path, write):
    profile = load_profile(path)
    assert profile.mirrors
    again = load_profile(write(show_profile(profile), name=path.stem))
    assert again.mirrors == profile.mirrors
    assert [a.server for a in again.accounts.values()] == [
        a.server for a in profile.accounts.values()
    ]


def test_what_is_shown_of_everything_loads_as_the_same(load, write):
    text = filtered(
        'taken_before = 2024-12-31, last_days = 3, people = { all = ["x"] }, city = "", '
        "search = { a = [1, { b = 2024-01-01 }] }"
    )
    profile = load(text + "min_free = 1500\nmax_lost = { count = 0 }\nrequire_mount = true\n")
    shown = show_profile(profile)
    assert load_profile(write(shown)) == profile
    assert 'min_free = "1500"' not in shown
    assert "uploaded_within_days = 3" in shown


@pytest.mark.parametrize(
    ("written", "shown"),
    [("0", "0"), ('"2048MiB"', '"2GiB"'), ('"1.5GiB"', '"1536MiB"'), ('"1kB"', "1000")],
)
def test_a_size_is_shown_in_the_largest_unit_that_fits(load, written, shown):
    assert f"min_free = {shown}\n" in show_profile(load(MINIMAL + f"min_free = {written}\n"))


def test_secrets_are_masked_wherever_they_may_be(load):
    shown = show_profile(load(COMMAND))
    assert '"pass"' in shown
    profile = load(MINIMAL.replace('{ env = "KEY" }', '"s3cret"'))
    for text in (shown, show_profile(profile), repr(profile), repr(load(COMMAND))):
        assert "s3cret" not in text


def test_a_date_stays_a_time_in_what_is_shown(load):
    shown = show_profile(load(filtered("taken_after = 2024-12-31")))
    assert "taken_after = 2024-12-30 22:00:00" in shown.replace("T", " ")
    assert date(2024, 12, 31).isoformat() not in shown
