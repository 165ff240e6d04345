"""Access logs of other proxies: what a line tells, whatever the proxy, and what it must not."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime

import pytest

from onetrip.cli.access_log import MAX_LINE, lines_of, read_line
from onetrip.model.access import ServedRequest

AT = datetime(2026, 11, 25, 9, 58, 17, tzinfo=UTC).timestamp()

LINES = {
    "common": (
        '10.0.0.1 - ann [25/Nov/2026:09:58:17 +0000] "GET /a?token=x HTTP/1.1" 200 12',
        ("", "GET", "/a", 200, None, AT),
    ),
    "combined, with a zone": (
        '10.0.0.1 - - [25/Nov/2026:10:58:17 +0100] "POST /a HTTP/2.0" 503 - "-" "curl"',
        ("", "POST", "/a", 503, None, AT),
    ),
    "request time at the end": (
        '10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "GET /a HTTP/1.1" 200 12 "-" "curl" 0.123',
        ("", "GET", "/a", 200, 0.123, AT),
    ),
    "named times: the upstream's goes first": (
        '10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "GET /a HTTP/1.1" 200 12 "-" "c" '
        'rt=0.500 uct="0.001" uht="0.120" urt="0.130"',
        ("", "GET", "/a", 200, 0.120, AT),
    ),
    "an agent that looks like a time": (
        '10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "GET /a HTTP/1.1" 200 12 "-" "rt=9 1.5"',
        ("", "GET", "/a", 200, None, AT),
    ),
    "a named agent that looks like a time": (
        '10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "GET /a HTTP/1.1" 200 12 ua="rt=9 urt=1.5"',
        ("", "GET", "/a", 200, None, AT),
    ),
    "virtual host first": (
        'Shop.test:443 10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
        ("shop.test:443", "GET", "/", 200, None, AT),
    ),
    "nginx JSON, of two attempts": (
        json.dumps(
            {
                "msec": str(AT),
                "request_method": "GET",
                "request_uri": "/a?b",
                "status": "200",
                "host": "shop.test",
                "upstream_response_time": "0.002, 0.105",
                "request_time": "0.200",
            }
        ),
        ("shop.test", "GET", "/a", 200, 0.105, AT),
    ),
    "Caddy": (
        json.dumps(
            {
                "ts": AT,
                "request": {"method": "GET", "host": "shop.test", "uri": "/a"},
                "status": 200,
                "duration": 0.05,
            }
        ),
        ("shop.test", "GET", "/a", 200, 0.05, AT),
    ),
    "Traefik": (
        json.dumps(
            {
                "time": "2026-11-25T09:58:17Z",
                "RequestMethod": "GET",
                "RequestHost": "shop.test",
                "RequestPath": "/a",
                "DownstreamStatus": 200,
                "Duration": 50_000_000,
            }
        ),
        ("shop.test", "GET", "/a", 200, 0.05, AT),
    ),
    "a request line and milliseconds": (
        json.dumps({"request": "GET /a HTTP/1.1", "status": 200, "duration_ms": 50, "vhost": "b"}),
        ("b", "GET", "/a", 200, 0.05, None),
    ),
}


@pytest.mark.parametrize(("line", "want"), LINES.values(), ids=LINES.keys())
def test_lines_of_proxies_are_read(
    line: str, want: tuple[str, str, str, int, float | None, float | None]
) -> None:
    host, method, path, status, duration, ended_at = want
    found = read_line(line, "other.test")
    assert found is not None
    assert found.duration == (None if duration is None else pytest.approx(duration))
    assert found == ServedRequest(
        host or "other.test", method, path, status, found.duration, ended_at
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "junk",
        "{",
        "[1]",
        "{}",
        '{"status": true, "method": "GET", "path": "/", "host": "a"}',
        '{"status": 99, "method": "GET", "path": "/", "host": "a"}',
        '{"status": 200, "method": "get it", "path": "/", "host": "a"}',
        '{"status": 200, "method": "GET", "path": "a", "host": "a"}',
        '{"status": 200, "method": "GET", "path": "/' + "a" * 2000 + '", "host": "a"}',
        '{"status": 1e400, "method": "GET", "path": "/", "host": "a"}',
        '{"a":' * 3000,
        '10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "\\x16\\x03" 400 12 "-" "-"',
    ],
)
def test_what_is_no_request_is_left_out(line: str) -> None:
    assert read_line(line, "shop.test") is None


def test_a_line_without_a_host_needs_one() -> None:
    line = '10.0.0.1 - - [25/Nov/2026:09:58:17 +0000] "GET /a HTTP/1.1" 200 12'
    assert read_line(line) is None


@pytest.mark.parametrize("at", ["yesterday", "2026-11-25T09:58:17", 1e15, -1, True, {}, "1/2"])
def test_an_instant_that_says_too_little_is_none(at: object) -> None:
    line = json.dumps({"ts": at, "status": 200, "method": "GET", "path": "/", "host": "a"})
    found = read_line(line)
    assert found is not None
    assert found.ended_at is None


def test_a_pipe_is_read_as_it_comes_and_a_long_line_is_left_out() -> None:
    source, sink = os.pipe()
    sent = b"one\ntwo\n" + b"x" * (3 * MAX_LINE) + b"\nthree\nfour"

    def write() -> None:
        with os.fdopen(sink, "wb") as file:
            file.write(sent)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [line for line in lines_of(source) if line is not None]
    finally:
        writer.join()
        os.close(source)
    assert found == ["one", "two", "", "three", "four"]
