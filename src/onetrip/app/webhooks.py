"""`webhooks` of the configuration: the receivers, and the courier of a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import onetrip
from onetrip.app.named import check_id
from onetrip.app.ring import EventRing
from onetrip.app.schema_outward import WebhookEntry
from onetrip.app.security import read_secret
from onetrip.control.store import AsyncStore
from onetrip.errors import ApiError, ConfigError, Kind
from onetrip.model.topology import RegionId
from onetrip.model.webhook import Delivery, Webhook, WebhookStatus
from onetrip.net.names import is_loopback
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.webhooks.courier import Courier


def build_webhooks(entries: Sequence[WebhookEntry], folder: Path) -> tuple[Webhook, ...]:
    """Return the receivers.

    Args:
        folder: what relative paths are relative to.

    Raises:
        ConfigError: an entry that cannot be used.
    """
    if not entries:
        return ()
    from onetrip.webhooks.signing import parse_keys  # most nodes do without

    found: dict[str, Webhook] = {}
    for number, entry in enumerate(entries):
        key = f"webhooks[{number}]"
        check_id(entry.name, f"{key}.name")
        if entry.name in found:
            raise ConfigError(f"{key}.name: {entry.name!r} is taken by another webhook")
        _check_url(entry.url, f"{key}.url")
        secret = read_secret(folder, entry.secret_file, entry.secret_env, f"{key}.secret")
        if secret is None:
            raise ConfigError(f"{key}: secret_env or secret_file is required")
        keys = parse_keys(secret, f"{key}.secret")
        found[entry.name] = Webhook(entry.name, entry.url, tuple(entry.events), keys)
    return tuple(found.values())


def _check_url(url: str, key: str) -> None:
    # The message has no more of it than its scheme: the path may be a secret.
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or parts.username is not None or parts.fragment:
        raise ConfigError(f"{key}: is not https://HOST[:PORT]/PATH")
    if parts.scheme != "https" and not is_loopback(host):
        raise ConfigError(f"{key}: {host} is not loopback, so https is required")


class Webhooks:
    """A node's webhooks; without any configured its courier is never imported.

    Args:
        events: whose events are told.
        tell: makes an event, of a name, a subject and a detail.
    """

    def __init__(
        self,
        region: RegionId,
        events: EventRing,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], object],
    ) -> None:
        self._region = region
        self._events = events
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._store: AsyncStore | None = None
        self._courier: Courier | None = None

    async def open(self, hooks: Sequence[Webhook], store: AsyncStore | None) -> None:
        """Begin to tell receivers, those first that were to be told before."""
        self._store = store
        if hooks:
            self._courier = self._make()
            await self._courier.open(hooks)
            self._events.listeners.append(self._courier.take)

    async def apply(self, hooks: Sequence[Webhook]) -> None:
        """Use other receivers from now on."""
        if self._courier is None:
            await self.open(hooks, self._store)
        else:
            self._courier.apply(hooks)

    async def close(self) -> None:
        """Stop telling; what was not delivered stays kept."""
        if self._courier is not None:
            self._events.listeners.remove(self._courier.take)
            courier, self._courier = self._courier, None
            await courier.close()

    def statuses(self) -> list[WebhookStatus]:
        """Return every receiver."""
        return self._courier.statuses() if self._courier is not None else []

    def deliveries(self, name: str) -> list[Delivery]:
        """Return the latest attempts at a receiver, newest first.

        Raises:
            ApiError: there is none of this name.
        """
        return self._known(name).deliveries(name)

    async def test(self, name: str) -> Delivery:
        """Send a receiver a message now.

        Raises:
            ApiError: there is none of this name.
        """
        return await self._known(name).test(name)

    def _known(self, name: str) -> Courier:
        if self._courier is None:
            raise ApiError(f"no webhook {name!r} is configured", kind=Kind.NOT_FOUND)
        return self._courier

    def _make(self) -> Courier:
        from onetrip.control.deliveries import StoredDeliveries
        from onetrip.webhooks.courier import Courier
        from onetrip.webhooks.post import HttpPost

        return Courier(
            self._region,
            HttpPost(f"onetrip/{onetrip.__version__}"),
            StoredDeliveries(self._store) if self._store is not None else None,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            log=self._log,
            tell=self._tell,
        )
