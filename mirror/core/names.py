"""Names that every file system takes, and the key that says two of them are one.

Pure. Whatever text comes in, one component comes out: it has no separator, is never "." or "..",
is NFC and at most 255 bytes of UTF-8, and coming in again it comes out as it is.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from mirror.core.model import NameRules

CANDIDATES: Final = 3  # names that an asset may take

COMPONENT_BYTES: Final = 255
UNNAMED: Final = "unnamed"

# Longer than any suffix in use, and short enough that a stem always keeps most of its 255 bytes.
_EXTENSION: Final = re.compile(r"[^.\s/]{1,16}")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_POSIX: Final = re.compile(r"[/\0]")
_NOT_PORTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f]"  # control characters
    r'|[/\\<>:"|?*]'  # what Windows refuses
    r"|[\u2028\u2029]"  # line and paragraph separators
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # they reorder what a reader sees
    r"|[\u00ad\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb]"  # nothing to see
    r"|[\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f]"  # nor here
)
# macOS and Samba take "._name" for the hidden half of "name", and delete or veto it.
_LEADING: Final = re.compile(r"\A(?: +|\._)")
_TRAILING: Final = re.compile(r"[. ]+\Z")
# Devices in every folder, whatever the extension (Python 3.13 `ntpath.isreserved` has the same).
_RESERVED: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[1-9¹²³]) *(?:\.|\Z)", re.IGNORECASE
)
# Folders and markers with a meaning: this tool's own, and Immich's in its upload folders.
_TAKEN: Final = frozenset({".mirror", ".immich"})

# Default_Ignorable_Code_Point of Unicode 15: HFS+ and casefolding ext4 do not see them in a name.
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


@lru_cache(maxsize=4096)  # folders come again with each of their files: half of the time of a path
def safe_component(text: str, names: NameRules) -> str:
    """`text` as one component of a path: what the rules forbid becomes "_", one for one.

    An empty or invisible name becomes "unnamed", and a reserved one gets "_" in front.
    """
    name = unicodedata.normalize("NFC", _SURROGATE.sub("_", text))
    name = _portable(name) if names is NameRules.PORTABLE else _fit(_NOT_POSIX.sub("_", name))
    return _with_no_meaning(name)


# A tree keeps the rules under which it got its names: the version is in its index. Where any name
# would change, that is a new version here, and the old one stays as it is.
COMPONENT_RULES: Final[dict[int, Callable[[str, NameRules], str]]] = {1: safe_component}
NAME_RULES_VERSION: Final = max(COMPONENT_RULES)


def fold(path: str) -> str:
    """The key of a path: equal for two paths that some file system takes for the same name.

    Case, Unicode normal form and characters that cannot be seen make no difference. Surrogate
    escapes stay as they are.
    """
    if path.isascii():
        return path.lower()
    key = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", _IGNORABLE.sub("", key))


def split_extension(name: str) -> tuple[str, str]:
    """("IMG_1", ".HEIC"), in one piece again when joined; ("", ".jpg") for ".jpg".

    What follows the last dot counts up to 16 characters without white space.
    """
    stem, dot, extension = name.rpartition(".")
    if not dot or not _EXTENSION.fullmatch(extension):
        return name, ""
    return stem, f".{extension}"


def with_suffix(path: str, suffix: str) -> str:
    """`path` with `suffix` before the extension; the stem is cut where there is no room for both.

    `suffix` is short, and safe by itself.
    """
    folder, slash, name = path.rpartition("/")
    stem, extension = split_extension(name)
    stem = _cut(stem or UNNAMED, COMPONENT_BYTES - _size_bytes(suffix + extension))
    return f"{folder}{slash}{stem}{suffix}{extension}"


def id8(asset_id: str) -> str:
    """The last eight hex digits of a UUID."""
    return asset_id.replace("-", "")[-8:]


def candidate(base: str, asset_id: str, number: int) -> str:
    """The names an asset may take, in the order to try: its base, with `-{id8}`, with `-{id}`.

    `asset_id` is a UUID, `number` below `CANDIDATES`.
    """
    suffixes = ("", f"-{id8(asset_id)}", f"-{asset_id}")
    return with_suffix(base, suffixes[number]) if number else base


def candidates(base: str, asset_id: str) -> tuple[str, ...]:
    """All of them."""
    return tuple(candidate(base, asset_id, number) for number in range(CANDIDATES))


def _portable(name: str) -> str:
    # Cutting may uncover a reserved name or a trailing space: each rule comes after what feeds it.
    name = _NOT_PORTABLE.sub("_", name)
    name = _fit(_LEADING.sub(_underscores, name))
    if _RESERVED.match(name):
        name = _fit(f"_{name}")
    return _TRAILING.sub(_underscores, name)


def _with_no_meaning(name: str) -> str:
    key = fold(name)
    if key in {".", ".."}:
        return "_" * len(key)
    # FAT and SMB do not see what trails: ".mirror. " is ".mirror" there, under the posix rules too.
    visible = key.rstrip(" .")
    if visible in _TAKEN:
        return f"_{visible[1:]}"
    return name if key else UNNAMED


def _underscores(match: re.Match[str]) -> str:
    return "_" * len(match[0])


def _fit(name: str) -> str:
    if _size_bytes(name) <= COMPONENT_BYTES:
        return name
    stem, extension = split_extension(name)
    return _cut(stem, COMPONENT_BYTES - _size_bytes(extension)) + extension


def _cut(text: str, limit_bytes: int) -> str:
    """The start of `text` that fits, not ending between a letter and its marks."""
    if _size_bytes(text) <= limit_bytes:
        return text
    start = text.encode("utf-8", "surrogatepass")[:limit_bytes].decode("utf-8", "ignore")
    end = len(start)
    while end and unicodedata.category(text[end]).startswith("M"):
        end -= 1
    return text[:end] or start


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
