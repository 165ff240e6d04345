"""Errors to Sentry: what a person must look at, with its stack, and nothing of any request.

A client of its own, not the library's global one: it hooks into nothing, adds no breadcrumbs, reads
no variables. What is sent is put together from a list of what may leave, and every text in it goes
through `scrub`. Nothing imports this module before it is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sentry_sdk import Client
from sentry_sdk.transport import HttpTransport
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import event_from_exception

from onetrip.observe.metrics import Metrics
from onetrip.observe.scrub import scrub
from onetrip.observe.taps import SentrySettings

MAX_EVENTS = 30
"""Events sent within `WINDOW`; more of them tell nothing new, and cost the project's quota."""

WINDOW = 60.0
"""Seconds."""

CLOSE_TIMEOUT = 2.0
"""Longest wait for what is left, s."""

FIELDS = frozenset(("task", "error", "reason", "at", "kind", "worker", "message", "target"))
"""Fields of events that leave: none of them is taken from a request."""

PARTS = frozenset(
    ["event_id", "timestamp", "platform", "level", "logger", "logentry", "exception", "fingerprint",
     "tags", "extra", "release", "environment", "server_name", "sdk"]
)  # fmt: skip
"""Parts of a Sentry event that leave."""

FRAME = frozenset(
    ["filename", "function", "module", "lineno", "in_app",
     "pre_context", "context_line", "post_context"]
)  # fmt: skip
"""What is told of a frame: code, and no variables."""


class SentryTap:
    """Reports events; see `LogTap`.

    Args:
        release: version of onetrip.
        server: which node this is.
        now: monotonic time, s.
    """

    takes_access = False

    def __init__(
        self,
        settings: SentrySettings,
        metrics: Metrics,
        release: str,
        server: str,
        now: Callable[[], float],
    ) -> None:
        self._levels = ("error",) if settings.level == "error" else ("warning", "error")
        self._now = now
        self._sent: deque[float] = deque(maxlen=MAX_EVENTS)
        self._queued = metrics.drains.sentry_events.labels("queued")
        self._dropped = metrics.drains.sentry_events.labels("dropped")
        lost = metrics.drains.sentry_events.labels("lost")

        class Transport(HttpTransport):
            """Counts what did not arrive."""

            def on_dropped_event(self, _reason: str) -> None:
                """See `HttpTransport`."""
                lost.inc()

        self._client = Client(
            dsn=settings.dsn,
            release=f"onetrip@{release}",
            environment=settings.environment or None,
            server_name=server,
            transport=Transport,
            before_send=_only_what_may_leave,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            include_local_variables=False,
            enable_backpressure_handling=False,
            enable_metrics=False,
            max_breadcrumbs=0,
            propagate_traces=False,
            spotlight=False,
        )

    def take(self, record: Mapping[str, Any], cause: BaseException | None) -> None:
        """See `LogTap`."""
        if record["level"] not in self._levels:
            return
        now = self._now()
        if len(self._sent) == MAX_EVENTS and now - self._sent[0] < WINDOW:
            self._dropped.inc()
            return
        self._sent.append(now)
        self._queued.inc()
        self._client.capture_event(self._event(record, cause))

    def take_lines(self, lines: Sequence[bytes]) -> None:
        """See `LogTap`."""

    def close(self) -> None:
        """See `LogTap`."""
        self._client.close(timeout=CLOSE_TIMEOUT)

    def _event(self, record: Mapping[str, Any], cause: BaseException | None) -> Event:
        found: dict[str, Any] = {}
        if cause is not None:
            found = dict(event_from_exception(cause, self._client.options)[0])
        name = record["event"]
        found |= {
            "timestamp": record["ts"],
            "level": record["level"],
            "logger": name.partition(".")[0],
            "logentry": {"message": name},
            # One issue for one event and kind of failure, wherever it happens.
            "fingerprint": [name, str(record.get("task", "")), str(record.get("error", ""))],
            "tags": {"event": name, "region": record.get("region", "")},
            "extra": {key: value for key, value in record.items() if key in FIELDS},
        }
        return cast("Event", found)


def _only_what_may_leave(event: Event, hint: Hint) -> Event:
    kept = {key: value for key, value in event.items() if key in PARTS}
    for exception in cast("Any", kept.get("exception", {})).get("values", ()):
        frames = (exception.get("stacktrace") or {}).get("frames", ())
        for frame in frames:
            for key in frame.keys() - FRAME:
                del frame[key]
    return cast("Event", _scrubbed(kept))


def _scrubbed(value: Any) -> Any:
    """Return `value` with every text in it scrubbed; code and names hold nothing to find."""
    match value:
        case str():
            return scrub(value)
        case dict():
            return {k: v if k in ("stacktrace", "sdk") else _scrubbed(v) for k, v in value.items()}
        case list() | tuple():
            return [_scrubbed(each) for each in value]
        case _:
            return value
