"""aiohttp, and whom its connections trust.

When it is loaded, aiohttp reads the system's certificates twice, once for connections that verify
nothing: a tenth of the start of a command that asks a server. Here it is loaded without, and they
are read when TLS is spoken. A connector that is not given `trusted()` trusts nobody.
"""

import ssl
import sys
from functools import cache
from importlib import import_module


def _without_certificates() -> None:
    """Load it, unless somebody has."""
    if "aiohttp" in sys.modules:
        return
    name = "set_default_verify_paths"  # which everything else that reads them calls
    setattr(ssl.SSLContext, name, lambda _: None)
    try:
        import_module("aiohttp")
    finally:
        delattr(ssl.SSLContext, name)  # the one that it inherits


_without_certificates()

import aiohttp  # noqa: E402


@cache
def trusted() -> ssl.SSLContext:
    """Whoever the system vouches for; read once, which takes some 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


__all__ = ["aiohttp", "trusted"]
