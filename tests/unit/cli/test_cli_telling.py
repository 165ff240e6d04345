"""Telling a node what a log says: batches, what is counted, and a node that wants a pause."""

from __future__ import annotations

from typing import Any

import pytest

from onetrip.cli.client import Client
from onetrip.cli.telling import BATCH, tell, tell_lines
from onetrip.control.served import ServedBody
from onetrip.errors import ApiError, ConfigError, Kind


class FakeClient(Client):
    """Takes what is told, but for hosts that it does not know."""

    def __init__(self, refusals: list[Kind] | None = None) -> None:
        super().__init__("http://127.0.0.1:9400", None)
        self.batches: list[list[dict[str, Any]]] = []
        self.refusals = refusals or []

    def post(self, path: Any, want: Any, body: Any = None, *, is_dry_run: bool = False) -> Any:
        assert (path, want, is_dry_run) == (("requests",), ServedBody, False)
        if self.refusals:
            raise ApiError("no", kind=self.refusals.pop(0))
        self.batches.append(body["requests"])
        unknown = sum(row["host"] == "unknown.test" for row in body["requests"])
        return ServedBody(len(body["requests"]) - unknown, unknown)


class HastyClock:
    """A clock on which every look takes a second, and no pause any time."""

    def __init__(self) -> None:
        self.at = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        self.at += 1.0
        return self.at

    def wall(self) -> float:
        return self.now()

    async def sleep(self, duration: float) -> None:
        self.pauses.append(duration)


class StillClock(HastyClock):
    """A clock on which nothing takes time."""

    def now(self) -> float:
        return 0.0


def line(host: str = "shop.test", seconds: str = "0.25") -> str:
    return f'{{"host":"{host}","method":"GET","path":"/a","status":200,"request_time":{seconds}}}'


def test_lines_are_told_in_batches_and_counted() -> None:
    client = FakeClient()
    lines = [line()] * BATCH + [line("unknown.test"), "junk", line(seconds='"-"')]
    told = tell_lines(client, lines, "", StillClock())
    assert [len(batch) for batch in client.batches] == [BATCH, 2]
    assert client.batches[0][0] == {
        "host": "shop.test",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "duration_ms": 250.0,
    }
    assert told.text() == (
        f"{BATCH + 1} requests taken, 1 of no environment, 1 lines not understood, 1 without a time"
    )


def test_what_waits_is_told_when_nothing_more_comes() -> None:
    client = FakeClient()
    tell_lines(client, [line(), None, None, line(), line()], "", StillClock())
    assert [len(batch) for batch in client.batches] == [1, 2]


def test_slow_lines_are_told_within_a_second_or_two() -> None:
    client = FakeClient()
    tell_lines(client, [line()] * 4, "", HastyClock())
    assert len(client.batches) >= 2


def test_a_node_that_wants_fewer_calls_gets_a_pause_and_any_other_refusal_ends_it() -> None:
    clock = HastyClock()
    client = FakeClient([Kind.RATE, Kind.RATE])
    tell_lines(client, [line()], "", clock)
    assert (len(client.batches), len(clock.pauses)) == (1, 2)
    with pytest.raises(ApiError):
        tell_lines(FakeClient([Kind.CONFLICT]), [line()], "", clock)


def test_a_log_that_cannot_be_read_is_refused_by_its_option() -> None:
    with pytest.raises(ConfigError, match="--log: /nonexistent/log cannot be read"):
        tell(FakeClient(), "/nonexistent/log", "")
