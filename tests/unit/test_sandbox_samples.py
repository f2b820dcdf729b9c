import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import UsageError
from mirror.sandbox import load_library, sample_library
from mirror.sandbox.content import BLOCK_BYTES, Filler
from mirror.sandbox.images import jpeg, png
from mirror.sandbox.library import Library
from mirror.sandbox.records import StoredAsset


def data_of(asset: StoredAsset) -> bytes:
    return b"".join(asset.content.read(0, asset.content.size_bytes))


def fingerprint(library: Library) -> list[tuple[str, bytes]]:
    return [(asset.id, data_of(asset)) for asset in library.assets.values()]


@pytest.mark.parametrize("count", [0, 1, 7, 10, 60, 200])
def test_a_sample_has_as_many_assets_as_asked(count):
    assert len(sample_library(count).assets) == count


def test_the_same_seed_gives_the_same_library_and_another_does_not():
    assert fingerprint(sample_library()) == fingerprint(sample_library())
    assert fingerprint(sample_library()) != fingerprint(sample_library(seed=1))
    assert sample_library().keys == sample_library(version="2.7.5").keys


def test_no_two_assets_hold_the_same_bytes():
    library = sample_library(300)
    assert len({asset.content.sha1 for asset in library.assets.values()}) == 300


def test_a_sample_has_what_makes_mirroring_hard():
    library = sample_library()
    assets = list(library.assets.values())
    names = [asset.original_file_name for asset in assets]
    own = list(library.own())
    stills = [asset for asset in own if asset.live_photo_video_id]
    assert names.count("IMG_0001.JPG") == 3
    assert any("/" in name for name in names)
    assert any(ord(character) > 0xFFFF for name in names for character in name)
    assert all(library.assets[str(s.live_photo_video_id)].visibility == "hidden" for s in stills)
    assert {asset.visibility for asset in own} == {"timeline", "archive", "hidden"}
    assert len({asset.file_created_at for asset in own}) < len(own)
    assert any(a.local_date_time.date() != a.file_created_at.date() for a in own)
    assert any(asset.trashed for asset in own)
    assert any(asset.is_favorite for asset in own)
    assert any(asset.owner_id != library.owner_id for asset in assets)
    assert len(library.albums) == len(library.people) == 2
    assert len(library.tags) == 3
    assert len(library.stacks) == 1
    assert stills


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_other_programs_take_samples_for_photos_and_videos_of_their_date(tmp_path):
    library = sample_library()
    chosen = {}
    for asset in library.own():
        kind = asset.original_file_name.rpartition(".")[2].lower()
        chosen[kind] = asset
        (tmp_path / f"x.{kind}").write_bytes(data_of(asset))
    assert set(chosen) == {"jpg", "png", "heic", "mov", "mp4"}
    for kind, asset in chosen.items():
        fields = ["-FileType", "-DateTimeOriginal", "-CreateDate", "-Error", "-Warning"]
        said = subprocess.run(
            ["exiftool", "-s3", *fields, str(tmp_path / f"x.{kind}")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
        assert said[0] == {"jpg": "JPEG"}.get(kind, kind.upper())
        if kind in {"jpg", "mov", "mp4"}:
            assert said[1] == f"{asset.local_date_time:%Y:%m:%d %H:%M:%S}"
        assert not any("rror" in line for line in said)


@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_any_colour_makes_an_image(colour):
    image = jpeg(colour, None, comment=b"")
    scan = image.rpartition(b"\xff\xda")[2][10:-2]
    assert image.startswith(b"\xff\xd8")
    assert image.endswith(b"\xff\xd9")
    assert b"\xff" not in scan.replace(b"\xff\0", b"")
    assert png(colour, comment=b"").startswith(b"\x89PNG")


@given(data=st.data(), size=st.integers(0, 3 * BLOCK_BYTES))
def test_any_part_of_made_up_bytes_is_that_part_of_the_whole(data, size):
    filler = Filler(b"seed", size, b"\xff\xd8"[:size])
    whole = b"".join(filler.read(0, size))
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    assert len(whole) == size
    assert b"".join(filler.read(start, end)) == whole[start:end]


def test_made_up_blocks_differ_so_that_a_wrong_offset_shows():
    whole = b"".join(Filler(b"seed", 4 * BLOCK_BYTES).read(0, 4 * BLOCK_BYTES))
    blocks = {whole[at : at + BLOCK_BYTES] for at in range(0, len(whole), BLOCK_BYTES)}
    assert len(blocks) == 4


@pytest.mark.parametrize("text", ["{", "[]", '{"users": {}}'])
def test_a_file_that_is_no_library_is_refused(tmp_path, text):
    path = tmp_path / "library.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is no library"):
        load_library(path)


def test_a_missing_library_and_a_wrong_version_are_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        load_library(tmp_path / "none.json")
    with pytest.raises(UsageError, match="no version"):
        sample_library(1, version="three")
