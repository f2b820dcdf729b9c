"""What the world may send: hypothesis strategies for names, dates, assets and layouts."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from mirror.core.model import Asset, AssetType, Exif, NameRules, Visibility

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
