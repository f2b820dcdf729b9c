"""A profile's values in the words of a profile, and the JSON Schema of those words."""

import ast
import inspect
from dataclasses import fields
from enum import Enum
from itertools import pairwise
from typing import Any, Final, assert_never

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mirror.core.model import Choice, Destination, Filter, Limit, Limits, Mirror
from mirror.core.secret import (
    CommandSecret,
    CredentialSecret,
    EnvSecret,
    FileSecret,
    LiteralSecret,
    Secret,
)
from mirror.profile import tables
from mirror.profile.tables import (
    DefaultsTable,
    DestinationTable,
    FilterTable,
    LimitTable,
    MirrorTable,
    ProfileTable,
)
from mirror.secrets import MASK

# -- values ----------------------------------------------------------------------------------------


def masked(secret: Secret, *, mask: str = MASK) -> object:
    """A source in the words of a profile, without what may be secret."""
    match secret:
        case LiteralSecret():
            return mask
        case CredentialSecret(name):
            return {"credential": name}
        case FileSecret(path):
            return {"file": path}
        case EnvSecret(name):
            return {"env": name}
        case CommandSecret(argv):
            return {"command": [argv[0], *(MASK for _ in argv[1:])]}
        case _ as never:
            assert_never(never)


def as_toml(value: Any) -> Any:  # noqa: ANN401 (TOML values)
    """A value of the model in the words of a profile; what asks nothing is left out."""
    match value:
        case Enum():
            return value.value
        case Choice(values, every=every):
            return {"all": list(values)} if every else list(values)
        case tuple():
            return [as_toml(item) for item in value]
        case dict():
            return {key: as_toml(item) for key, item in value.items()}
        case Mirror() | Filter() | Destination() | Limit():
            return _table_as_toml(value)
        case _:
            return value


_OF_FOLDERS: Final = ("path", "require_mount", "dedupe")


def _table_as_toml(value: Mirror | Filter | Destination | Limit) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.name == "min_free_bytes":
            table["min_free"] = _size_text(item)
        elif field.name in ("access_key", "secret_key", "password"):
            if item is not None:
                table[field.name] = masked(item)
        elif isinstance(value, Destination) and value.is_remote and field.name in _OF_FOLDERS:
            if field.name == "path":
                table["url"] = item
        elif item is not None and item not in ((), {}):
            table[field.name] = as_toml(item)
    return table


def limits_as_toml(limits: Limits) -> dict[str, str | int]:
    """The limits of a profile in its words; those that are not set are left out."""
    told: dict[str, str | int] = {}
    if limits.bandwidth is not None:
        told["bandwidth"] = limits.bandwidth.text
    if limits.max_transfer_bytes is not None:
        told["max_transfer"] = _size_text(limits.max_transfer_bytes)
    if limits.max_duration_s is not None:
        told["max_duration"] = _duration_text(limits.max_duration_s)
    return told


def _duration_text(duration_s: int) -> str:
    units = (("d", 86_400), ("h", 3600), ("m", 60))
    exact = (f"{duration_s // size}{unit}" for unit, size in units if duration_s % size == 0)
    return next(exact, f"{duration_s}s")


def _size_text(size_bytes: int) -> str | int:
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return size_bytes


# -- the schema ------------------------------------------------------------------------------------


class _Generator(GenerateJsonSchema):
    """TOML has no null: a key that may be left out is not a key that may be null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def profile_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a profile, for editors: every key, with what it is for."""
    schema = ProfileTable.model_json_schema(schema_generator=_Generator)
    for name, shape in {ProfileTable.__name__: schema, **schema["$defs"]}.items():
        for key, said in _docstrings(getattr(tables, name, object)).items():
            shape["properties"][key]["description"] = said
    for table, defaults in profile_defaults().items():
        for key, value in defaults.items():
            schema["$defs"][table.__name__]["properties"][key]["default"] = value
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "A mirror profile"}


def _docstrings(table: type) -> dict[str, str]:
    """What stands below each key of a table, and of the tables that it extends."""
    told = {}
    for base in reversed(table.__mro__):
        if base.__module__ == tables.__name__:
            for key, below in pairwise(ast.walk(ast.parse(inspect.getsource(base)))):
                if isinstance(key, ast.AnnAssign) and isinstance(below, ast.Expr):
                    told[ast.unparse(key.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return told


def profile_defaults() -> dict[type[BaseModel], dict[str, Any]]:
    """What each table's keys are when they are left out; a key without a default is not in it."""
    mirror = {
        key: value
        for key, value in _table_as_toml(Mirror(name="", account="")).items()
        if key not in ("name", "account", "filter")
    }
    destination = _table_as_toml(Destination(path=""))
    del destination["path"]
    return {
        FilterTable: _table_as_toml(Filter()),
        LimitTable: _table_as_toml(Limit()),
        DestinationTable: destination,
        MirrorTable: mirror | destination,
        DefaultsTable: mirror | destination,
    }
