"""The rule that gives each asset its path.

Pure. A path depends on the asset alone: not on other assets, their order, the process's locale or
the machine's time zone. Text from the server never makes a folder, but for `{original_folder}`.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias

from mirror.core.model import Asset, Exif, NameRules
from mirror.core.names import (
    CANDIDATES,
    COMPONENT_RULES,
    NAME_RULES_VERSION,
    candidate,
    candidates,
    fold,
    id8,
    safe_component,
    split_extension,
    with_suffix,
)

__all__ = [
    "CANDIDATES",
    "NAME_RULES_VERSION",
    "Layout",
    "LayoutError",
    "candidate",
    "candidates",
    "compile_layout",
    "fold",
    "id8",
    "safe_component",
    "with_suffix",
]

# Room for a root, for a quarantine's folders and for a suffix under macOS's limit of 1024.
PATH_BYTES: Final = 800

_DATE_FORMAT: Final = "%Y-%m-%d"
_MISSING: Final = "Unknown"


class LayoutError(ValueError):
    """A layout cannot be used: what is wrong with it, and what to write instead."""


# -- fields ----------------------------------------------------------------------------------------

_DATES: Final[dict[str, Callable[[Asset], datetime]]] = {
    # Where it was taken, as the wall clock said. Years 1 to 99 come as 20xx or 19xx from the
    # server (Immich 2.7.5 and 3.1.0), and nothing in the answer tells.
    "taken": lambda asset: asset.taken_local or asset.uploaded_at.astimezone(UTC),
    "uploaded": lambda asset: asset.uploaded_at.astimezone(UTC),
}

_TEXTS: Final[dict[str, Callable[[Asset], str]]] = {
    "filename": lambda asset: asset.original_file_name,
    "stem": lambda asset: split_extension(asset.original_file_name)[0],
    "ext": lambda asset: _extension(asset)[1:],
    "id": lambda asset: asset.id,
    "id8": lambda asset: id8(asset.id),
    "checksum8": lambda asset: asset.checksum.hex()[:8],
    "type": lambda asset: asset.type.lower(),
    "owner": lambda asset: asset.owner_id,
    "visibility": lambda asset: asset.visibility.value,
}

_EXIF: Final[dict[str, Callable[[Exif], str | None]]] = {
    "make": lambda exif: exif.make,
    "model": lambda exif: exif.model,
    "city": lambda exif: exif.city,
    "country": lambda exif: exif.country,
}

_FOLDER: Final = "original_folder"
_MAY_BE_MISSING: Final = frozenset({*_EXIF, _FOLDER})
_ALL: Final = frozenset({*_DATES, *_TEXTS, *_MAY_BE_MISSING})
_OF_SEVERAL: Final = frozenset({"album", "albums", "people", "person", "tag", "tags"})

MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# Written out, because strftime follows the locale and does not pad years on every platform.
_DIRECTIVES: Final[dict[str, Callable[[datetime], str]]] = {
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "m": lambda at: f"{at.month:02}",
    "B": lambda at: MONTHS[at.month - 1],
    "b": lambda at: MONTHS[at.month - 1][:3],
    "d": lambda at: f"{at.day:02}",
    "j": lambda at: f"{_day_of_year(at):03}",
    "A": lambda at: DAYS[at.weekday()],
    "a": lambda at: DAYS[at.weekday()][:3],
    "u": lambda at: str(at.isoweekday()),
    "G": lambda at: f"{at.isocalendar().year:04}",
    "V": lambda at: f"{at.isocalendar().week:02}",
    "U": lambda at: f"{(_day_of_year(at) + 6 - at.isoweekday() % 7) // 7:02}",
    "W": lambda at: f"{(_day_of_year(at) + 6 - at.weekday()) // 7:02}",
    "H": lambda at: f"{at.hour:02}",
    "I": lambda at: f"{(at.hour + 11) % 12 + 1:02}",
    "p": lambda at: "PM" if at.hour >= 12 else "AM",  # noqa: PLR2004  noon
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "f": lambda at: f"{at.microsecond:06}",
    "%": lambda _at: "%",
}

_DIRECTIVE: Final = re.compile("%(.)")


def _day_of_year(at: datetime) -> int:
    return at.timetuple().tm_yday


def _extension(asset: Asset) -> str:
    """With its dot; from the server's own path when the name has none."""
    _, extension = split_extension(asset.original_file_name)
    return extension or split_extension(asset.original_path.rpartition("/")[2])[1]


# -- a compiled layout -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    date_format: str = ""
    default: str = _MISSING
    dotted: bool = False  # "." in front, unless there is nothing for it to stand before

    def text(self, asset: Asset, owner: str) -> str:
        """The value; a "/" in it makes a folder."""
        if self.name in _DATES:
            return _formatted(_DATES[self.name](asset), self.date_format)
        if self.name == _FOLDER:
            return _folders(asset.original_path) or self.default
        value = _value(self.name, asset, owner).replace("/", "_")
        value = value or (self.default if self.name in _EXIF else "")
        return f".{value}" if self.dotted and value else value


