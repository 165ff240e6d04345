"""Sockets passed on to a process: by its predecessor, by the service manager, or wrongly."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import pytest

from onetrip.app import inheritance
from onetrip.app.listeners import Listener, Listeners
from onetrip.errors import ConfigError


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def passed(sock: socket.socket, ready: int, **more: object) -> dict[str, str]:
    descriptor = os.dup(sock.fileno())
    row = {"key": "listen", "address": "localhost:80", "descriptor": descriptor}
    return {inheritance.VARIABLE: json.dumps({"sockets": [row], "ready": ready} | more)}


async def test_successor_takes_the_sockets_whose_address_is_still_configured(
    listening: socket.socket,
) -> None:
    reader, writer = os.pipe()
    environ = passed(listening, writer, is_draining=True, unknown_field=1)
    found = inheritance.take(environ)
    assert (environ, found.has_predecessor, found.is_draining) == ({}, True, True)
    listeners = Listeners(found.sockets)
    (sock,) = await listeners.open("tls_listen", Listener("localhost", 80))
    assert sock.getsockname() == listening.getsockname()
    assert not sock.get_inheritable()
    found.tell_ready("1.2.3")
    found.tell_failed("said already")
    assert os.read(reader, 100) == b"ready 1.2.3\n"
    assert os.read(reader, 100) == b""  # closed
    os.close(reader)
    listeners.close()


async def test_socket_for_another_address_is_not_used_and_closed(listening: socket.socket) -> None:
    reader, writer = os.pipe()
    listeners = Listeners(inheritance.take(passed(listening, writer)).sockets)
    (sock,) = await listeners.open("listen", Listener("127.0.0.1", 0))
    assert sock.getsockname() != listening.getsockname()
    assert listeners.close_unused() == [str(listening.getsockname())]
    assert listeners.close_unused() == []
    listeners.close()
    os.close(reader)
    os.close(writer)


def test_variables_for_another_process_are_taken_away_and_ignored() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "listen", "HOME": "/"}
    assert inheritance.take(environ).sockets == []
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("count", "reason"), [("x", "is not a number up to 256"), ("257", "is not a number up to 256")]
)
def test_wrong_count_of_the_service_manager_is_refused(count: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        inheritance.take({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())})


def test_descriptor_that_does_not_listen_is_refused_and_the_predecessor_told() -> None:
    reader, writer = os.pipe()
    with socket.socket() as sock, pytest.raises(ConfigError, match="is not a listening TCP socket"):
        inheritance.take(passed(sock, writer))
    assert os.read(reader, 200).startswith(b"failed descriptor ")
    os.close(reader)


def test_unreadable_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match=inheritance.VARIABLE):
        inheritance.take({inheritance.VARIABLE: '{"sockets": [1], "ready": 1}'})
