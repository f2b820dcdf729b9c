"""A sample Immich server on loopback, for demonstrations and tests.

It answers what a mirror asks as recorded servers of two releases do, and goes wrong on request. It
knows nothing of the client. Changes to its library take effect at once.
"""

from mirror.sandbox.faults import Faults
from mirror.sandbox.library import Library
from mirror.sandbox.loading import load_library
from mirror.sandbox.samples import sample_library
from mirror.sandbox.server import Request, Sandbox, serve

__all__ = [
    "Faults",
    "Library",
    "Request",
    "Sandbox",
    "load_library",
    "sample_library",
    "serve",
]
