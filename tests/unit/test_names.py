import unicodedata

import pytest
from hypothesis import assume, example, given

from mirror.core.model import NameRules
from mirror.core.names import (
    candidates,
    fold,
    id8,
    safe_component,
    split_extension,
    with_suffix,
)
from tests.strategies import RECORDED_NAMES, asset_ids, hostile_names, name_rules

ID = "9e359a4d-a6fa-43ba-8bb5-ade26513b994"
DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "123456789¹²³"
}

# Unicode gives class BN ("boundary neutral") to what has no width, such as U+200B and tags.
BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN"}


def faults(name: str, names: NameRules = NameRules.POSIX) -> list[str]:
    """Why a name is not safe, told without the code that makes it so."""
    found = ["separator or NUL"] if {"/", "\0"} & set(name) else []
    if name in {"", ".", ".."} or fold(name) in {"", ".", "..", ".mirror", ".immich"}:
        found.append("meaning")
    if len(name.encode()) > 255:
        found.append("too long")
    if unicodedata.normalize("NFC", name) != name:
        found.append("not NFC")
    return found + (windows_faults(name) if names is NameRules.PORTABLE else [])


def windows_faults(name: str) -> list[str]:
    found = [f"U+{ord(c):04X}" for c in name if c in '\\<>:"|?*' or is_hidden(c)]
    if name.endswith((".", " ")) or name.startswith((" ", "._")):
        found.append("edge")
    if name.partition(".")[0].rstrip(" ").upper() in DEVICES:
        found.append("device")
    return found


def is_hidden(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"}
        or unicodedata.bidirectional(character) in BIDI_CONTROLS
        or character in "\u200e\u200f\u061c"
    )


@pytest.mark.parametrize(
    ("name", "portable", "posix"),
    [
        ("IMG_1.HEIC", "IMG_1.HEIC", "IMG_1.HEIC"),
        ("dir/slash.jpg", "dir_slash.jpg", "dir_slash.jpg"),
        ("../../../etc/evil.jpg", ".._.._.._etc_evil.jpg", ".._.._.._etc_evil.jpg"),
        ("..\\evil.jpg", ".._evil.jpg", "..\\evil.jpg"),
        ("/etc/passwd.jpg", "_etc_passwd.jpg", "_etc_passwd.jpg"),
        ("C:\\x\\pic.jpg", "C__x_pic.jpg", "C:\\x\\pic.jpg"),
        ('a:b*c?d"e<f>g|h.jpg', "a_b_c_d_e_f_g_h.jpg", 'a:b*c?d"e<f>g|h.jpg'),
        ("new\nline\t\x1b\x7f\x85.jpg", "new_line____.jpg", "new\nline\t\x1b\x7f\x85.jpg"),
        ("nul\0.jpg", "nul_.jpg", "nul_.jpg"),
        ("rtl\u202egpj.jpg", "rtl_gpj.jpg", "rtl\u202egpj.jpg"),
        ("\ufeffbom\u200b.jpg", "_bom_.jpg", "\ufeffbom\u200b.jpg"),
        ("lone\ud800\udc80.jpg", "lone__.jpg", "lone__.jpg"),
        ("cafe\u0301.jpg", "café.jpg", "café.jpg"),
        ("CON", "_CON", "CON"),
        ("con.jpg", "_con.jpg", "con.jpg"),
        ("aux.tar.jpg", "_aux.tar.jpg", "aux.tar.jpg"),
        ("PRN .jpg", "_PRN .jpg", "PRN .jpg"),
        ("LPT¹.jpg", "_LPT¹.jpg", "LPT¹.jpg"),
        ("CONTACT.jpg", "CONTACT.jpg", "CONTACT.jpg"),
        ("COM10.jpg", "COM10.jpg", "COM10.jpg"),
        ("name. .", "name___", "name. ."),
        ("  two  spaces  .jpg", "__two  spaces  .jpg", "  two  spaces  .jpg"),
        (".jpg", ".jpg", ".jpg"),
        ("...jpg", "...jpg", "...jpg"),
        ("._IMG_1.jpg", "__IMG_1.jpg", "._IMG_1.jpg"),
        ("", "unnamed", "unnamed"),
        ("\ufe0f", "unnamed", "unnamed"),
        (".", "_", "_"),
        ("..", "__", "__"),
        ("...", "___", "..."),
        (".mirror", "_mirror", "_mirror"),
        (".Mirror. ", ".Mirror__", "_mirror"),
        (".mir\u200cror", ".mir_ror", "_mirror"),
        (".IMMICH", "_immich", "_immich"),
        (".mirror.jpg", ".mirror.jpg", ".mirror.jpg"),
    ],
)
def test_a_name_becomes_safe(name: str, portable: str, posix: str) -> None:
    assert safe_component(name, NameRules.PORTABLE) == portable
    assert safe_component(name, NameRules.POSIX) == posix


@given(hostile_names(), name_rules())
@example("CON" + " " * 300 + "x", NameRules.PORTABLE)
@example("CON." + "x" * 251, NameRules.PORTABLE)
@example("x" * 254 + " .", NameRules.PORTABLE)
@example("x" * 254 + "\u0344", NameRules.PORTABLE)
@example("<\u0338/\u0338", NameRules.PORTABLE)
@example(".\u200b.", NameRules.POSIX)
@example("\u0390" * 200, NameRules.POSIX)
def test_any_text_becomes_a_safe_name_and_stays_it(text: str, names: NameRules) -> None:
    name = safe_component(text, names)
    assert faults(name, names) == []
    assert safe_component(name, names) == name


@given(hostile_names(), asset_ids(), name_rules())
@example("COM", "00000000-0000-0000-0000-000000000000", NameRules.PORTABLE)
def test_every_candidate_is_safe_too(text: str, asset_id: str, names: NameRules) -> None:
    for name in candidates(safe_component(text, names), asset_id):
        assert faults(name, names) == []
        assert safe_component(name, names) == name


