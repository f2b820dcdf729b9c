"""SHA-1 as Immich uses it."""

import base64
import binascii
import hashlib

from mirror.core.model import Asset

SHA1_SIZE_BYTES = 20


def decode(text: str) -> bytes:
    """The 20 bytes of a checksum as the API writes it: base64, in some answers hex.

    Raises:
        ValueError: it is neither.
    """
    try:
        digest = bytes.fromhex(text) if len(text) == 2 * SHA1_SIZE_BYTES else base64.b64decode(text)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"not a SHA-1 in base64 or hex: {text!r}") from error
    if len(digest) != SHA1_SIZE_BYTES:
        raise ValueError(f"not a SHA-1 in base64 or hex: {text!r}")
    return digest


def of_path(original_path: str) -> bytes:
    """What external libraries carry instead of a content checksum.

    Source: Immich `library.service.ts`, 2023-09 to 3.1: sha1("path:" + originalPath).
    """
    return hashlib.sha1(f"path:{original_path}".encode(), usedforsecurity=False).digest()


def content_sha1(asset: Asset) -> bytes | None:
    """The SHA-1 of the asset's bytes, or None where the server knows only a path's.

    An external asset may still carry a content checksum (a motion video extracted from it, a
    replaced original), so the test is the path's own SHA-1, not the library.
    """
    if asset.library_id is not None and asset.checksum == of_path(asset.original_path):
        return None
    return asset.checksum
