"""Where instances may be."""

from __future__ import annotations

import pytest

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip.release.terms import Terms, parse_allowed


@pytest.mark.parametrize(
    ("allowed", "host", "port", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8:9000", "10.1.2.3", 9000, True),
        ("10.0.0.0/8:9000", "10.1.2.3", 9001, False),
        ("10.0.0.0/8:9000-9999", "10.1.2.3", 9999, True),
        ("10.0.0.0/8:9000-9999", "10.1.2.3", 22, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.2", 80, False),
        ("[fd00::/8]:80", "fd12::1", 80, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::/8", "10.0.0.1", 443, False),
        ("*.internal.test", "a.internal.test", 80, True),
        ("*.internal.test", "a.b.internal.test", 80, True),
        ("*.internal.test", "internal.test", 80, False),
        ("*.internal.test", "evilinternal.test", 80, False),
        ("app.test:80", "APP.test.", 80, True),
        ("app.test", "other.test", 80, False),
        ("app.test", "10.0.0.1", 80, False),
        # A name is not resolved: it would be another address tomorrow.
        ("10.0.0.0/8", "localhost", 80, False),
    ],
)
def test_address_is_within(allowed, host, port, expected):
    terms = Terms(allow=(parse_allowed(allowed, "deployments.allow[0]"),))
    assert terms.permits(Endpoint(host, port)) is expected


def test_nothing_is_permitted_without_terms():
    assert not Terms().permits(Endpoint("127.0.0.1", 80))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.1/8", "neither a network"),
        ("", "neither a network"),
        ("*", "neither a network"),
        ("a b", "neither a network"),
        ("*.*.test", "neither a network"),
        ("999.1.1.1", "neither a network"),
        ("app.test:x", "not a port"),
        ("app.test:0", "not in 1-65535"),
        ("app.test:90-80", "not in 1-65535"),
        ("app.test:1-99999", "not in 1-65535"),
    ],
)
def test_what_is_no_place_is_refused_with_its_key(text, reason):
    with pytest.raises(ConfigError, match=rf"^deployments.allow\[2\]: .*{reason}"):
        parse_allowed(text, "deployments.allow[2]")
