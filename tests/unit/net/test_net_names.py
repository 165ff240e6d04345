"""Which host names a certificate covers."""

from __future__ import annotations

import pytest

from onetrip.net.names import Names


@pytest.mark.parametrize(
    ("hosts", "host", "is_covered"),
    [
        (["a.test"], "a.test", True),
        (["a.test"], "b.test", False),
        (["a.test"], "x.a.test", False),
        (["*.a.test"], "x.a.test", True),
        (["*.a.test"], "a.test", False),
        (["*.a.test"], "y.x.a.test", False),
        (["*.a.test"], ".a.test", True),  # never a valid Host; harmless
        (["*.a.test"], "*.a.test", True),
        (["10.0.0.1"], "10.0.0.1", True),
        (["::1"], "::1", True),
        (["*"], "anything.at.all", True),
        ([], "a.test", False),
        (["a.test"], "", False),
    ],
)
def test_wildcards_stand_for_one_label(hosts, host, is_covered):
    assert Names(hosts).cover(host) is is_covered