@pytest.mark.parametrize("name", RECORDED_NAMES)
def test_recorded_names_are_safe_and_keep_their_type(name: str) -> None:
    safe = safe_component(name, NameRules.PORTABLE)
    assert faults(safe, NameRules.PORTABLE) == []
    assert split_extension(safe)[1] == split_extension(name)[1]


def test_a_long_name_is_cut_between_characters_and_keeps_its_extension() -> None:
    assert safe_component("é" * 200 + ".jpeg", NameRules.PORTABLE) == "é" * 125 + ".jpeg"
    assert safe_component("🌅" * 80 + ".jpg", NameRules.POSIX) == "🌅" * 62 + ".jpg"


def test_a_cut_does_not_part_a_letter_from_its_marks() -> None:
    name = safe_component("a" * 249 + "x\u0338\u0338.jpg", NameRules.PORTABLE)
    assert name == "a" * 249 + ".jpg"


def test_a_name_of_marks_alone_is_cut_all_the_same() -> None:
    assert safe_component("\u0338" * 400, NameRules.PORTABLE) == "\u0338" * 127


def test_an_absurd_extension_is_cut_like_the_rest() -> None:
    assert safe_component("a." + "b" * 400, NameRules.PORTABLE) == "a." + "b" * 253


def test_a_cut_that_uncovers_a_device_or_a_space_is_made_safe() -> None:
    assert safe_component("CON" + " " * 300 + "x", NameRules.PORTABLE) == "_CON" + "_" * 251
    assert safe_component("x" * 254 + " y", NameRules.PORTABLE) == "x" * 254 + "_"


@pytest.mark.parametrize(
    ("name", "stem", "extension"),
    [
        ("IMG_1.HEIC", "IMG_1", ".HEIC"),
        ("a.tar.gz", "a.tar", ".gz"),
        (".jpg", "", ".jpg"),
        ("...jpg", "..", ".jpg"),
        ("IMG_1", "IMG_1", ""),
        ("IMG_1.", "IMG_1.", ""),
        ("", "", ""),
        ("Mr. Smith", "Mr. Smith", ""),
        ("a." + "x" * 16, "a", "." + "x" * 16),
        ("a." + "x" * 17, "a." + "x" * 17, ""),
    ],
)
def test_an_extension_is_what_follows_the_last_dot(name: str, stem: str, extension: str) -> None:
    assert split_extension(name) == (stem, extension)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/IMG_1.HEIC", "a/IMG_1-1a2b3c4d.HEIC"),
        ("IMG_1", "IMG_1-1a2b3c4d"),
        ("a.b/IMG_1", "a.b/IMG_1-1a2b3c4d"),
        ("a/.jpg", "a/unnamed-1a2b3c4d.jpg"),
        ("a/" + "é" * 125 + ".jpeg", "a/" + "é" * 120 + "-1a2b3c4d.jpeg"),
        ("by\udce9te.jpg", "by\udce9te-1a2b3c4d.jpg"),
    ],
)
def test_a_suffix_goes_before_the_extension(path: str, expected: str) -> None:
    assert with_suffix(path, "-1a2b3c4d") == expected


def test_candidates_are_the_base_then_a_part_of_the_id_then_all_of_it() -> None:
    assert id8(ID) == "6513b994"
    assert candidates("2024/IMG_1.HEIC", ID) == (
        "2024/IMG_1.HEIC",
        "2024/IMG_1-6513b994.HEIC",
        f"2024/IMG_1-{ID}.HEIC",
    )


@given(hostile_names(), asset_ids(), asset_ids())
def test_two_assets_never_share_their_last_candidate(text: str, one: str, two: str) -> None:
    assume(one != two)
    base = safe_component(text, NameRules.PORTABLE)
    assert fold(candidates(base, one)[2]) != fold(candidates(base, two)[2])


def test_ten_thousand_assets_of_few_names_all_get_a_name() -> None:
    taken: set[str] = set()
    for number in range(10_000):
        name = safe_component(RECORDED_NAMES[number % 7], NameRules.PORTABLE)
        asset_id = f"{number:08x}-0000-4000-8000-{number // 3:012x}"
        free = [path for path in candidates(name, asset_id) if fold(path) not in taken]
        taken.add(fold(free[0]))
    assert len(taken) == 10_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("IMG_1.JPG", "img_1.jpg"),
        ("cafe\u0301", "CAF\u00c9"),
        ("STRASSE", "straße"),
        ("\u212bngstrom", "ångstrom"),
        ("İ", "i\u0307"),
        ("☀\ufe0f.jpg", "☀.jpg"),
        ("a\u200bb/c", "AB/C"),
        ("a\u200b\u0301", "á"),
        ("by\udce9te", "BY\udce9TE"),
    ],
)
def test_names_that_some_file_system_takes_for_one_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("by\udce9", "by\udce8"), ("a/b", "ab")])
def test_other_names_fold_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(hostile_names())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(hostile_names())
@example("\u0345\u0301")
def test_case_and_normal_form_never_matter_to_a_folded_key(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(text)
    assert fold(unicodedata.normalize("NFC", text).casefold()) == fold(text)


def test_every_character_folds_to_something_stable() -> None:
    for code in range(0x110000):
        key = fold(chr(code))
        assert fold(key) == key


@pytest.mark.parametrize("names", NameRules)
def test_every_character_makes_a_safe_name(names: NameRules) -> None:
    for code in (*range(0x20000), *range(0xE0000, 0xE0200)):
        name = safe_component(f"a{chr(code)}b", names)
        assert not faults(name, names), f"U+{code:04X}"
