"""Helpers shared by the tests; themselves tested in tests/unit/support."""
