"""The smallest files that other programs take for photos and videos: no codec, no dependency."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

# ITU T.81, table K.3: the luminance DC codes, here for every component. Code lengths and symbols.
_DC_LENGTHS = (0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
_DC_CODES = (
    "00",
    "010",
    "011",
    "100",
    "101",
    "110",
    "1110",
    "11110",
    "111110",
    "1111110",
)  # of 0 to 9 bits: all a flat colour needs
_END_OF_BLOCK = "0"  # the only AC code: there is nothing but flat colour
_QUANTUM = 8  # one step of a DC value is one step of brightness
_MP4_EPOCH = datetime(1904, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Taken:
    """What a camera writes into a file."""

    at: datetime  # wall clock
    offset: timedelta | None = None  # from UTC; None: the camera did not know
    make: str = "Sandbox"
    model: str = "Sample 1"


Colour = tuple[int, int, int]


# -- JPEG ------------------------------------------------------------------------------------------


def jpeg(colour: Colour, taken: Taken | None, *, comment: bytes, side: int = 64) -> bytes:
    """One flat colour, EXIF if `taken`, and a comment that sets its bytes apart."""
    head, tail = _flat_jpeg(colour, side)
    exif = _segment(0xE1, b"Exif\0\0" + _tiff(taken)) if taken else b""
    return head + exif + _segment(0xFE, comment) + tail


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


@lru_cache(maxsize=256)
def _flat_jpeg(colour: Colour, side: int) -> tuple[bytes, bytes]:
    """What stands before and after the segments that differ from photo to photo."""
    components = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    frame = struct.pack(">BHHB", 8, side, side, 3) + components
    dc_table = bytes((0x00, *_DC_LENGTHS, *range(sum(_DC_LENGTHS))))
    ac_table = bytes((0x10, 1, *([0] * 15), 0))
    scan = bytes((3, 1, 0, 2, 0, 3, 0, 0, 63, 0))
    head = b"\xff\xd8" + _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
    tail = b"".join(
        (
            _segment(0xDB, bytes((0, *([_QUANTUM] * 64)))),
            _segment(0xC0, frame),
            _segment(0xC4, dc_table),
            _segment(0xC4, ac_table),
            _segment(0xDA, scan),
            _entropy(colour, blocks=(side // 8) ** 2),
            b"\xff\xd9",
        )
    )
    return head, tail


def _entropy(colour: Colour, *, blocks: int) -> bytes:
    """Each component's level once, then nothing changes."""
    first = "".join(_dc(level - 128) + _END_OF_BLOCK for level in _ycbcr(colour))
    unchanged = (_DC_CODES[0] + _END_OF_BLOCK) * 3 * (blocks - 1)
    bits = first + unchanged
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8)
    return data.replace(b"\xff", b"\xff\0")  # a 0xFF inside the scan is escaped


def _dc(difference: int) -> str:
    size = abs(difference).bit_length()
    if size == 0:
        return _DC_CODES[0]
    value = difference if difference > 0 else difference + (1 << size) - 1
    return _DC_CODES[size] + format(value, f"0{size}b")


def _ycbcr(colour: Colour) -> Sequence[int]:
    red, green, blue = colour
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return tuple(
        min(255, max(0, round(level)))
        for level in (y, 128 + (blue - y) * 0.564, 128 + (red - y) * 0.713)
    )


# -- EXIF ------------------------------------------------------------------------------------------


def _tiff(taken: Taken) -> bytes:
    """Two directories: the camera, and when."""
    stamp = f"{taken.at.year:04d}:{taken.at:%m:%d %H:%M:%S}"
    when = [(0x9003, stamp), (0x9004, stamp)]
    if taken.offset is not None:
        when.append((0x9011, _offset(taken.offset)))
    camera = [(0x010F, taken.make), (0x0110, taken.model), (0x0132, stamp)]
    pointer_at = 8 + 2 + 12 * (len(camera) + 1) + 4
    first, values = _directory(camera, values_at=pointer_at, extra=1)
    second_at = pointer_at + len(values)
    second, second_values = _directory(when, values_at=second_at + 2 + 12 * len(when) + 4)
    pointer = struct.pack("<HHII", 0x8769, 4, 1, second_at)
    header = b"II*\0" + struct.pack("<I", 8)
    last = struct.pack("<I", 0)
    return header + first + pointer + last + values + second + last + second_values


