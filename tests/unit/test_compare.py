from hypothesis import given
from hypothesis import strategies as st

from mirror.core.compare import Found, Recorded, compare
from mirror.core.model import Entry, EntryKind


def a_file(path: bytes, size_bytes: int = 5, mtime_ns: int = 7) -> Found:
    return path, EntryKind.FILE, size_bytes, mtime_ns


def a_folder(path: bytes) -> Found:
    return path + b"/", EntryKind.FOLDER, 0, 0


def a_row(path: bytes, asset_id: str = "id") -> Recorded:
    return path, 5, 7, asset_id


def test_what_agrees_is_not_mentioned():
    found = [a_file(b"a"), a_folder(b"b"), a_file(b"b/c")]

    result = compare(found, [a_row(b"a", "1"), a_row(b"b/c", "2")])

    assert (result.missing, result.suspect, result.foreign) == ({}, {}, {})
    assert result.folders == {"b"}


def test_rows_without_a_file_are_missing_wherever_they_sort():
    rows = [a_row(b"a", "1"), a_row(b"m", "2"), a_row(b"z", "3")]

    result = compare([a_file(b"b"), a_file(b"m")], rows)

    assert result.missing == {"1": "a", "3": "z"}
    assert list(result.foreign) == ["b"]


def test_another_size_or_time_is_only_suspected():
    found = [a_file(b"a", size_bytes=6), a_file(b"b", mtime_ns=8)]

    result = compare(found, [a_row(b"a", "1"), a_row(b"b", "2")])

    assert result.suspect == {
        "1": Entry("a", EntryKind.FILE, 6, 7),
        "2": Entry("b", EntryKind.FILE, 5, 8),
    }
    assert result.foreign == {}


def test_a_link_in_place_of_a_file_is_suspected():
    result = compare([(b"a", EntryKind.LINK, 5, 7)], [a_row(b"a")])

    assert result.suspect["id"].kind is EntryKind.LINK


def test_a_folder_in_place_of_a_file_leaves_it_missing():
    result = compare([a_folder(b"a")], [a_row(b"a")])

    assert result.missing == {"id": "a"}
    assert result.folders == {"a"}


def test_a_folder_sorts_where_its_files_do():
    found = [a_file(b"a.jpg"), a_folder(b"a"), a_file(b"a/b"), a_file(b"a0")]
    rows = [a_row(b"a.jpg", "1"), a_row(b"a/b", "2"), a_row(b"a0", "3")]

    result = compare(found, rows)

    assert (result.missing, result.suspect, result.foreign) == ({}, {}, {})


def test_names_that_are_not_utf8_keep_their_bytes():
    result = compare([a_file(b"caf\xe9")], [])

    (entry,) = result.foreign["caf\udce9"]
    assert entry.path.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_foreign_files_of_one_folded_name_stand_together():
    result = compare([a_file(b"A.jpg"), a_file(b"a.JPG")], [])

    assert [entry.path for entry in result.foreign["a.jpg"]] == ["A.jpg", "a.JPG"]


def test_a_file_that_the_file_system_spells_otherwise_is_suspected_and_not_lost():
    decomposed = "e\u0301.jpg".encode()

    result = compare([a_file(decomposed)], [a_row("é.jpg".encode())])

    assert result.suspect["id"].path == "e\u0301.jpg"
    assert (result.missing, result.foreign) == ({}, {})


def test_of_two_files_that_could_be_the_lost_one_neither_is_taken():
    result = compare([a_file(b"A.jpg"), a_file(b"a.JPG")], [a_row(b"a.jpg")])

    assert result.missing == {"id": "a.jpg"}
    assert len(result.foreign["a.jpg"]) == 2


def test_a_link_of_the_same_folded_name_is_not_taken_for_the_lost_file():
    result = compare([(b"A.jpg", EntryKind.LINK, 0, 0)], [a_row(b"a.jpg")])

    assert result.missing == {"id": "a.jpg"}


_PATHS = st.sets(st.sampled_from([b"a", b"a.b", b"a/b", b"a0", b"b", b"\xff", b"z/z"]))


@given(_PATHS, _PATHS)
def test_every_row_and_every_file_ends_in_exactly_one_place(files: set[bytes], rows: set[bytes]):
    result = compare(map(a_file, sorted(files)), [a_row(path, repr(path)) for path in sorted(rows)])

    assert set(result.missing) == {repr(path) for path in rows - files}
    assert len(result.foreign) == len(files - rows)
    assert result.suspect == {}
