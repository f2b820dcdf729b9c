"""The position scanner against tomllib, on documents written in every style that TOML has."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.profile.positions import Loc, positions


def leaves(value: object, loc: Loc = ()) -> Iterator[Loc]:
    items: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    else:
        yield loc
    for part, item in items:
        yield from leaves(item, (*loc, part))


def every_path(value: object, loc: Loc = ()) -> Iterator[Loc]:
    if loc:
        yield loc
    if isinstance(value, dict):
        for key, item in value.items():
            yield from every_path(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from every_path(item, (*loc, index))


# -- documents -------------------------------------------------------------------------------------

keys = st.one_of(
    st.text("abz09_-", min_size=1, max_size=4),
    st.text("a.'\"\\ #=[]{}\té\n", max_size=4),
)
texts = st.text("ab'\"\\#=[]{},\n\t é", max_size=12)
scalars = st.one_of(
    texts,
    st.integers(-(2**40), 2**40),
    st.booleans(),
    st.sampled_from(
        [
            "2020-01-01",
            "2020-01-01 10:00:00",
            "2020-01-01T10:00:00.5+02:00",
            "10:00:00",
            "1_000",
            "0xff",
            "-inf",
            "6.5e-3",
        ]
    ).map(lambda text: ("bare", text)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
tables: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(keys, values, max_size=3),
    lambda inner: st.dictionaries(
        keys, st.one_of(values, inner, st.lists(inner, min_size=1, max_size=3)), max_size=3
    ),
    max_leaves=6,
)


class Writer:
    """Writes a table as TOML in a drawn style, and remembers where it put what."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.text = ""
        self.lines: dict[Loc, int] = {}
        self._draw = draw

    def _choose(self, *options: str) -> str:
        return self._draw(st.sampled_from(options))

    def _mark(self, loc: Loc) -> None:
        self.lines.setdefault(loc, self.text.count("\n") + 1)

    def _fill(self) -> None:
        self.text += self._choose("", "", " ", "\t", "\n", "# [x]\n", '\n # "\n\n')

    def _key(self, key: str) -> str:
        forms = [json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")]
        if re.fullmatch("[A-Za-z0-9_-]+", key):
            forms.append(key)
        if not re.search("['\n]", key):
            forms.append(f"'{key}'")
        return self._choose(*forms)

    def _string(self, text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("\t", "\\t")
        forms = [json.dumps(text, ensure_ascii=False)]
        if not re.search("['\n]", text):
            forms.append(f"'{text}'")
        if "'''" not in text and not text.endswith("'"):
            forms.append(f"'''\n{text}'''")
        forms.append('"""' + escaped.replace('""', '"\\"') + '"""')
        if text.endswith('"'):
            forms.pop()
        return self._choose(*forms)

    def value(self, value: object, loc: Loc) -> None:
        self._mark(loc)
        if isinstance(value, dict):
            self._inline(value, loc)
        elif isinstance(value, list):
            self._array(value, loc)
        elif isinstance(value, tuple):
            self.text += value[1]
        elif isinstance(value, str):
            self.text += self._string(value)
        else:
            self.text += json.dumps(value)

    def _inline(self, table: dict[str, object], loc: Loc) -> None:
        self.text += "{ "
        for index, (key, item) in enumerate(table.items()):
            self.text += " , " if index else ""
            self._mark((*loc, key))
            self.text += f"{self._key(key)} = "
            self.value(item, (*loc, key))
        self.text += " }"

    def _array(self, items: list[object], loc: Loc) -> None:
        self.text += "["
        for index, item in enumerate(items):
            self._fill()
            self.value(item, (*loc, index))
            self._fill()
            self.text += ","
        self._fill()
        self.text += "]"

    def table(self, table: dict[str, object], loc: Loc, header: tuple[str, ...]) -> None:
        headed = {}
        for key, item in table.items():
            if self._is_headed(item):
                headed[key] = item
            else:
                self._pair(key, item, loc)
        for key, item in headed.items():
            self._headed(item, (*loc, key), (*header, key))

    def _is_headed(self, item: object) -> bool:
        rows = isinstance(item, list) and item and all(isinstance(row, dict) for row in item)
        return bool(isinstance(item, dict) or rows) and self._draw(st.booleans())

    def _pair(self, key: str, item: object, loc: Loc) -> None:
        self._fill()
        self._mark((*loc, key))
        self.text += self._key(key)
        loc = (*loc, key)
        while isinstance(item, dict) and len(item) == 1 and self._draw(st.booleans()):
            ((inner, item),) = item.items()
            loc = (*loc, inner)
            self._mark(loc)
            self.text += self._choose(".", " . ") + self._key(inner)
        self.text += self._choose("=", " = ", "\t=")
        self.value(item, loc)
        self.text += self._choose("\n", " # x = [1\n", "\n\n")

    def _headed(self, item: Any, loc: Loc, header: tuple[str, ...]) -> None:
        rows = item if isinstance(item, list) else None
        for index, row in enumerate(rows or [item]):
            self._fill()
            self._mark(loc)
            inner = loc if rows is None else (*loc, index)
            self._mark(inner)
            name = self._choose(".", " . ").join(self._key(key) for key in header)
            self.text += f"[{name}]\n" if rows is None else f"[[ {name} ]] # ]\n"
            self.table(row, inner, header)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Loc, int]]:
    writer = Writer(draw)
    writer.table(draw(tables), (), ())
    return writer.text, writer.lines


