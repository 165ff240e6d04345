"""The host in an authority, however it is spelled."""

from __future__ import annotations

import pytest

from onetrip.proxy.headers import host_of


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"a.test", "a.test"),
        (b"A.Test:8080", "a.test"),
        (b"a.test.", "a.test"),
        (b"a.test.:443", "a.test"),
        (b"a.test:", "a.test"),
        (b"[::1]", "::1"),
        (b"[2001:DB8::1]:443", "2001:db8::1"),
        (b"127.0.0.1:1", "127.0.0.1"),
        (b"", ""),
    ],
)
def test_port_case_brackets_and_final_dot_do_not_count(authority, host):
    assert host_of(authority) == host
