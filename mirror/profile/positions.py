"""Where each key and value of a TOML document stands, which `tomllib` does not tell.

Only for documents that `tomllib` has accepted: it reads structure, not validity.
"""

import re
import tomllib
from typing import TypeAlias

Loc: TypeAlias = tuple[str | int, ...]

_KEY = re.compile(r""" "(?:\\.|[^"\\])*" | '[^']*' | [A-Za-z0-9_-]+ """, re.VERBOSE)
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\n,]|\#[^\n]*)*")  # statements, and the items of an array
_SCALAR = re.compile(
    r'''
    """ (?:\\.|[^\\])*? """ "{0,2}
    | \'\'\' .*? \'\'\' '{0,2}
    | "(?:\\.|[^"\\])*"
    | '[^']*'
    | \d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}\#]*   # a date and time may be parted by a space
    | [^\s,\]}\#]+
    ''',
    re.VERBOSE | re.DOTALL,
)


def positions(text: str) -> dict[Loc, int]:
    """The line, from 1, of every table, key and array item; implied tables stand at first mention.

    A path is like `("mirrors", "alice", "destinations", 0, "path")`.

    Raises:
        ValueError: the document is not valid; not every fault is noticed.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.found


class _Scanner:
    """One walk through one document."""

    def __init__(self, text: str) -> None:
        self.found: dict[Loc, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._last_item: dict[Loc, int] = {}  # of each array of tables

    def document(self) -> None:
        table: Loc = ()
        self._take(_BETWEEN)
        while self._at < len(self._text):
            if self._skip("[["):
                table = self._header(array=True)
            elif self._skip("["):
                table = self._header(array=False)
            else:
                self._pair(table)
            self._take(_BETWEEN)

    def _header(self, *, array: bool) -> Loc:
        line = self._line
        *parents, last = self._key()
        path: Loc = ()
        for part in parents:
            path = self._newest((*path, part), line)
        path = (*path, last)
        if array:
            self._last_item[path] = self._last_item.get(path, -1) + 1
        path = self._newest(path, line)
        self._skip("]]" if array else "]")
        return path

    def _newest(self, path: Loc, line: int) -> Loc:
        """The path, or its last item so far if it is an array of tables."""
        self.found.setdefault(path, line)
        if path in self._last_item:
            path = (*path, self._last_item[path])
            self.found.setdefault(path, line)
        return path

    def _pair(self, table: Loc) -> None:
        line = self._line
        path = table
        for part in self._key():
            path = (*path, part)
            self.found.setdefault(path, line)
        self._skip("=")
        self._take(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        self._take(_SPACE)
        parts = [_unquoted(self._take(_KEY))]
        while self._take(_DOT):
            parts.append(_unquoted(self._take(_KEY)))
        self._take(_SPACE)
        return parts

    def _value(self, path: Loc) -> None:
        self.found.setdefault(path, self._line)
        if self._skip("["):
            self._array(path)
        elif self._skip("{"):
            self._inline_table(path)
        elif not self._take(_SCALAR):
            raise ValueError("not a document that tomllib accepts")  # and would never end

    def _array(self, path: Loc) -> None:
        index = 0
        self._take(_BETWEEN)
        while not self._skip("]"):
            self._value((*path, index))
            self._take(_BETWEEN)
            index += 1

    def _inline_table(self, path: Loc) -> None:
        self._take(_BETWEEN)
        while not self._skip("}"):
            self._pair(path)
            self._take(_BETWEEN)

    def _skip(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        self._line += match[0].count("\n")
        return match[0]


def _unquoted(key: str) -> str:
    if key[:1] == '"':
        return str(tomllib.loads(f"key = {key}")["key"])
    return key.strip("'") if key[:1] == "'" else key
