"""What a refusal of a store was about.

obstore 0.12 tells most of what went wrong in words alone; only what is looked for here is passed
on, since the rest may name a key.
"""

import errno
import re
from typing import Final

_FULL: Final = re.compile(r"\b507\b|StorageFull|QuotaExceeded|InsufficientStorage|no space left")
_UNREACHED: Final = re.compile(
    r"kind: (Connect|Timeout|Interrupted|Request),\s+source: reqwest::Error"
)
_WHY_UNREACHED: Final = {
    "dns error": "there is no such host",
    "InvalidCertificate": "its certificate is not trusted",
    "InvalidContentType": "it does not speak TLS",
    "TimedOut": "no answer in time",
}
_OF_SYSTEM: Final = re.compile(r'Os \{\s+code: \d+,\s+kind: \w+,\s+message: "([^"]+)"')


def refusal(error: Exception, path: str, endpoint: str) -> OSError:
    """The same as the operating system would say it."""
    text = str(error)
    if _FULL.search(text):
        return OSError(errno.ENOSPC, reason(text), path)
    if "NoSuchBucket" in text:
        return OSError(errno.ENODEV, "there is no such bucket", path)
    if "KeyTooLong" in text:
        return OSError(errno.ENAMETOOLONG, "File name too long", path)
    kind = type(error).__name__
    refuses_keys = "Unauthenticated" in kind or "PermissionDenied" in kind
    if refuses_keys or re.search(r"\b40[13]\b", text):
        return PermissionError(errno.EACCES, f"the store refuses the keys ({reason(text)})", path)
    if _UNREACHED.search(text):
        return OSError(
            errno.ENETUNREACH, f"no connection to {endpoint}{_why_unreached(text)}", path
        )
    return OSError(errno.EIO, reason(text), path)


def _why_unreached(text: str) -> str:
    for word, why in _WHY_UNREACHED.items():
        if word in text:
            return f": {why}"
    told = _OF_SYSTEM.search(text)
    return f": {told[1]}" if told else ""


def reason(text: str) -> str:
    """What a store said, without what it may have repeated of a request."""
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return code[1]
    if status := re.search(r"status code: (\d+[\w ]*)", text):
        return status[1].strip()
    return text.partition("\n")[0].rpartition(" - ")[2][:200]
