"""What an ETag is made of, found out while bytes pass."""

import base64
from hashlib import md5

from hypothesis import given
from hypothesis import strategies as st

from mirror.destinations.sums import Sums


def expected(data: bytes, part_bytes: int) -> str:
    """As S3's documentation has it."""
    if len(data) <= part_bytes:
        return md5(data).hexdigest()
    parts = [data[at : at + part_bytes] for at in range(0, len(data), part_bytes)]
    return f"{md5(b''.join(md5(part).digest() for part in parts)).hexdigest()}-{len(parts)}"


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(1, 9))
def test_sums_depend_on_the_bytes_alone_and_not_on_how_they_come(
    pieces: list[bytes], part_bytes: int
):
    sums, data = Sums(part_bytes), b"".join(pieces)
    for piece in pieces:
        sums.add(piece)
        sums.etag  # noqa: B018 (asking changes nothing)
    assert sums.size_bytes == len(data)
    assert sums.etag == expected(data, part_bytes)
    assert base64.b64decode(sums.md5_text) == md5(data).digest()
