"""What the world may send: hypothesis strategies for names, dates, assets and layouts."""

import json
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from hypothesis import strategies as st

from mirror.core import checksum
from mirror.core.allocate import names_of
from mirror.core.evidence import Sentence, Verdict
from mirror.core.layout import fold
from mirror.core.model import (
    Asset,
    AssetType,
    EntryKind,
    Exif,
    Listed,
    NameRules,
    OnGone,
    Row,
    RowState,
    Visibility,
)
from tests.world import (
    OURS_NS,
    OWNER,
    THEIRS_NS,
    UPLOADED_AT,
    Node,
    RefusedError,
    Tree,
    World,
    an_asset,
    external,
    sha1,
)

# What two running Immich servers gave back unchanged for what had been uploaded.
RECORDED_NAMES: Final[list[str]] = json.loads(
    (Path(__file__).parent / "unit" / "hostile_names.json").read_text("utf-8")
)

# Pieces that meet at their edges: a mark after a letter, a space where the cut falls, "CON" + " ".
_FRAGMENTS: Final = (
    *("CON", "con", "nul", "COM", "¹", "LPT9", "aux", ".mirror", ".MIRROR", ".immich", "._", "~1"),
    *(
        "/",
        "\\",
        "..",
        ".",
        " ",
        "  ",
        "\0",
        "\n",
        "\t",
        "\x7f",
        "\x85",
        ":",
        "*",
        '"<>|?',
        "-",
        "_",
    ),
    *("\u0301", "\u0338", "\u0345", "\u0323", "\u200b", "\u200d", "\u202e", "\ufeff", "\ufe0f"),
    *("\u00ad", "\u2028", "\u3164", "\ud800", "\udc80", "\udfff", "\u1100", "\u1161", "\u11a8"),
    *("é", "e\u0301", "İ", "ß", "ŉ", "ΐ", "ᾳ", "K", "Å", "ﬁ", "한", "🌅", "👨\u200d👩", "عربى"),
    *("a", "A", "IMG_1", ".jpg", ".HEIC", ".tar.gz", ".x" + "y" * 15, ".x" + "y" * 16),
    *("a" * 180, "b" * 250, " " * 250, "." * 250, "é" * 120, "🌅" * 60, "\u0301" * 200),
)


def hostile_names() -> st.SearchStrategy[str]:
    """Text a stranger chose: any code points, also unpaired surrogates, and up to 1500 bytes."""
    return st.one_of(
        st.sampled_from(RECORDED_NAMES),
        st.lists(st.sampled_from(_FRAGMENTS), max_size=6).map("".join),
        st.text(st.characters(), max_size=300),
    )


def moments() -> st.SearchStrategy[datetime]:
    """Naive wall clocks of the years 1 to 9999."""
    return st.datetimes()


def instants() -> st.SearchStrategy[datetime]:
    """Aware UTC instants."""
    return st.datetimes(timezones=st.just(UTC))


def asset_ids() -> st.SearchStrategy[str]:
    """UUIDs as the server writes them."""
    return st.uuids().map(str)


def exifs() -> st.SearchStrategy[Exif]:
    """Metadata with hostile text in it."""
    text = st.none() | hostile_names()
    return st.builds(Exif, make=text, model=text, city=text, country=text)


def assets(names: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Asset]:
    """Assets with hostile names, paths and metadata, taken and uploaded at any time."""
    return st.builds(
        Asset,
        id=asset_ids(),
        owner_id=asset_ids(),
        type=st.sampled_from(AssetType),
        visibility=st.sampled_from(Visibility),
        original_file_name=hostile_names() if names is None else names,
        original_path=st.lists(hostile_names(), max_size=8).map("/".join),
        checksum=st.binary(min_size=20, max_size=20),
        taken_at=st.none() | instants(),
        taken_local=st.none() | moments(),
        uploaded_at=instants(),
        updated_at=instants(),
        exif=st.none() | exifs(),
    )


_LAYOUT_FIELDS: Final = (
    *("{filename}", "{stem}", "{ext}", ".{ext}", "{id}", "{id8}", "{checksum8}", "{type}"),
    *("{owner}", "{visibility}", "{make}", "{model|}", "{city|No city}", "{country|..}"),
    *("{original_folder}", "{original_folder|}", "{taken}", "{uploaded}", "{taken:%Y/%m/%d}"),
    *("{taken:%B %d, %Y}", "{uploaded:%G-W%V/%A}", "{taken:%H:%M:%S.%f}", "{taken:.}"),
)
_LAYOUT_LITERALS: Final = (".", "..", " ", "-", "Photos", "{{", "}}", "CON", ".mirror", "é")


def layout_texts() -> st.SearchStrategy[str]:
    """Texts of the layout language; some of them are refused, for a literal ".." say."""
    piece = st.sampled_from((*_LAYOUT_FIELDS, *_LAYOUT_LITERALS))
    component = st.lists(piece, min_size=1, max_size=4).map("".join)
    return st.lists(component, min_size=1, max_size=6).map("/".join)


