"""Webhooks in the admin API: how each receiver is, what it was told, and a test by hand."""

from __future__ import annotations

from aiohttp import web

from onetrip.control.operations import Call
from onetrip.control.requests import Nothing, parse
from onetrip.control.responses import reply
from onetrip.control.view import NodeView
from onetrip.control.webhook_rows import (
    DeliveriesBody,
    DeliveryRow,
    WebhookRow,
    WebhooksBody,
)
from onetrip.model.webhook import Delivery, WebhookStatus


class Webhooks:
    """The handlers of `/v1/webhooks`."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    async def webhooks(self, call: Call) -> web.Response:
        """List the webhooks."""
        return reply(WebhooksBody([_row(status) for status in self._view.webhooks()]))

    async def webhook_deliveries(self, call: Call) -> web.Response:
        """List the latest attempts at one receiver."""
        found = self._view.webhook_deliveries(call.request.match_info["webhook"])
        return reply(DeliveriesBody([_delivery_row(each) for each in found]))

    async def test_webhook(self, call: Call) -> web.Response:
        """Send a receiver a message now."""
        parse(call.body or b"{}", Nothing)
        name = call.request.match_info["webhook"]
        row = _delivery_row(await self._view.test_webhook(name))
        call.subject, call.after = name, row
        return reply(row)


def _row(status: WebhookStatus) -> WebhookRow:
    return WebhookRow(
        name=status.name,
        url=status.url,
        events=list(status.events),
        state=status.state.value,
        pending=status.pending,
        failing_since=status.failing_since,
        next_at=status.next_at,
        last=_delivery_row(status.last) if status.last is not None else None,
    )


def _delivery_row(delivery: Delivery) -> DeliveryRow:
    return DeliveryRow(
        id=delivery.id,
        event=delivery.event,
        at=delivery.at,
        attempt=delivery.attempt,
        is_delivered=delivery.is_delivered,
        status=delivery.status or None,
        error=delivery.error,
        duration_ms=round(delivery.duration * 1e3, 3),
    )
