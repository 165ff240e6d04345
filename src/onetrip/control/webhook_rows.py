"""The bodies of `/v1/webhooks`."""

from __future__ import annotations

from msgspec import Struct

from onetrip.model.webhook import WebhookState, WebhookStatus


class DeliveryRow(Struct, frozen=True):
    """One attempt to deliver a message.

    Attributes:
        id: Of the message, the same in each attempt.
        attempt: 1 for the first.
        status: Of the answer; null without one.
        error: Why it failed, empty if it did not.
    """

    id: str
    event: str
    at: float
    attempt: int
    is_delivered: bool
    status: int | None
    error: str
    duration_ms: float


class WebhookRow(Struct, frozen=True):
    """One receiver of events.

    Attributes:
        url: Without its path, which may be a secret.
        events: Patterns of event names.
        state: `ok`, `failing` or `disabled`.
        pending: Messages that wait.
        failing_since: The first failure since the last success.
        next_at: The next attempt.
        last: The latest attempt since the node started.
    """

    name: str
    url: str
    events: list[str]
    state: str
    pending: int
    failing_since: float | None
    next_at: float | None
    last: DeliveryRow | None


class WebhooksBody(Struct, frozen=True):
    """`GET /v1/webhooks`."""

    webhooks: list[WebhookRow]


class DeliveriesBody(Struct, frozen=True):
    """`GET /v1/webhooks/{webhook}/deliveries`, newest first."""

    deliveries: list[DeliveryRow]


def problems_of(statuses: list[WebhookStatus]) -> list[str]:
    """Return what a person should know of."""
    lost = [status.name for status in statuses if status.state is WebhookState.DISABLED]
    return [f"webhook {name} is disabled: its receiver failed for days" for name in lost]
