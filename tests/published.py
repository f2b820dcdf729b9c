"""Whether log lines are what the published schema says."""

import json
from typing import Any, Final

import jsonschema

from mirror.events import schema

_VALIDATOR: Final = jsonschema.Draft202012Validator(schema())
_SEEN: Final[set[tuple[object, ...]]] = set()


def assert_published(line: dict[str, Any]) -> None:
    """A line, against the schema, which goes by names and types: once for each that it can have."""
    fields = sorted((name, type(told).__name__) for name, told in line.items())
    shape = line.get("event"), line.get("level"), line.get("v"), *fields
    if shape not in _SEEN:
        _VALIDATOR.validate(json.loads(json.dumps(line)))
        _SEEN.add(shape)
