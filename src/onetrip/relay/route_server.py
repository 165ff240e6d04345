"""The listener of a routing relay: lets clients in, runs their sessions, cancels, drains."""

from __future__ import annotations

import asyncio
import hmac
from random import Random

from onetrip.errors import Kind, OnetripError
from onetrip.model.catalog import BackendKind
from onetrip.net.dial import Dial
from onetrip.observe.logs import Log
from onetrip.relay.admission import LOGIN_TIMEOUT, Admission, refusal
from onetrip.relay.client_link import ClientLink
from onetrip.relay.figures import Figures
from onetrip.relay.fleet import Fleet
from onetrip.relay.front import Front, ends_reported
from onetrip.relay.greeting import Greeter
from onetrip.relay.links import Links
from onetrip.relay.opening import send_cancel
from onetrip.relay.route_settings import Others, PoolMode, RouteSettings
from onetrip.relay.server import Counts
from onetrip.relay.session import RoutedSession
from onetrip.relay.session_parts import SessionParts, Usage
from onetrip.relay.session_state import SessionState
from onetrip.relay.settings import RelaySettings
from onetrip.timing import Clock
from onetrip.wire.flip_setup import flips_for
from onetrip.wire.flips import Tally
from onetrip.wire.postgres_messages import error_response, message, parameter_status, ready
from onetrip.wire.postgres_start import Cancel, Start, backend_key, cancel_packet
from onetrip.wire.sql_classifier import Classifier

SECRET_SIZE = 4
"""Bytes of a key to cancel with; protocol 3.0 has room for no more."""