# -- laws ------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(documents(), st.booleans())
def test_every_path_that_tomllib_reads_has_its_line(document, windows):
    text, lines = document
    if windows:
        text = text.replace("\n", "\r\n")
    data = tomllib.loads(text)
    found = positions(text)
    assert set(leaves(data)) <= found.keys() | {()}
    assert set(every_path(data)) == found.keys()
    assert found == lines


def test_the_lines_of_a_profile_are_those_of_the_file():
    text = '''\
server = "x" # [[not.a.table]]

["mirrors".alice]
filter = { people = ["a",
  "b"], rating = 3 }
note = """
[no.table]
x = 1"""
after = 2020-01-01 10:00:00
[[mirrors.alice.destinations]]
path = '/a'
[[mirrors.alice.destinations]]
max_removed.count = 1
[mirrors.alice.destinations.max_lost]
share = 0.5
'''
    assert positions(text) == {
        ("server",): 1,
        ("mirrors",): 3,
        ("mirrors", "alice"): 3,
        ("mirrors", "alice", "filter"): 4,
        ("mirrors", "alice", "filter", "people"): 4,
        ("mirrors", "alice", "filter", "people", 0): 4,
        ("mirrors", "alice", "filter", "people", 1): 5,
        ("mirrors", "alice", "filter", "rating"): 5,
        ("mirrors", "alice", "note"): 6,
        ("mirrors", "alice", "after"): 9,
        ("mirrors", "alice", "destinations"): 10,
        ("mirrors", "alice", "destinations", 0): 10,
        ("mirrors", "alice", "destinations", 0, "path"): 11,
        ("mirrors", "alice", "destinations", 1): 12,
        ("mirrors", "alice", "destinations", 1, "max_removed"): 13,
        ("mirrors", "alice", "destinations", 1, "max_removed", "count"): 13,
        ("mirrors", "alice", "destinations", 1, "max_lost"): 14,
        ("mirrors", "alice", "destinations", 1, "max_lost", "share"): 15,
    }


def test_quotes_that_belong_to_a_multi_line_string_do_not_open_another():
    text = 'a = """x"""""\nb = \'\'\'y\'\'\'\'\'\nc = ""\nd = [ """""" , \'\' ]\n'
    tomllib.loads(text)
    assert positions(text) == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4, ("d", 0): 4, ("d", 1): 4}


def test_a_key_is_found_under_the_name_it_means():
    assert positions("\"a\\u0062\".'c.d' = 1\n") == {("ab",): 1, ("ab", "c.d"): 1}


@pytest.mark.parametrize("text", ["a = [", "a = { b = ", "a", "a = "])
def test_what_tomllib_would_refuse_ends_the_walk(text):
    with pytest.raises(ValueError, match="tomllib"):
        positions(text)
