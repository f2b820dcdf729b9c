"""Every incident that the README of the tests names has the test that it names."""

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_TABLE = (_TESTS / "README.md").read_text().partition("## Incidents")[2].partition("\n## ")[0]
_NAMED = re.findall(r"\| `([\w/]+\.py)::(\w+)` \|$", _TABLE, re.MULTILINE)


def test_every_row_names_a_test():
    rows = [line for line in _TABLE.splitlines() if line.startswith("| ")]
    assert len(_NAMED) == len(rows) - 1  # but for the heading
    assert len(_NAMED) > 30


@pytest.mark.parametrize(("file", "name"), _NAMED)
def test_the_test_of_an_incident_is_there(file: str, name: str):
    assert re.search(rf"def {name}\(", (_TESTS / file).read_text())
