"""The small parts: settings, replies, retry budget, channel, pump, pool, turns."""

from __future__ import annotations

import asyncio
import json

import pytest

from onetrip.errors import (
    ConfigError,
    DownstreamError,
    Kind,
    LimitError,
    OnetripError,
    ProtocolError,
    Side,
    UpstreamError,
)
from onetrip.model.topology import Endpoint
from onetrip.proxy.channel import JOIN_SIZE, Channel, Outbox, Waker
from onetrip.proxy.pool import Pool
from onetrip.proxy.relay import RESEND_SIZE, Pump, Tunnel
from onetrip.proxy.replies import error_reply, status_of
from onetrip.proxy.retry import RetryBudget, is_refusal, is_repeatable
from onetrip.proxy.settings import ProxySettings
from onetrip.proxy.turns import late_error, time_allowed, whose_turn
from onetrip.proxy.upstream import Upstream
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_body import ChunkedDecoder, CloseDecoder, LengthDecoder
from support.clock import VirtualClock
from support.proxy_parts import AT_ONCE, FakeDial, FakeTransport, make_channel
from support.waits import BOUND

E = Endpoint("10.0.0.1", 80)


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_connections", 0),
            ("head_limit", 1 << 30),
            ("header_timeout", -1),
            ("read_timeout", float("nan")),
            ("retry_ratio", 1.5),
            ("body_limit", -1),
        ],
    )
    def test_value_out_of_bounds_is_refused_by_name(self, name, value):
        with pytest.raises(ConfigError, match=rf"proxy\.{name} of"):
            ProxySettings(**{name: value})

    def test_target_must_fit_into_a_head(self):
        with pytest.raises(ConfigError, match="target_limit of 1000 is not below"):
            ProxySettings(head_limit=1000, target_limit=1000)

    def test_deadlines_are_swept_often_enough_for_the_shortest(self):
        assert ProxySettings().sweep_interval <= 0.5
        assert ProxySettings(header_timeout=0.5).sweep_interval == pytest.approx(0.05)


class TestReplies:
    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize("base", [DownstreamError, UpstreamError, OnetripError])
    def test_every_failure_has_an_error_status(self, base, kind):
        status = status_of(base("x", kind=kind))
        expected = {Side.DOWNSTREAM: (400, 600), Side.UPSTREAM: (502, 505), Side.OURS: (500, 504)}
        low, high = expected[base.side]
        assert low <= status < high

    def test_reply_is_machine_readable_and_says_when_it_closes(self):
        raw = error_reply(DownstreamError("bad Host"), b"id1", keep_alive=False)
        head, _, body = raw.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close" in head
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        assert json.loads(body)["error"] == {
            "kind": "malformed",
            "message": "bad Host",
            "status": 400,
            "request_id": "id1",
        }

    def test_upstream_and_internal_texts_are_not_told(self):
        for error in (UpstreamError("10.0.0.1 secret"), OnetripError("secret")):
            assert b"secret" not in error_reply(error, b"", keep_alive=True)


class TestRetry:
    def test_budget_is_a_share_of_requests_plus_a_reserve(self):
        budget = RetryBudget(0.2, 2, VirtualClock())
        for _ in range(50):
            budget.note_request()
        assert sum(budget.take() for _ in range(100)) == 12

    def test_budget_refills_with_time(self):
        clock = VirtualClock()
        budget = RetryBudget(0.0, 2, clock)
        assert [budget.take() for _ in range(3)] == [True, True, False]
        clock.step(60)
        assert budget.take()

    @pytest.mark.parametrize(
        ("kind", "retryable", "method", "was_sent", "can_resend", "allowed"),
        [
            (Kind.CONNECT, True, b"POST", False, True, True),
            (Kind.CONNECT, True, b"POST", False, False, False),
            (Kind.RESET, True, b"GET", True, True, True),
            (Kind.RESET, True, b"POST", True, True, False),
            (Kind.RESET, True, b"PATCH", True, True, False),
            (Kind.RESET, True, b"get", True, True, False),
            (Kind.RESET, False, b"GET", True, True, False),
            (Kind.UNAVAILABLE, True, b"POST", True, True, True),
            (Kind.UNAVAILABLE, True, b"POST", True, False, False),
            (Kind.TIMEOUT, False, b"GET", True, True, False),
        ],
    )
    def test_what_may_be_repeated(self, kind, retryable, method, was_sent, can_resend, allowed):
        error = UpstreamError("x", kind=kind, retryable=retryable)
        assert is_repeatable(error, method, was_sent, can_resend) is allowed

    @pytest.mark.parametrize(
        ("kind", "retryable", "method", "expected"),
        [
            (Kind.UNAVAILABLE, False, b"POST", True),
            (Kind.CONNECT, False, b"POST", True),
            (Kind.REFUSED, True, b"POST", True),
            (Kind.RESET, True, b"GET", True),
            (Kind.RESET, True, b"POST", False),  # the instance may have acted on it
            (Kind.RESET, False, b"GET", False),
            (Kind.TIMEOUT, False, b"GET", False),
        ],
    )
    def test_what_the_edge_may_send_elsewhere(self, kind, retryable, method, expected):
        error = UpstreamError("x", kind=kind, retryable=retryable)
        assert is_refusal(error, method) is expected
        assert not is_refusal(DownstreamError("x", kind=kind), method)