_Piece: TypeAlias = str | _Field
_Component: TypeAlias = tuple[_Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout ready for use; made by `compile_layout`."""

    text: str
    names: NameRules
    fields: frozenset[str]
    _components: tuple[_Component, ...] = field(repr=False)
    _safe: Callable[[str, NameRules], str] = field(repr=False)

    @property
    def needs_exif(self) -> bool:
        """Whether any of its fields reads `exifInfo`."""
        return not self.fields.isdisjoint(_EXIF)

    def path(self, asset: Asset, *, owner: str = "") -> str:
        """The base path of an asset, relative: "2024/05/01/IMG_1.HEIC".

        `owner` is what `{owner}` says, by default the owner's id. A path above 800 bytes loses
        folders, those nearest the root first: its end says more about the asset.
        """
        texts = ("".join(_texts(component, asset, owner)) for component in self._components)
        parts = [self._safe(part, self.names) for text in texts for part in text.split("/")]
        return _shortened(parts)

    def month_reader(self) -> Callable[[str], tuple[int, int] | None] | None:
        """Reads year and month of `taken` out of base paths of this layout; None: it cannot.

        It can where both stand in front, with nothing but literals before and between them:
        what other fields hold is anybody's guess. What does not look like a path of this layout
        (another made it, or it was shortened) has no month.
        """
        pattern = re.compile("/".join(_month_pattern(self._components)))
        if not {"Y", "m"} <= pattern.groupindex.keys():
            return None

        def read(path: str) -> tuple[int, int] | None:
            found = pattern.match(path)
            if found is None or not 1 <= int(found["m"]) <= len(MONTHS):
                return None
            return int(found["Y"]), int(found["m"])

        return read

    def video_path(self, still: Asset, video: Asset, *, owner: str = "") -> str:
        """The base path of a live photo's video: its still's, with the video's own extension.

        Where that is missing or the still's own, it is ".MOV", or ".MP4" beside a still ".MOV".
        """
        folder, slash, name = self.path(still, owner=owner).rpartition("/")
        stem, taken = split_extension(name)
        names = (
            self._safe(stem + extension, self.names)
            for extension in (_extension(video), ".MOV", ".MP4")
            if extension and fold(extension) != fold(taken)
        )
        # Two extensions may become one when they are made safe.
        return f"{folder}{slash}{next(one for one in names if fold(one) != fold(name))}"


# How many digits a part of a date has; the others are words.
_DIGITS: Final = {"Y": 4, "G": 4, "j": 3, "f": 6, "u": 1, **dict.fromkeys("ymdHIMSVUW", 2)}


def _month_pattern(components: tuple[_Component, ...]) -> Iterator[str]:
    """Patterns of the components in front, up to the first field that is not `taken`."""
    seen: set[str] = set()
    for component in components:
        pattern = ""
        for piece in component:
            if isinstance(piece, str):
                pattern += re.escape(piece)
            elif piece.name == "taken":
                pattern += _date_pattern(piece.date_format, seen)
            else:
                yield pattern
                return
        yield pattern


def _date_pattern(date_format: str, seen: set[str]) -> str:
    pattern = ""
    for part in re.findall("(?s)%.|[^%]+", date_format):
        letter = part[1:] if part.startswith("%") else ""
        if letter == "%" or not letter:
            pattern += re.escape(letter or part)
            continue
        one = f"[0-9]{{{_DIGITS[letter]}}}" if letter in _DIGITS else "[A-Za-z]+"
        if letter in ("Y", "m") and letter not in seen:
            seen.add(letter)
            one = f"(?P<{letter}>{one})"
        pattern += one
    return pattern


def _texts(component: _Component, asset: Asset, owner: str) -> Iterator[str]:
    for piece in component:
        yield piece if isinstance(piece, str) else piece.text(asset, owner)


def _value(name: str, asset: Asset, owner: str) -> str:
    if name in _EXIF:
        # Cameras pad their names with spaces and NULs.
        value = _EXIF[name](asset.exif) if asset.exif else None
        return (value or "").strip(" \0\t\r\n")
    return owner if name == "owner" and owner else _TEXTS[name](asset)


def _folders(original_path: str) -> str:
    return "/".join(part for part in original_path.split("/")[:-1] if part)


def _formatted(at: datetime, date_format: str) -> str:
    return _DIRECTIVE.sub(lambda match: _DIRECTIVES[match[1]](at), date_format)


def _shortened(parts: list[str]) -> str:
    sizes = [len(part.encode()) + 1 for part in parts]
    first, total = 0, sum(sizes) - 1
    while total > PATH_BYTES:  # one component is never as long
        total -= sizes[first]
        first += 1
    return "/".join(parts[first:])


# -- from its text ---------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<field>[^{}]*)\}|(?P<stray>[{}])|[^{}]+")
_FIELD: Final = re.compile(r"(?s)(?P<name>[^:|]*)(?::(?P<format>[^|]*))?(?:\|(?P<default>.*))?")


def compile_layout(text: str, names: NameRules, *, version: int = NAME_RULES_VERSION) -> Layout:
    """`text` as a layout: literals, "/" for folders, `{field}`, `{field:%Y}`, `{field|default}`.

    `{{` and `}}` are literal braces. A last component that does not end with `{filename}` or
    `.{ext}` gets the extension appended, so that files keep their type. `version` is that of the
    rules under which the tree got its names.

    Raises:
        LayoutError: it cannot be used.
    """
    if text.startswith(("/", "~/")) or re.match(r"[A-Za-z]:[/\\]", text):
        raise LayoutError(f"layout {text!r} is absolute; it is relative to the destination's path")
    components = [_with_dotted_ext(component) for component in _components(list(_pieces(text)))]
    for component in components:
        _check(component, text, names)
    components[-1] = _with_type(components[-1])
    return Layout(
        text,
        names,
        frozenset(_field_names(components)),
        tuple(components),
        COMPONENT_RULES[version],
    )


def _pieces(text: str) -> Iterator[_Piece]:
    """Literals and fields in order; "/" stands alone, also out of date formats."""
    for token in _TOKEN.finditer(text):
        if token["stray"]:
            raise LayoutError(f"layout {text!r} has a single {token[0]!r}; write {token[0] * 2!r}")
        if token["brace"]:
            yield token[0][0]
        elif token["field"] is None:
            yield from _around_slashes(token[0])
        else:
            yield from _field(token["field"])


def _around_slashes(text: str) -> Iterator[str]:
    return (part for part in re.split("(/)", text) if part)


def _field(text: str) -> Iterator[_Field | str]:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise LayoutError(f"cannot read the field {{{text}}}")
    name, date_format, default = match["name"], match["format"], match["default"]
    _check_field(name, date_format, default)
    if name not in _DATES:
        yield _Field(name, default=_MISSING if default is None else default)
        return
    for part in _around_slashes(_DATE_FORMAT if date_format is None else date_format):
        yield part if part == "/" else _Field(name, date_format=part)


def _check_field(name: str, date_format: str | None, default: str | None) -> None:
    if name not in _ALL:
        raise LayoutError(_unknown(name))
    if date_format is not None:
        _check_date_format(name, date_format)
    if default is None:
        return
    if name not in _MAY_BE_MISSING:
        raise LayoutError(f"{{{name}}} is never missing; it takes no default")
    if "/" in default:
        raise LayoutError(f"the default of {{{name}}} cannot hold a '/'; it never makes a folder")


def _unknown(name: str) -> str:
    if name in _OF_SEVERAL:
        return (
            f"{{{name}}} cannot be in a layout: an asset may have several, and has one path; "
            "albums become views in a later version"
        )
    near = difflib.get_close_matches(name, sorted(_ALL), n=1)
    hint = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join(sorted(_ALL))}"
    return f"unknown field {{{name}}} in a layout; {hint}"


def _check_date_format(name: str, date_format: str) -> None:
    if name not in _DATES:
        raise LayoutError(f"{{{name}}} is no date; only {{taken}} and {{uploaded}} take a format")
    if not date_format:
        raise LayoutError(f"the format of {{{name}:}} is empty; write {{{name}:{_DATE_FORMAT}}}")
    for directive in re.findall("(?s)%(.|$)", date_format):
        if directive not in _DIRECTIVES:
            known = " ".join(f"%{letter}" for letter in _DIRECTIVES)
            raise LayoutError(
                f"unknown %{directive} in {{{name}:{date_format}}}; there are {known}"
            )


def _components(pieces: list[_Piece]) -> Iterator[_Component]:
    start = 0
    for end, piece in enumerate(pieces):
        if piece == "/":
            yield tuple(pieces[start:end])
            start = end + 1
    yield tuple(pieces[start:])


def _with_dotted_ext(component: _Component) -> _Component:
    """A "." before `{ext}` goes with it, so that a name without extension does not end with it."""
    pieces: list[_Piece] = []
    for piece in component:
        before = pieces[-1] if pieces else ""
        if piece == _Field("ext") and isinstance(before, str) and before.endswith("."):
            pieces[-1:] = [before[:-1], _Field("ext", dotted=True)]
        else:
            pieces.append(piece)
    return tuple(piece for piece in pieces if piece != "")


def _with_type(component: _Component) -> _Component:
    dotted = _Field("ext", dotted=True)
    return component if component[-1] in {_Field("filename"), dotted} else (*component, dotted)


def _check(component: _Component, text: str, names: NameRules) -> None:
    """Refuse what the user wrote and no file would get; what the server sends is made safe."""
    if not component:
        raise LayoutError(f"layout {text!r} has an empty folder or file name")
    literal = unicodedata.normalize("NFC", "".join(p for p in component if isinstance(p, str)))
    whole = all(isinstance(piece, str) for piece in component)
    if whole and literal != safe_component(literal, names):
        better = safe_component(literal, names)
        raise LayoutError(f"layout {text!r}: {literal!r} is no safe name; write {better!r}")


def _field_names(components: list[_Component]) -> Iterator[str]:
    for component in components:
        yield from (piece.name for piece in component if isinstance(piece, _Field))
