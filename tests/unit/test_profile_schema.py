"""The schema, the examples and the reference in profiles/README.md agree with the code."""

import json
import re
import tomllib
from datetime import date, time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from mirror.profile.loading import load_profile
from mirror.profile.tables import (
    AccountTable,
    DefaultsTable,
    DestinationTable,
    FilterTable,
    LimitTable,
    MirrorKeys,
    MirrorTable,
    ProfileTable,
)
from mirror.profile.text import profile_defaults, profile_schema
from mirror.settings import GlobalSettings

FOLDER = Path(__file__).parents[2] / "profiles"
EXAMPLES = sorted(FOLDER.glob("*.toml"))
README = (FOLDER / "README.md").read_text("utf-8")
VALIDATOR = jsonschema.Draft202012Validator(profile_schema())

SECTIONS = {
    "The top of the file": set(ProfileTable.model_fields),
    "An account": set(AccountTable.model_fields),
    "A mirror": {"destinations"}
    | set(MirrorKeys.model_fields) - set(DestinationTable.model_fields),
    "A destination": set(DestinationTable.model_fields),
    "A limit": set(LimitTable.model_fields),
    "A filter": set(FilterTable.model_fields),
}
TABLES: dict[str, type[BaseModel]] = {
    "A mirror": MirrorTable,
    "A destination": DestinationTable,
    "A limit": LimitTable,
    "A filter": FilterTable,
}


NONE = "\N{EN DASH}"  # a cell without a default


def as_json(text: str) -> Any:
    return json.loads(json.dumps(tomllib.loads(text), default=iso))


def iso(value: object) -> str:
    assert isinstance(value, date | time)
    return value.isoformat()


def rows(section: str) -> dict[str, list[str]]:
    """The cells after the key of each row of a section's table."""
    body = re.split(r"^#+ ", README.split(f" {section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| `")]
    return {key.strip("`"): rest for key, *rest in cells}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_and_satisfies_the_schema(path):
    assert load_profile(path).name == path.stem
    VALIDATOR.validate(as_json(path.read_text("utf-8")))


def test_the_examples_hold_no_key():
    assert len(EXAMPLES) >= 4
    assert not [path for path in EXAMPLES if re.search(r'api_key = "', path.read_text("utf-8"))]


GOOD = """
server = "https://photos.example.org"
[accounts.a]
api_key = { env = "KEY" }
[mirrors.m]
filter = { taken_after = 2020-01-01, people = { all = ["x"] }, visibility = "archive", rating = 3 }
exclude = { last_days = 3 }
min_free = 0
[[mirrors.m.destinations]]
path = "~/x"
require_mount = true
"""


def test_the_schema_takes_a_good_profile():
    VALIDATOR.validate(as_json(GOOD))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('server = "https', 'server = "ftp'),
        ("server", "sever"),
        ('{ env = "KEY" }', '{ env = "KEY", file = "/k" }'),
        ('{ env = "KEY" }', "{}"),
        ("[accounts.a]", '[accounts."a b"]'),
        ("taken_after = 2020-01-01", "taken_after = 3"),
        ('all = ["x"]', 'any = ["x"]'),
        ('all = ["x"]', "all = []"),
        ('"archive"', '"locked"'),
        ('"archive"', "[]"),
        ("rating = 3", "rating = 6"),
        ("rating = 3", "rating = [0]"),
        ("last_days = 3", "last_day = 3"),
        ("min_free = 0", "min_free = -1"),
        ('path = "~/x"', 'path = "x"'),
        ('path = "~/x"', ""),
        ("require_mount = true", 'require_mount = "x"'),
    ],
)
def test_the_schema_refuses_a_bad_profile(good, bad):
    assert good in GOOD
    assert not VALIDATOR.is_valid(as_json(GOOD.replace(good, bad, 1)))


def test_every_key_of_the_schema_says_what_it_is_for():
    schema = profile_schema()
    tables = [schema, *(t for t in schema["$defs"].values() if t["type"] == "object")]
    assert len(tables) == 7
    silent = [
        (table["title"], key)
        for table in tables
        for key, value in table["properties"].items()
        if not value.get("description")
    ]
    assert silent == []


def test_the_schema_tells_the_defaults_and_never_null():
    text = json.dumps(profile_schema())
    assert "null" not in text
    mirror = profile_schema()["$defs"]["MirrorTable"]["properties"]
    assert mirror["layout"]["default"] == "{taken:%Y/%m/%d}/{filename}"
    assert mirror["min_free"]["default"] == "1GiB"
    assert "default" not in mirror["account"]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_reference_has_the_keys_of_the_code(section):
    assert set(rows(section)) == SECTIONS[section]


def test_the_reference_has_every_table_of_the_code():
    known = set().union(*SECTIONS.values())
    assert set(DefaultsTable.model_fields) | set(MirrorTable.model_fields) <= known


@pytest.mark.parametrize("section", TABLES)
def test_the_reference_has_the_defaults_of_the_code(section):
    of_code = profile_defaults()[TABLES[section]]
    told = {key: cells[-1] for key, cells in rows(section).items()}
    written = {key: text.strip("`") for key, text in told.items() if text != NONE}
    defaults = {key: tomllib.loads(f"x = {text}")["x"] for key, text in written.items()}
    assert defaults == {key: of_code[key] for key in told if key in of_code}


def test_the_reference_has_the_variables_of_the_environment():
    variables = {f"MIRROR_{name.upper()}" for name in GlobalSettings.model_fields}
    assert set(rows("What wins")) == variables


def test_the_reference_names_every_example_and_every_source_of_a_key():
    assert {f"{name}.toml" for name in re.findall(r"\]\(([\w-]+)\.toml\)", README)} == {
        path.name for path in EXAMPLES
    }
    assert set(rows("Secrets")) == {"credential", "file", "env", "command"}