class TestChannel:
    def test_reading_stops_above_the_buffer_size_and_goes_on_after_take(self):
        channel, transport = make_channel(buffer_size=10)
        channel.data_received(b"x" * 10)
        assert transport.is_reading
        channel.data_received(b"y")
        assert not transport.is_reading
        assert channel.take() == b"x" * 10 + b"y"
        assert transport.is_reading

    def test_bytes_put_back_come_first(self):
        channel, _ = make_channel()
        channel.data_received(b"b")
        channel.put_back(b"a")
        assert channel.take() == b"ab"

    def test_nothing_is_written_to_a_lost_connection(self):
        channel, transport = make_channel()
        channel.connection_lost(None)
        channel.write(b"x")
        channel.close()
        channel.abort()
        assert (transport.written, transport.closed) == (b"", "")

    async def test_wake_before_a_wait_is_not_lost(self):
        waker = Waker()
        waker.wake()
        assert waker.next() is None
        assert waker.next() is not None

    async def test_wake_ends_the_wait_in_progress_once(self):
        waker = Waker()
        future = waker.next()
        waker.wake()
        assert future.done()
        assert waker.next() is not None

    async def test_wake_after_a_cancelled_wait_is_kept_for_the_next(self):
        waker = Waker()
        waker.next().cancel()
        waker.wake()
        assert waker.next() is None


class TestOutbox:
    def make(self):
        self.calls = []
        outbox = Outbox(self.calls.append)
        channel, transport = Channel(100, None, outbox), FakeTransport()
        channel.connection_made(transport)
        return channel, transport

    def end_round(self):
        calls, self.calls[:] = list(self.calls), []
        for call in calls:
            call()

    def test_small_writes_of_one_round_leave_together(self):
        channel, transport = self.make()
        channel.write(b"a")
        channel.write(b"b")
        assert (transport.writes, channel.unsent) == ([], 2)
        self.end_round()
        assert (transport.writes, channel.unsent) == ([b"ab"], 0)
        channel.write(b"c")
        self.end_round()
        assert transport.writes == [b"ab", b"c"]

    def test_large_write_keeps_its_place(self):
        channel, transport = self.make()
        channel.write(b"a")
        channel.write(b"x" * (JOIN_SIZE + 1))
        channel.write(b"b")
        self.end_round()
        assert [len(w) for w in transport.writes] == [1, JOIN_SIZE + 1, 1]

    @pytest.mark.parametrize("end", ["close", "end_writing"])
    def test_ending_sends_what_was_written(self, end):
        channel, transport = self.make()
        channel.write(b"a")
        getattr(channel, end)()
        assert transport.writes[0] == b"a"
        self.end_round()
        assert transport.written.count(b"a") == 1

    def test_abort_drops_what_was_written(self):
        channel, transport = self.make()
        channel.write(b"a")
        channel.abort()
        self.end_round()
        assert transport.writes == []