def name_rules() -> st.SearchStrategy[NameRules]:
    """Either set of rules."""
    return st.sampled_from(NameRules)


# -- worlds: a server, a folder and an index that contradict each other ----------------------------

# The last three have the same short id.
IDS: Final = (
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
    "00000000-0000-4000-8000-000000000003",
    "00000000-0000-4000-8000-000000000004",
    "10000000-0000-4000-8000-00000000000f",
    "20000000-0000-4000-8000-00000000000f",
    "30000000-0000-4000-8000-00000000000f",
)
VIDEO_ID: Final = "00000000-0000-4000-8000-000000000005"
_OWNERS: Final = (OWNER, "00000000-0000-4000-8000-00000000000b")
_CONTENTS: Final = (b"", b"1", b"2", b"33")
# Bases meet each other: by case, by form, as a file where a folder is wanted, at a suffixed name.
_BASES: Final = (
    *("a.jpg", "A.jpg", "é.jpg", "É.jpg", "d/a.jpg", "D/a.jpg", "d", "d/a.jpg/x.jpg", "a.mov"),
    *("a-0000000f.jpg", f"a-{IDS[0]}.jpg", f"a-{IDS[4]}.jpg", "d-00000001", "x/y/a.jpg", "x"),
)
# What a file system may have made of them, or somebody else.
_SENTENCES: Final = (
    None,
    Sentence(OnGone.KEEP, Verdict.OFFLINE),
    Sentence(OnGone.QUARANTINE, Verdict.GONE),
    Sentence(OnGone.DELETE, Verdict.TRASHED),
)
_SPELLINGS: Final = (
    *_BASES,
    *("A.JPG", "e\u0301.jpg", "D/A.JPG", "a-0000000F.jpg", "a.MOV", "d/a.jpg/X.jpg", "bad\udcff"),
)


def worlds() -> st.SearchStrategy[World]:
    """Anything a run may meet.

    A seed and a few sizes instead of a hundred choices: twenty times as many worlds in the time,
    and a failure still shrinks to few assets and few files.
    """
    return st.builds(
        lambda seed, assets, rows, foreign: _Maker(Random(seed)).world(assets, rows, foreign),
        seed=st.integers(0, 2**32),
        assets=st.integers(0, len(IDS)),
        rows=st.integers(0, len(IDS) + 1),
        foreign=st.integers(0, 4),
    )


class _Maker:
    def __init__(self, random: Random) -> None:
        self._choice = random.choice
        self._sample = random.sample

    def world(self, assets: int, rows: int, foreign: int) -> World:
        ids = (*IDS, VIDEO_ID)
        contents = {asset_id: self._choice(_CONTENTS) for asset_id in ids}
        by_id = {asset_id: self._asset(asset_id, contents[asset_id]) for asset_id in ids}
        world = World(
            tree=Tree(folding=self._flag()),
            listed=self._listing(by_id, assets),
            bases={asset_id: self._choice(_BASES) for asset_id in ids},
            contents=contents,
            complete=self._flag(),
            removes=self._flag(),
            sentence=self._choice(_SENTENCES),
        )
        for asset_id in self._sample(ids, rows):
            self._add_row(world, by_id[asset_id])
        for path in self._sample(_SPELLINGS, foreign):
            self._add_foreign(world, path)
        for content in self._sample(_CONTENTS, self._choice((0, 0, 1, 2))):
            world.quarantine[f".mirror/quarantine/old/{content.decode()}"] = content
        if world.listed and self._flag():
            world.known_failures = frozenset({self._choice(world.listed).asset.id})
        return world

    def _flag(self) -> bool:
        return self._choice((False, True))

    def _asset(self, asset_id: str, content: bytes) -> Asset:
        asset = an_asset(
            asset_id,
            content,
            owner_id=self._choice(_OWNERS),
            uploaded_at=UPLOADED_AT + self._choice((timedelta(0), timedelta(days=1))),
        )
        return external(asset) if self._choice(range(5)) == 0 else asset

    def _listing(self, by_id: dict[str, Asset], count: int) -> tuple[Listed, ...]:
        """Some of the assets; the video belongs to one or two of the stills, or to none."""
        found = [Listed(by_id[asset_id]) for asset_id in self._sample(IDS, count)]
        if self._flag():
            stills = [by_id[it] for it in self._sample(IDS, self._choice(range(3)))]
            first = min(stills, key=lambda still: (still.uploaded_at, still.id), default=None)
            found.append(Listed(by_id[VIDEO_ID], first))
        return tuple(found)

    def _add_row(self, world: World, asset: Asset) -> None:
        """A row, if no other has its path, and what has become of its file."""
        listed = {item.asset.id: item for item in world.listed}.get(asset.id, Listed(asset))
        base = self._choice((world.base(listed), self._choice(_BASES)))
        lead = listed.still or asset
        path = self._choice((*names_of(base, lead.id, asset.id), *_SPELLINGS))
        if fold(path) in {fold(row.path) for row in world.rows.values()}:
            return
        content = self._choice((world.contents[asset.id], self._choice(_CONTENTS)))
        is_current = content == world.contents[asset.id]
        is_own = checksum.content_sha1(asset) is not None
        row = Row(
            asset_id=self._choice((asset.id, asset.id, asset.id, f"9{asset.id[1:]}")),
            owner_id=asset.owner_id,
            checksum=sha1(content) if is_own else asset.checksum,
            base=base,
            path=path,
            state=self._choice(tuple(RowState)),
            sha1=sha1(content) if is_own or self._flag() else None,
            size_bytes=len(content),
            mtime_ns=self._choice((OURS_NS, OURS_NS, THEIRS_NS)),
            etag=sha1(content).hex(),
            # The server gives a file another time when it has other bytes.
            file_modified_at=self._choice((UPLOADED_AT, None)) if is_current else None,
        )
        world.rows[row.asset_id] = row
        self._add_file(world, row, content)

    def _add_file(self, world: World, row: Row, content: bytes) -> None:
        others = [Node(content=it, mtime_ns=THEIRS_NS + 1) for it in _CONTENTS if it != content]
        intact = Node(content=content, mtime_ns=OURS_NS)
        link = Node(EntryKind.LINK)
        node = self._choice((intact, intact, intact, intact, *others, link, None, None))
        if node is not None:
            with suppress(RefusedError):
                world.tree.put(row.path, node)

    def _add_foreign(self, world: World, path: str) -> None:
        kinds = (*(EntryKind.FILE,) * 3, EntryKind.FOLDER, EntryKind.LINK)
        kind = self._choice(kinds)
        content = self._choice(_CONTENTS) if kind is EntryKind.FILE else b""
        with suppress(RefusedError):
            # Not the time of any row: size and time together are what a run believes.
            world.tree.put(path, Node(kind, content, mtime_ns=THEIRS_NS + 1))


