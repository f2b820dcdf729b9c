import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core import checksum
from mirror.core.batches import batches
from tests.world import an_asset, external


@given(st.binary(min_size=20, max_size=20))
def test_a_checksum_is_read_from_base64_and_from_hex(digest: bytes):
    assert checksum.decode(base64.b64encode(digest).decode()) == digest
    assert checksum.decode(digest.hex()) == digest


@pytest.mark.parametrize("text", ["", "abc", "AAAA", "=" * 28, "g" * 40, "ä" * 28, "A" * 32])
def test_what_is_no_checksum_is_refused(text: str):
    with pytest.raises(ValueError, match="not a SHA-1"):
        checksum.decode(text)


def test_an_external_library_carries_the_sha1_of_its_path():
    path = "/mnt/library/Ísland/1.jpg"

    assert checksum.of_path(path) == hashlib.sha1(f"path:{path}".encode()).digest()


def test_an_upload_is_known_by_its_bytes_and_an_external_file_is_not():
    upload = an_asset("1", b"photo")

    assert checksum.content_sha1(upload) == hashlib.sha1(b"photo").digest()
    assert checksum.content_sha1(external(upload)) is None


def test_an_external_file_may_still_carry_the_checksum_of_its_bytes():
    motion = replace(external(an_asset("1")), checksum=b"\1" * 20)

    assert checksum.content_sha1(motion) == b"\1" * 20


def test_batches_are_full_but_for_the_last_and_none_is_empty():
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
