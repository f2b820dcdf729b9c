"""Ratios against real tools, in one run; never part of the tests."""