# -- names by the thousand -------------------------------------------------------------------------

_HOSTILE_RANGES: Final = (
    *((0x00, 0x1F), (0x7F, 0x9F)),  # control characters
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069)),  # invisible, and what reorders
    *((0xD800, 0xDFFF), (0xDC80, 0xDCFF)),  # surrogates, and those that stand for bytes
    *((0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x345), (0x1100, 0x11FF), (0x1F300, 0x1F6FF)),
)
_DEVICES: Final = ("CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "CONIN$", "com¹")
_EXTENSIONS: Final = ("", ".jpg", ".JPG", ".HEIC", ".mov", ".tar.gz", ". ", ".j/g", "..", ".\u202e")


def many_hostile_names(seed: int, count: int) -> list[str]:
    """Names of every bad kind, many of which meet one another; the same for the same seed.

    Without hypothesis, which would not draw as many in a day.
    """
    random = Random(seed)
    names: list[str] = []
    while len(names) < count:
        make = random.choice((_invented, _pieced, _device, _long, _twin, _twin, _wandering))
        names.append(make(random, names))
    return names


def _invented(random: Random, _: list[str]) -> str:
    ranges = random.choices(_HOSTILE_RANGES, k=random.randint(0, 12))
    return "".join(chr(random.randint(*one)) for one in ranges) + random.choice(_EXTENSIONS)


def _pieced(random: Random, _: list[str]) -> str:
    return "".join(random.choices(_FRAGMENTS, k=random.randint(0, 6)))


def _device(random: Random, _: list[str]) -> str:
    name = random.choice(_DEVICES)
    end = random.choice(("", " ", ".", " .", ":stream", *_EXTENSIONS))
    return random.choice((name, name.lower(), name.title())) + end


def _long(random: Random, _: list[str]) -> str:
    letter = random.choice(("a", "é", "e\u0301", "한", "🌅", "\u0301", ".", " ", "a b."))
    limit = random.choice((240, 254, 255, 256, 1000))
    return (letter * limit)[:limit] + random.choice(_EXTENSIONS)


def _twin(random: Random, names: list[str]) -> str:
    """What some file system takes for a name that is there already."""
    name = random.choice(names) if names else "IMG_1.jpg"
    forms: tuple[Callable[[str], str], ...] = (
        *(str, str.upper, str.lower, str.swapcase),
        *(partial(unicodedata.normalize, form) for form in ("NFC", "NFD", "NFKC")),
        *(lambda it: f"{it} ", lambda it: f"{it}.", lambda it: f"\u200b{it}"),
    )
    return random.choice(forms)(name)


def _wandering(random: Random, names: list[str]) -> str:
    """Out of the root, into our own folder, or into another's name."""
    name = random.choice(names) if names else "x.jpg"
    start = random.choice(("../", "..\\", "/", "a/", "C:\\", ".mirror/", "./", "//", "~/", "\0"))
    return random.choice((start, start * 3)) + name
