"""Deciding, and nothing else: no I/O, no clock, no async, no logging, no pydantic."""