def _directory(
    tags: list[tuple[int, str]], *, values_at: int, extra: int = 0
) -> tuple[bytes, bytes]:
    """The count and entries of a directory of texts, and the texts that do not fit in an entry."""
    entries, values = struct.pack("<H", len(tags) + extra), b""
    for tag, text in tags:
        value = text.encode("ascii", "replace") + b"\0"
        short = len(value) <= 4  # noqa: PLR2004 (an entry's own room)
        where = value.ljust(4, b"\0") if short else struct.pack("<I", values_at + len(values))
        entries += struct.pack("<HHI", tag, 2, len(value)) + where
        values += b"" if short else value + b"\0" * (len(value) % 2)
    return entries, values


def _offset(offset: timedelta) -> str:
    minutes = offset // timedelta(minutes=1)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


# -- PNG -------------------------------------------------------------------------------------------


def png(colour: Colour, *, comment: bytes, side: int = 16) -> bytes:
    """One flat colour and a comment that sets its bytes apart."""
    rows = (b"\0" + bytes(colour) * side) * side
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + _chunk(b"tEXt", b"Comment\0" + comment)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


# -- ISO base media: MP4, MOV, HEIC ----------------------------------------------------------------


def video(brand: bytes, taken: Taken | None, *, duration_ms: int, payload: bytes) -> bytes:
    """A header with date and duration, and frames that no player would like.

    `brand` is b"isom" for MP4, b"qt  " for QuickTime.
    """
    at = (taken.at.replace(tzinfo=UTC) - (taken.offset or timedelta())) if taken else _MP4_EPOCH
    seconds = max(0, (at - _MP4_EPOCH) // timedelta(seconds=1)) & 0xFFFFFFFF
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    clock = struct.pack(">IIIII", 0, seconds, seconds, 1000, duration_ms)
    mvhd = clock + struct.pack(">IH10x", 0x10000, 0x100) + matrix + bytes(24) + struct.pack(">I", 2)
    return _ftyp(brand) + _box(b"moov", _box(b"mvhd", mvhd)) + _box(b"mdat", payload)


def heic(*, payload: bytes) -> bytes:
    """Something that begins as HEIC does."""
    return _ftyp(b"heic") + _box(b"mdat", payload)


def _ftyp(brand: bytes) -> bytes:
    return _box(b"ftyp", brand + bytes(4) + brand)


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


def beginning(mime_type: str) -> bytes:
    """The bytes by which a file of this type is recognised; empty where none are known."""
    return {
        "image/jpeg": b"\xff\xd8\xff\xe0",
        "image/png": b"\x89PNG\r\n\x1a\n",
        "image/gif": b"GIF89a",
        "image/bmp": b"BM",
        "image/webp": b"RIFF\0\0\0\0WEBPVP8 ",
        "image/tiff": b"II*\0",
        "image/dng": b"II*\0",
        "image/nef": b"II*\0",
        "image/heic": _ftyp(b"heic"),
        "image/avif": _ftyp(b"avif"),
        "video/mp4": _ftyp(b"isom"),
        "video/quicktime": _ftyp(b"qt  "),
        "video/3gpp": _ftyp(b"3gp4"),
        "video/x-matroska": b"\x1aE\xdf\xa3",
        "video/webm": b"\x1aE\xdf\xa3",
        "video/avi": b"RIFF\0\0\0\0AVI LIST",
    }.get(mime_type, b"")
