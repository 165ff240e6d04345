"""The proxy's listeners: each accepts from its sockets and makes the protocol of a connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from onetrip.errors import DownstreamError
from onetrip.net.accept import ACCEPTS_PER_ROUND, Acceptor, Spawn, Terms
from onetrip.net.dial import Receiver, as_protocol
from onetrip.net.listening import BACKLOG, port_of
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.admission import is_within
from onetrip.proxy.downstream import Downstream
from onetrip.proxy.entry import AlpnProtocol
from onetrip.proxy.replies import error_reply
from onetrip.proxy.services import Services
from onetrip.wire.proxy_protocol import read_header

if TYPE_CHECKING:
    from onetrip.proxy.multiplex import Multiplex

_NOT_TLS = error_reply(
    DownstreamError("this port speaks HTTPS, and the request came in clear"), b"", keep_alive=False
)

MakeContext = Callable[[], ssl.SSLContext]


class Household(Protocol):
    """Whoever keeps count of the connections."""

    @property
    def connections(self) -> int:
        """Those that are served."""

    def opened(self, connection: Downstream) -> None:
        """Serve a new connection, or refuse it."""

    def admit(self, connection: Multiplex) -> bool:
        """Count a new connection; False when there are too many."""

    def closed(self, connection: Downstream | Multiplex) -> None:
        """Forget a connection."""


class Gates:
    """The listeners of one proxy.

    Args:
        yields: whether another process should take the next connection, where several accept
            from the same sockets; it is told how many there are here.
    """

    def __init__(
        self,
        services: Services,
        household: Household,
        metrics: Metrics,
        log: Log,
        spawn: Spawn,
        *,
        yields: Callable[[int], bool] | None,
    ) -> None:
        self._services = services
        self._household = household
        self._metrics = metrics
        self._log = log
        self._spawn = spawn
        self._yields = yields
        self._servers: list[asyncio.Server] = []
        self._acceptors: list[Acceptor] = []

    @property
    def pending(self) -> int:
        """Connections that are not in yet."""
        return sum(acceptor.pending for acceptor in self._acceptors)

    async def open_plain(self, sockets: Sequence[socket.socket]) -> int:
        """Serve clients in clear; return the port."""
        if self._yields is not None or self._services.settings.needs_proxy_header:
            return self.open("clients", sockets, None)
        loop = asyncio.get_running_loop()
        for sock in sockets:
            server = await loop.create_server(as_protocol(self._http1), sock=sock, backlog=BACKLOG)
            self._servers.append(server)
        return port_of(sockets[0])

    def open(
        self,
        name: str,
        sockets: Sequence[socket.socket],
        context: MakeContext | None,
        *,
        is_for_nodes: bool = False,
    ) -> int:
        """Serve whoever connects to `sockets`, over TLS where there is a context; return the port.

        Args:
            name: of the listener, in metrics and logs.
            is_for_nodes: it serves peers only.
        """
        settings = self._services.settings
        has_preamble = settings.needs_proxy_header and not is_for_nodes
        terms = Terms(
            settings.handshake_timeout,
            settings.max_handshakes,
            context,
            read_header if has_preamble else None,
            lambda address: is_within(address, settings.trusted_proxies),
            plain_reply=b"" if is_for_nodes else _NOT_TLS,
            pick=(lambda: None) if is_for_nodes else self._services.challenges.watch,
            accepts_per_round=ACCEPTS_PER_ROUND if self._yields is None else 1,
            yields=None if self._yields is None else self._lets_others,
        )
        acceptor = Acceptor(
            partial(self._make_protocol, is_for_nodes=is_for_nodes),
            terms,
            partial(self._refused, name, is_for_nodes),
            self._spawn,
        )
        self._acceptors.append(acceptor)
        return acceptor.accept_from(sockets)

    def close(self, *, is_patient: bool = False) -> None:
        """Stop accepting; safe to call again.

        Args:
            is_patient: connections that are not in yet go on.
        """
        for server in self._servers:
            server.close()
        for acceptor in self._acceptors:
            if is_patient:
                acceptor.stop_listening()
            else:
                acceptor.close()

    def _lets_others(self) -> bool:
        assert self._yields is not None
        return self._yields(self.pending + self._household.connections)

    def _refused(
        self, name: str, is_for_nodes: bool, address: str, reason: str, detail: str
    ) -> None:
        self._metrics.refused_connections.labels(name, reason).inc()
        if is_for_nodes:
            self._services.on_peer_refused(address, reason, detail)
        self._log.debug(
            "proxy.connection_refused", listener=name, client=address, reason=reason, detail=detail
        )

    def _make_protocol(self, told: str | None, *, is_for_nodes: bool) -> Receiver:
        return AlpnProtocol(
            partial(self._http1, told, is_for_nodes=is_for_nodes),
            partial(self._http2, told, is_for_nodes=is_for_nodes),
        )

    def _http1(self, told: str | None = None, *, is_for_nodes: bool = False) -> Downstream:
        house = self._household
        return Downstream(
            self._services, house.opened, house.closed, told, is_for_nodes=is_for_nodes
        )

    def _http2(self, told: str | None, *, is_for_nodes: bool) -> Receiver:
        from onetrip.proxy.multiplex import Multiplex  # needs an optional package

        return Multiplex(
            self._services,
            self._household.admit,
            self._household.closed,
            self._spawn,
            told,
            lambda code: self._metrics.http2_errors.labels(code).inc(),
            is_for_nodes=is_for_nodes,
        )
