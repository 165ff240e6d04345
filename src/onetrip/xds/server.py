"""The control plane on the network: gRPC streams around `session`, and the access log's sink.

One task per stream reads what the client says; another one sends what its session has to say. All
state is offered to every session at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from onetrip.errors import ConfigError, LimitError, OnetripError
from onetrip.model.status import EnvoyStatus
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock
from onetrip.xds import protobuf
from onetrip.xds.session import Request, Response, Session, State, Verdict

MAX_STREAMS = 64
"""Envoys at once; a region has one or a few."""

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of a message that is received: a reconnecting client names all that it has."""

STOP_GRACE = 1.0
"""Seconds that streams have to end by themselves."""

_DISCOVERY = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_LOGS = "envoy.service.accesslog.v3.AccessLogService"


@dataclass(frozen=True, slots=True)
class Identity:
    """How the control plane and its Envoys prove who they are, PEM.

    Attributes:
        name: what the certificate of an Envoy has to carry.
    """

    ca: bytes
    chain: bytes
    key: bytes = field(repr=False)
    name: str


@dataclass(slots=True)
class _Client:
    session: Session
    address: str
    since: float
    id: str = ""
    version: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


Tell = Callable[[str, str, str], None]


class ControlPlane:
    """Serves the Envoys of one region.

    Args:
        on_entries: called with the entries of each message of an access log.
        tell: makes an event, of a name, a subject and a detail.
    """

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        *,
        on_entries: Callable[[Any], None],
        tell: Tell,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._on_entries = on_entries
        self._tell = tell
        self._state: State = {}
        self._clients: list[_Client] = []
        self._server: grpc.aio.Server | None = None
        self._identity: Identity | None = None

    async def start(self, host: str, port: int, identity: Identity | None) -> int:
        """Listen, and return the port.

        Args:
            identity: None speaks in clear.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self._identity = identity
        # Two nodes on one port would each get half of the Envoys, and nobody would know.
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            # Envoys ping to notice a lost node; by default that ends their connection.
            ("grpc.http2.max_ping_strikes", 0),
        ]
        self._server = server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(self._handlers())
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if identity is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, _credentials(identity))
        except RuntimeError as error:
            raise ConfigError(f"envoy.listen: {address} cannot be bound") from error
        await server.start()
        return int(bound)

    def offer(self, state: State) -> None:
        """Bring every Envoy to `state` from now on."""
        self._state = state
        for client in self._clients:
            client.session.offer(state)
            client.wake.set()

    def statuses(self) -> list[EnvoyStatus]:
        """Return what is known of the Envoys that are connected."""
        return [
            EnvoyStatus(
                name=client.id,
                version=client.version,
                address=client.address,
                uptime=self._clock.now() - client.since,
                is_current=client.session.is_current,
                refused={
                    f"{kind.name.lower()} {name}": reason
                    for (kind, name), reason in client.session.refused.items()
                },
            )
            for client in self._clients
        ]

    async def stop(self) -> None:
        """End every stream and close the port; Envoys go on with what they have."""
        if self._server is not None:
            await self._server.stop(STOP_GRACE)
            self._server = None

    def _handlers(self) -> tuple[Any, ...]:
        follow = grpc.stream_stream_rpc_method_handler(
            self._follow,
            protobuf.DeltaRequest.FromString,
            protobuf.DeltaResponse.SerializeToString,
        )
        take_logs = grpc.stream_unary_rpc_method_handler(
            self._take_logs,
            protobuf.LogMessage.FromString,
            protobuf.LogResponse.SerializeToString,
        )
        return (
            grpc.method_handlers_generic_handler(_DISCOVERY, {"DeltaAggregatedResources": follow}),
            grpc.method_handlers_generic_handler(_LOGS, {"StreamAccessLogs": take_logs}),
        )

    # --- streams ----------------------------------------------------------------------------

    async def _follow(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._check(context)
        if len(self._clients) >= MAX_STREAMS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {MAX_STREAMS} streams"
            )
        client = _Client(Session(), context.peer(), self._clock.now())
        client.session.offer(self._state)
        self._clients.append(client)
        self._metrics.xds.streams.set(len(self._clients))
        reading = asyncio.create_task(self._read(requests, client))
        try:
            await self._write(client, reading, context)
            reading.result()
        except LimitError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading
            self._clients.remove(client)
            self._metrics.xds.streams.set(len(self._clients))
            if client.id:
                self._log.warning("xds.client_lost", client=client.id, address=client.address)
                self._tell("xds.client_lost", client.id, client.address)

    async def _read(self, requests: AsyncIterator[Any], client: _Client) -> None:
        try:
            async for message in requests:
                if not client.id:
                    client.id, client.version = protobuf.client_of(message)
                    version = client.version
                    self._log.info("xds.client_found", client=client.id, version=version)
                    self._tell("xds.client_found", client.id, f"Envoy {version}")
                request = protobuf.read_request(message)
                if request is not None:
                    self._receive(client, request)
                client.wake.set()
        finally:
            client.wake.set()

    async def _write(self, client: _Client, reading: asyncio.Task[None], context: Any) -> None:
        while not reading.done():
            client.wake.clear()
            for response in client.session.take():
                if (message := self._encode(client, response)) is not None:
                    await context.write(message)
            await client.wake.wait()

    def _encode(self, client: _Client, response: Response) -> Any:
        try:
            return protobuf.write_response(response)
        except OnetripError as error:  # what cannot be sent is refused before it is
            self._receive(client, Request(response.type, response.nonce, str(error)))
            client.wake.set()
            return None

    def _receive(self, client: _Client, request: Request) -> None:
        verdict = client.session.receive(request)
        if verdict is None:
            return
        outcome = "accepted" if verdict.error is None else "refused"
        self._metrics.xds.updates.labels(verdict.type.name.lower(), outcome).inc()
        if verdict.is_final:
            self._report_refusal(client, verdict)

    def _report_refusal(self, client: _Client, verdict: Verdict) -> None:
        kind, name = verdict.type.name.lower(), ", ".join(verdict.names)[:200]
        reason = verdict.error or ""
        self._log.error("xds.update_refused", client=client.id, type=kind, name=name, reason=reason)
        self._tell("xds.update_refused", f"{kind} {name}", f"by {client.id}: {reason}")

    async def _take_logs(self, messages: AsyncIterator[Any], context: Any) -> Any:
        await self._check(context)
        async for message in messages:
            self._on_entries(message.http_logs.log_entry)
        return protobuf.LogResponse()

    async def _check(self, context: Any) -> None:
        """Refuse a client whose certificate does not carry the name it needs."""
        if self._identity is None:
            return
        names = context.auth_context().get("x509_subject_alternative_name", ())
        if self._identity.name.encode() not in names:
            self._log.warning("xds.client_refused", address=context.peer())
            self._tell("xds.client_refused", context.peer(), "its certificate is of another region")
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, f"certificate is not for {self._identity.name}"
            )


def _credentials(identity: Identity) -> Any:
    return grpc.ssl_server_credentials(
        [(identity.key, identity.chain)],
        root_certificates=identity.ca,
        require_client_auth=True,
    )
