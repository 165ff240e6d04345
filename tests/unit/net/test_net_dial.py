"""Whose fault a failed connect is: the next hop's, or this machine's."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from onetrip.errors import ExhaustedError, Kind, Side
from onetrip.net.dial import connect_failure
from onetrip.proxy.replies import status_of
from onetrip.proxy.retry import is_refusal


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL])
def test_this_machine_is_out_of_something(number):
    error = connect_failure("10.0.0.1:80", OSError(number, "text"), has_source=False)
    assert isinstance(error, ExhaustedError)
    assert (error.side, error.kind, error.retryable) == (Side.OURS, Kind.EXHAUSTED, True)
    assert status_of(error) == 503
    assert is_refusal(error, b"POST")  # nothing was sent: another node may take it


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ECONNREFUSED, "text"),
        OSError(errno.EHOSTUNREACH, "text"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ssl.SSLError(errno.ENOMEM, "library says so"),
        OSError("no number"),
    ],
)
def test_the_next_hop_cannot_be_reached(cause):
    error = connect_failure("10.0.0.1:80", cause, has_source=False)
    assert (error.side, error.kind, error.retryable) == (Side.UPSTREAM, Kind.CONNECT, True)
    assert status_of(error) == 502


def test_a_source_address_that_cannot_be_had_is_no_exhaustion():
    cause = OSError(errno.EADDRNOTAVAIL, "text")
    assert connect_failure("10.0.0.1:80", cause, has_source=True).kind is Kind.CONNECT
