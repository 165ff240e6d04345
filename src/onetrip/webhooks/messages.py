"""The form of a message: what the specification recommends, and what onetrip puts into it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from onetrip.model.status import Event
from onetrip.model.topology import RegionId
from onetrip.webhooks.outbox import Message


def message_of(event: Event, region: RegionId, id: str) -> Message:
    """Return an event as a message.

    Args:
        region: whose node made the event.
        id: tells a repetition; the same in each attempt.
    """
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    data = {"region": region, "subject": event.subject, "detail": event.detail}
    body = {"type": event.name, "timestamp": at.replace("+00:00", "Z"), "data": data}
    return Message(id, event.name, msgspec.json.encode(body), event.at, due_at=event.at)