class TestPump:
    def test_chunks_are_coalesced_and_ended(self):
        (source, _), (sink, out) = make_channel(), make_channel()
        pump = Pump(source, ChunkedDecoder(Limits()), is_chunked=True)
        source.data_received(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\nnext")
        pump.move(sink, b"HEAD|")
        assert out.written == b"HEAD|3\r\nabc\r\n0\r\n\r\n"
        assert (pump.is_done, pump.size, source.take()) == (True, 3, b"next")

    def test_full_sink_leaves_the_bytes_at_the_source(self):
        (source, _), (sink, out) = make_channel(), make_channel()
        pump = Pump(source, LengthDecoder(5), is_chunked=False)
        source.data_received(b"hello")
        sink.pause_writing()
        pump.move(sink, b"HEAD|")
        assert (out.written, source.received, pump.is_done) == (b"HEAD|", b"hello", False)
        sink.resume_writing()
        pump.move(sink)
        assert (out.written, pump.is_done) == (b"HEAD|hello", True)

    def test_empty_body_is_done_with_its_head(self):
        (source, _), (sink, out) = make_channel(), make_channel()
        pump = Pump(source, LengthDecoder(0), is_chunked=False)
        pump.move(sink, b"HEAD")
        assert (out.written, pump.is_done) == (b"HEAD", True)

    def test_body_over_the_limit_is_refused(self):
        (source, _), (sink, _) = make_channel(), make_channel()
        pump = Pump(source, CloseDecoder(), is_chunked=False, limit=4)
        source.data_received(b"hello")
        with pytest.raises(LimitError, match="body of 5 bytes exceeds limit of 4") as caught:
            pump.move(sink)
        assert caught.value.kind is Kind.BODY_TOO_LARGE

    @pytest.mark.parametrize("lost", [None, ConnectionResetError()])
    def test_body_until_close_is_complete_only_after_a_clean_close(self, lost):
        (source, _), (sink, _) = make_channel(), make_channel()
        pump = Pump(source, CloseDecoder(), is_chunked=False)
        source.connection_lost(lost)
        if lost is None:
            pump.move(sink)
            assert pump.is_done
        else:
            with pytest.raises(ProtocolError):
                pump.move(sink)

    def test_rewound_body_can_be_read_again_and_keeps_the_next_request(self):
        (source, _), (sink, _) = make_channel(), make_channel()
        source.data_received(b"helloGET")
        pump = Pump(source, LengthDecoder(5), is_chunked=False, can_resend=True)
        pump.move(sink)
        assert source.received == b"GET"
        assert pump.can_rewind
        pump.rewind()
        assert source.take() == b"helloGET"

    def test_long_body_is_not_kept(self):
        (source, _), (sink, _) = make_channel(), make_channel()
        pump = Pump(source, LengthDecoder(10 * RESEND_SIZE), is_chunked=False, can_resend=True)
        for _ in range(3):
            source.data_received(b"x" * (RESEND_SIZE // 2))
            pump.move(sink)
        assert not pump.can_rewind

    def test_large_payload_is_not_copied_into_its_framing(self):
        (source, _), (sink, out) = make_channel(), make_channel()
        source.data_received(b"x" * 100_000)
        data = source.received
        Pump(source, CloseDecoder(), is_chunked=True).move(sink)
        assert out.writes[0] == b"186a0\r\n"
        assert out.writes[1] is data


class TestTunnel:
    def test_each_direction_ends_on_its_own(self):
        (one, out_one), (two, out_two) = make_channel(), make_channel()
        tunnel = Tunnel(one, two)
        one.data_received(b"ping")
        one.eof_received()
        tunnel.move()
        assert (out_two.written, tunnel.is_done) == (b"ping<eof>", False)
        two.data_received(b"pong")
        two.eof_received()
        tunnel.move()
        assert (out_one.written, tunnel.is_done) == (b"pong<eof>", True)
        assert tunnel.sizes == [4, 4]

    def test_lost_side_ends_it(self):
        (one, _), (two, _) = make_channel(), make_channel()
        tunnel = Tunnel(one, two)
        two.connection_lost(None)
        tunnel.move()
        assert tunnel.is_done


class TestPool:
    def make(self, **options):
        self.clock, self.dial = VirtualClock(), FakeDial()
        pool = Pool(ProxySettings(**options), self.dial, self.clock, AT_ONCE)
        return pool.at(E)

    async def test_last_released_connection_is_used_first(self):
        pool = self.make()
        one, two = await pool.connect(), await pool.connect()
        pool.release(one, self.clock.now())
        pool.release(two, self.clock.now())
        assert pool.take_idle() is two
        assert pool.take_idle() is one
        assert pool.take_idle() is None

    @pytest.mark.parametrize("event", ["data", "end", "lost"])
    async def test_idle_connection_on_which_anything_happens_is_dropped(self, event):
        pool = self.make()
        up = await pool.connect()
        pool.release(up, self.clock.now())
        if event == "data":
            up.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
        elif event == "end":
            up.eof_received()
        else:
            up.connection_lost(None)
        assert pool.take_idle() is None

    async def test_connections_beyond_the_idle_limit_are_closed(self):
        pool = self.make(pool_idle=1)
        one, two = await pool.connect(), await pool.connect()
        pool.release(one, self.clock.now())
        pool.release(two, self.clock.now())
        assert (one.transport.closed, two.transport.closed) == ("", "close")

    async def test_connect_failure_marks_the_endpoint(self):
        pool = self.make(fail_time=1.0)
        self.dial.error = UpstreamError("no", kind=Kind.CONNECT, retryable=True)
        with pytest.raises(UpstreamError):
            await pool.connect()
        assert pool.avoid_until == self.clock.now() + 1.0
        assert pool.opened == 0

    async def test_waiter_gets_the_connection_that_becomes_free(self):
        pool = self.make(pool_connections=1)
        one = await pool.connect()
        waiting = asyncio.ensure_future(pool.connect())
        await asyncio.sleep(0)
        pool.release(one, self.clock.now())
        assert await waiting is one
        assert len(self.dial.protocols) == 1

    async def test_waiter_gets_room_when_a_connection_closes(self):
        pool = self.make(pool_connections=1)
        one = await pool.connect()
        waiting = asyncio.ensure_future(pool.connect())
        await asyncio.sleep(0)
        one.connection_lost(None)
        assert await waiting is not one
        assert pool.opened == 1

    async def test_cancelled_waiter_does_not_swallow_the_turn_of_the_next(self):
        pool = self.make(pool_connections=1)
        one = await pool.connect()
        first, second = (asyncio.ensure_future(pool.connect()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        pool.release(one, self.clock.now())
        assert await second is one

    async def test_turn_granted_to_a_cancelled_waiter_goes_to_the_next(self):
        pool = self.make(pool_connections=1)
        one = await pool.connect()
        first, second = (asyncio.ensure_future(pool.connect()) for _ in range(2))
        await asyncio.sleep(0)
        pool.release(one, self.clock.now())
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with asyncio.timeout(BOUND):
            assert await second is one

    async def test_cancelled_connect_is_not_counted_twice(self):
        pool = self.make()

        async def cut_off(factory, host, port, *, timeout, tls_name):
            protocol = factory()
            protocol.connection_made(FakeTransport())
            protocol.connection_lost(None)
            raise asyncio.CancelledError

        pool._dial = cut_off
        with pytest.raises(asyncio.CancelledError):
            await pool.connect()
        assert pool.opened == 0

    async def test_old_idle_connections_are_closed(self):
        pool = self.make()
        old, young = await pool.connect(), await pool.connect()
        pool.release(old, self.clock.now())
        self.clock.step(10)
        pool.release(young, self.clock.now())
        pool.close_idle(self.clock.now() - 5)
        assert (old.transport.closed, young.transport.closed) == ("close", "")
        assert pool.take_idle() is young


class TestTurns:
    settings = ProxySettings(
        write_timeout=1, read_timeout=2, body_timeout=3, half_close_timeout=0.5
    )

    def turn(self, *, waits_for_100=False, body=None, response=False, **state):
        down, _ = make_channel()
        up = Upstream(self.settings, lambda upstream: None, AT_ONCE)
        for name, value in state.items():
            setattr(up if name.startswith("up_") else down, name.removeprefix("up_"), value)
        request = Pump(down, body, is_chunked=False) if body else None
        answer = Pump(up, CloseDecoder(), is_chunked=False) if response else None
        turn = whose_turn(down, up, request, answer, waits_for_100=waits_for_100)
        timeout = time_allowed(turn, self.settings)
        error = late_error(turn, timeout)
        return error.side.value, error.kind.value, timeout

    def test_who_is_to_blame(self):
        assert self.turn() == ("upstream", "timeout", 2)
        assert self.turn(is_write_paused=True) == ("downstream", "timeout", 1)
        assert self.turn(up_is_write_paused=True) == ("upstream", "timeout", 2)
        assert self.turn(body=LengthDecoder(5)) == ("downstream", "timeout", 3)
        assert self.turn(body=LengthDecoder(5), waits_for_100=True) == ("upstream", "timeout", 2)
        assert self.turn(body=LengthDecoder(5), response=True) == ("upstream", "timeout", 2)
        assert self.turn(has_ended=True) == ("downstream", "reset", 0.5)
        assert self.turn(has_ended=True, response=True) == ("upstream", "timeout", 2)
