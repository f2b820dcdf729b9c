"""What the README says of log lines is what the program declares."""

import re
from pathlib import Path

import pytest

from mirror.events import FIELDS, Event, schema

_README = (Path(__file__).parents[2] / "mirror/README.md").read_text()
_LINES = _README.partition("## Log lines")[2].partition("\n## ")[0]
_EVENTS = {
    name: set(re.findall(r"`([\w.]+)`", fields))
    for name, fields in re.findall(r"^\| `([\w.]+)` \| [^|]+ \| ([^|]*) \|$", _LINES, re.MULTILINE)
}
_MAPPED = set(re.findall(r"^\| `([\w.]+)` \| `", _LINES.partition("### For ECS")[2], re.MULTILINE))


@pytest.mark.parametrize("event", Event)
def test_every_event_is_told_with_its_own_fields(event: Event):
    assert _EVENTS.get(event.value) == set(FIELDS[event])


def test_every_field_of_the_schema_has_a_name_in_ecs_and_opentelemetry():
    fields = {name for line in schema()["oneOf"] for name in line["properties"]}
    assert fields == _MAPPED
