"""Tells the region's node what was counted: one interval a second, never in the way of traffic.

Intervals end on whole seconds of Unix time, so that a node can add up those of several relays.
While the node is away intervals wait in a bounded queue; when it is full the two oldest become
one, so totals are never lost, only their place in time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

import aiohttp
import msgspec

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.model.relay import FlipReport
from onetrip.observe.logs import Log
from onetrip.relay.server import Counts
from onetrip.relay.settings import RelaySettings
from onetrip.timing import Clock

INTERVAL = 1.0
"""Seconds between two reports."""

MAX_QUEUED = 10
"""Intervals kept while the node is away; it attributes only those of the last seconds anyway."""

POST_TIMEOUT = 2.0
"""Longest wait for the node's reply, s."""

MAX_REPLY = 4096
"""Bytes of a reply that are read; the node sends none, or a short problem document."""

Post = Callable[[bytes], Awaitable[None]]
"""Sends one body to the node; raises OnetripError, kind DENIED when it will never be taken."""


class Reporter:
    """Cuts intervals and sends them.

    Args:
        relay: what tells this relay from others of the same backend.
        counts: returns what was counted since the start.
        post: sends one report.
    """

    def __init__(
        self,
        settings: RelaySettings,
        relay: str,
        counts: Callable[[], Counts],
        post: Post,
        clock: Clock,
        log: Log,
    ) -> None:
        self._empty = FlipReport(settings.backend, relay, settings.project, 0.0, 0.0, 0, 0, 0)
        self._counts = counts
        self._post = post
        self._clock = clock
        self._log = log
        self._last = counts()
        self._cut_at = clock.now()
        self._queue: deque[FlipReport] = deque()
        self._wakes = asyncio.Event()
        self._sending = asyncio.Lock()
        self._is_failing = False

    @property
    def queued(self) -> int:
        """Intervals that wait for the node."""
        return len(self._queue)

    async def cut_forever(self) -> None:
        """End an interval at each whole second of Unix time."""
        while True:
            await self._clock.sleep(INTERVAL - self._clock.wall() % INTERVAL)
            self.cut()

    async def send_forever(self) -> None:
        """Send what was cut, as soon as it was."""
        while True:
            await self._wakes.wait()
            self._wakes.clear()
            await self.flush()

    def cut(self) -> None:
        """End the current interval and queue it."""
        now, counts, last = self._clock.now(), self._counts(), self._last
        self._queue.append(
            replace(
                self._empty,
                at=self._clock.wall(),
                duration=now - self._cut_at,
                trips=counts.trips - last.trips,
                setup_trips=counts.setup_trips - last.setup_trips,
                connections=counts.connections - last.connections,
                opaque=counts.opaque - last.opaque,
            )
        )
        self._last, self._cut_at = counts, now
        self._bound()
        self._wakes.set()

    async def flush(self) -> None:
        """Send what is queued, oldest first, until the node fails to take it."""
        async with self._sending:
            await self._send_queued()

    async def _send_queued(self) -> None:
        while self._queue:
            # Taken out while it is sent, so that nothing can be joined to what is on its way.
            report = self._queue.popleft()
            try:
                await self._post(msgspec.json.encode(report))
            except OnetripError as error:
                self._failed(error)
                if error.kind is not Kind.DENIED:
                    self._queue.appendleft(report)
                    self._bound()
                    return
            else:
                self._succeeded()

    def _bound(self) -> None:
        while len(self._queue) > MAX_QUEUED:
            oldest = self._queue.popleft()
            self._queue[0] = _joined(oldest, self._queue[0])

    def _failed(self, error: OnetripError) -> None:
        if not self._is_failing:
            self._log.warning("relay.report_failed", kind=error.kind.value, reason=str(error))
        self._is_failing = True

    def _succeeded(self) -> None:
        if self._is_failing:
            self._log.info("relay.report_recovered", queued=len(self._queue))
        self._is_failing = False


def _joined(first: FlipReport, second: FlipReport) -> FlipReport:
    return replace(
        second,
        duration=first.duration + second.duration,
        trips=first.trips + second.trips,
        setup_trips=first.setup_trips + second.setup_trips,
        connections=first.connections + second.connections,
        opaque=first.opaque + second.opaque,
    )


class HttpPost:
    """Posts reports to a node's admin API.

    Args:
        api: base URL of the node.
        token: bearer token, or None.
    """

    def __init__(self, api: str, token: str | None) -> None:
        self._url = f"{api.rstrip('/')}/v1/flips"
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, body: bytes) -> None:
        """Send one report.

        Raises:
            UpstreamError: kind CONNECT when the node cannot be reached or fails, DENIED when it
                will not take this report.
        """
        try:
            async with self._client().post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as reply:
                text = await reply.content.read(MAX_REPLY)
                status = reply.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamError(
                f"the node does not answer: {type(error).__name__}", kind=Kind.CONNECT
            ) from error
        if status in (401, 408, 429) or status >= 500:
            raise UpstreamError(f"the node answered {status}", kind=Kind.CONNECT)
        if not 200 <= status < 300:
            reason = _detail(text)
            raise UpstreamError(f"the node answered {status}: {reason}", kind=Kind.DENIED)

    async def close(self) -> None:
        """Close the connection to the node."""
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT),
                connector=aiohttp.TCPConnector(limit=1),
            )
        return self._session


def _detail(text: bytes) -> str:
    try:
        found = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return "not as onetrip does"
    return str(found.get("detail", ""))[:200]