class RouteServer:
    """Routes every connection of one listener. Stands in for `RelayServer`."""

    def __init__(
        self,
        settings: RelaySettings,
        route: RouteSettings,
        dial: Dial,
        clock: Clock,
        rng: Random,
        log: Log,
    ) -> None:
        self.usage = Usage()
        self._tally = Tally()
        self.fleet = Fleet(
            route, dial, clock, rng, log, self._tally, timeout=settings.connect_timeout
        )
        self._settings = settings
        self._route = route
        self._dial = dial
        self._clock = clock
        self._rng = rng
        self._admission = Admission(route, rng)
        self._classifier = Classifier(route.functions)
        self._front = front = Front(settings, clock, log)
        self._links = Links(dial, clock, front.refuse, timeout=settings.connect_timeout)
        self._clients: set[ClientLink] = set()
        self._taken = 0
        self._greeter = Greeter(clock, timeout=settings.connect_timeout)
        self._sessions: dict[int, tuple[bytes, RoutedSession]] = {}

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return len(self._clients) + len(self._links)

    @property
    def counts(self) -> Counts:
        """What was counted since the start: connections are those to the servers."""
        tally = self._tally
        opened = self.fleet.opened + self._links.opened
        return Counts(tally.trips, tally.setup_trips, opened, tally.opaque)

    @property
    def figures(self) -> Figures:
        """What it can tell of itself."""
        usage, tally = self.usage, self._tally
        return Figures(
            self.connections,
            self._taken,
            self._front.refused,
            tally.sent,
            tally.received,
            self.fleet.figures(),
            usage.transactions,
            self.fleet.waits,
            usage.errors,
            usage.repeated,
            usage.pinned,
        )

    async def start(self) -> int:
        """Listen, and return the port (useful with port 0).

        Raises:
            OSError: the address cannot be bound.
        """
        port = await self._front.open(self._accept, self._close_idle)
        self.fleet.start()
        return port

    async def drain(self) -> None:
        """Stop accepting and end each session between two transactions; wait a bounded time."""
        await self._front.drain(lambda: self.connections, self._close_silent)

    async def stop(self) -> None:
        """Close everything now."""
        self._front.close()
        for client in list(self._clients):
            client.abort()
        self._links.abort()
        await self._front.tasks.cancel(timeout=5.0)
        await self.fleet.stop()
        await ends_reported()

    def _close_silent(self, now: float) -> None:
        for _, session in list(self._sessions.values()):
            if session.is_quiet:
                session.end("57P01", "the relay stops")
        self._links.close_silent(now)

    def _close_idle(self, oldest: float) -> None:
        for _, session in list(self._sessions.values()):
            if session.active_at < oldest:
                session.end("57P05", "the session was idle for too long")
        self._links.close_idle(oldest)

    def _accept(self, transport: asyncio.Transport) -> None:
        limit = self._settings.max_connections
        if self.connections >= limit:
            self._front.refuse(f"more than {limit} connections", Kind.CONNECTION_LIMIT)
            transport.write(error_response("53300", "too many clients", severity="FATAL"))
            transport.close()
            return
        client = ClientLink(self._clock, self._clients.discard)
        self._clients.add(client)
        self._taken += 1
        client.accept(transport)
        self._front.tasks.spawn(self._serve(client), "relay.session")

    async def _serve(self, client: ClientLink) -> None:
        process = 0
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                found = await self._admit(client)
            if found is None:
                return
            session, greeting = found
            process, secret = self._new_key()
            self._sessions[process] = secret, session
            client.write(greeting + backend_key(process, secret) + ready(b"I"))
            await session.run()
        except TimeoutError:
            self._front.refuse(f"no login within {LOGIN_TIMEOUT:g} s", Kind.TIMEOUT)
        except OnetripError as error:
            if not client.is_lost:
                self._front.refuse(str(error), error.kind)
            client.write(refusal(error))
        finally:
            self._sessions.pop(process, None)
            if client in self._clients:
                client.on_change = lambda: None
                client.on_room = lambda has_room: None
                client.close()

    async def _admit(self, client: ClientLink) -> tuple[RoutedSession, bytes] | None:
        """Let a client in; return its session and what it is told, or None where it has none."""
        opening = await self._admission.opening(client)
        if isinstance(opening, Cancel):
            self._cancel(opening)
            return None
        if self._route.others is Others.PASS and opening.user not in self._route.accounts:
            await self._pass(client, opening)
            return None
        admitted = await self._admission.authenticate(client, opening)
        parts = SessionParts(
            self.fleet,
            admitted.account,
            admitted.database,
            self._classifier,
            self.usage,
            self._route.replica_wait,
            self._route.pool.wait,
        )
        is_pinned = self._route.mode is PoolMode.SESSION
        state = SessionState(admitted.startup, is_pinned=is_pinned)
        reports = await self._greeter.reports(parts, state)
        for name, value in reports.items():
            state.reported(name, value)
        told = b"".join(parameter_status(*report) for report in reports.items())
        return RoutedSession(client, parts, state), message(b"R", b"\0\0\0\0") + told

    def _new_key(self) -> tuple[int, bytes]:
        while (process := self._rng.getrandbits(31)) in self._sessions or not process:
            pass
        return process, self._rng.randbytes(SECRET_SIZE)

    def _cancel(self, asked: Cancel) -> None:
        secret, session = self._sessions.get(asked.process, (b"", None))
        link = session.link if session is not None else None
        if link is None or not hmac.compare_digest(secret, asked.secret) or not link.is_busy:
            return
        packet = cancel_packet(link.started.process, link.started.secret)
        endpoint = self.fleet.endpoint(link.name)
        timeout = self._settings.connect_timeout
        task = self._front.tasks.spawn(
            send_cancel(endpoint, packet, self._dial, self._clock, timeout=timeout), "relay.cancel"
        )
        link.cancelling.add(task)
        task.add_done_callback(link.cancelling.discard)

    async def _pass(self, client: ClientLink, start: Start) -> None:
        """Pass a session on untouched to the primary, as a relay without routes does."""
        endpoint = self.fleet.endpoint(await self.fleet.primary(self._route.pool.wait))
        transport, rest = client.transport, client.early
        if transport is None:
            return
        self._clients.discard(client)
        link = self._links.add(flips_for(BackendKind.POSTGRES, self._tally))
        link.accept(transport)
        link.client.data_received(start.raw + rest)
        await self._links.connect(link, endpoint.at)
