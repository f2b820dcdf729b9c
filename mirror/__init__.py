"""One-way mirrors of Immich photo libraries into plain folders."""

__version__ = "0.1.0"
