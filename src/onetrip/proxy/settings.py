"""Every limit and timeout of the data plane, with its default and its bounds.

Nothing else in `proxy` holds such a number, so a reader can see here what an attacker can make a
node spend. Values are seconds, bytes and counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from onetrip.errors import ConfigError
from onetrip.proxy.ejection import EjectionSettings
from onetrip.wire.http1 import Limits

Network = IPv4Network | IPv6Network

LEAST_WEIGHT = 0.1
"""Share of its full load that an instance starts with: less would never warm its caches."""

_BOUNDS: dict[str, tuple[float, float]] = {
    "max_connections": (1, 1_000_000),
    "max_requests": (1, 1_000_000_000),
    "head_limit": (256, 1 << 20),
    "target_limit": (16, 1 << 20),
    "fields_limit": (1, 10_000),
    "trailers_limit": (16, 1 << 20),
    "buffer_size": (1024, 16 << 20),
    "header_timeout": (0.01, 3600),
    "handshake_timeout": (0.01, 3600),
    "max_handshakes": (1, 1_000_000),
    "idle_timeout": (0.01, 86_400),
    "body_timeout": (0.01, 3600),
    "body_rate": (0, 1 << 30),
    "write_timeout": (0.01, 3600),
    "connect_timeout": (0.01, 300),
    "read_timeout": (0.01, 86_400),
    "half_close_timeout": (0.01, 86_400),
    "tunnel_timeout": (0.01, 86_400),
    "linger_timeout": (0.01, 60),
    "pool_idle": (0, 100_000),
    "pool_idle_timeout": (0.01, 3600),
    "pool_connections": (1, 100_000),
    "pool_queue": (0, 100_000),
    "upstream_streams": (1, 10_000),
    "ping_interval": (0.01, 86_400),
    "ping_timeout": (0.01, 3600),
    "pool_requests": (1, 1_000_000),
    "fail_time": (0, 600),
    "slow_start": (0, 3600),
    "slow_start_aggression": (0.1, 10),
    "extra_attempts": (0, 10),
    "retry_ratio": (0, 1),
    "retry_reserve": (0, 10_000),
}


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Limits and timeouts of one listener and of the connections it opens.

    Attributes:
        max_connections: clients served at once; one more is answered 503 and closed.
        max_requests: requests of one client connection before it is closed, so that clients
            spread again over nodes.
        head_limit: request or response head, bytes; larger is 431 (or 502 from upstream).
        target_limit: request target, bytes; larger is 414.
        body_limit: request body, bytes; larger is 413; None leaves that to the application.
        buffer_size: bytes held per direction before the reader is stopped.
        header_timeout: first byte to end of a request head (a slow-head attack ends here).
        handshake_timeout: PROXY header and TLS handshake together.
        max_handshakes: connections inside these two at once; more are closed.
        idle_timeout: kept connection without a request.
        body_timeout: between two arrivals of request body bytes.
        body_rate: least mean rate of a request body while it is the client's turn, bytes/s; counts
            once that has lasted for `body_timeout`. 0 for none.
        write_timeout: during which a client must take at least some of what is sent to it.
        connect_timeout: name look-up, connect and TLS to the next hop; also the longest wait for
            a free connection.
        read_timeout: upstream silent while it is its turn; 504.
        half_close_timeout: how long a client that closed its sending side is waited for. It may
            be half closed or gone; nothing tells the two apart before something is sent.
        tunnel_timeout: upgraded connection silent in both directions.
        linger_timeout: how long a refused client may go on sending before the close, so that it
            can read the reply (RFC 9112 section 9.6).
        pool_idle: idle connections kept per endpoint.
        pool_idle_timeout: age of an idle connection; below the keep-alive of common servers.
        pool_connections: connections per endpoint; more requests wait in a queue of `pool_queue`.
        upstream_streams: requests at once on one HTTP/2 connection to an endpoint, if it takes so
            many; more open another connection.
        ping_interval: silence of a busy HTTP/2 connection before it is asked whether it lives;
            servers of gRPC end connections that ask often.
        ping_timeout: and how long it may take to answer.
        pool_requests: requests at one endpoint at once, those that wait among them.
        fail_time: how long an endpoint whose connect failed is left alone.
        slow_start: how long an instance that is new or back takes to its full share; 0 for none.
        slow_start_aggression: 1 grows the share evenly, more of it faster at first.
        ejection: when an instance takes no requests for a while.
        extra_attempts: attempts after the first one.
        retry_ratio: extra attempts allowed per recent request, plus `retry_reserve`, so that
            retries cannot multiply an outage.
        needs_proxy_header: every connection from a trusted proxy starts with a PROXY header, which
            is read from nobody else.
        trusted_proxies: clients whose X-Forwarded-*, Forwarded and X-Request-Id are believed.
    """

    max_connections: int = 10_000
    max_requests: int = 100_000
    head_limit: int = 32 * 1024
    target_limit: int = 8 * 1024
    fields_limit: int = 100
    trailers_limit: int = 8 * 1024
    body_limit: int | None = None
    buffer_size: int = 64 * 1024
    header_timeout: float = 10.0
    handshake_timeout: float = 10.0
    max_handshakes: int = 1024
    idle_timeout: float = 60.0
    body_timeout: float = 30.0
    body_rate: int = 240
    write_timeout: float = 30.0
    connect_timeout: float = 3.0
    read_timeout: float = 60.0
    half_close_timeout: float = 5.0
    tunnel_timeout: float = 600.0
    linger_timeout: float = 2.0
    pool_idle: int = 64
    pool_idle_timeout: float = 30.0
    pool_connections: int = 1024
    pool_queue: int = 1024
    upstream_streams: int = 100
    ping_interval: float = 20.0
    ping_timeout: float = 10.0
    pool_requests: int = 10_000
    fail_time: float = 1.0
    slow_start: float = 10.0
    slow_start_aggression: float = 1.0
    ejection: EjectionSettings = field(default_factory=EjectionSettings)
    extra_attempts: int = 2
    retry_ratio: float = 0.2
    retry_reserve: int = 10
    needs_proxy_header: bool = False
    trusted_proxies: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"proxy.{name} of {value:g} is not in {low:g}-{high:g}")
        if self.body_limit is not None and self.body_limit < 0:
            raise ConfigError(f"proxy.body_limit of {self.body_limit} is negative")
        if self.needs_proxy_header and not self.trusted_proxies:
            raise ConfigError(
                "proxy.proxy_protocol of 'required' needs proxy.trusted_proxies: the header of "
                "anybody else would let clients choose their own address"
            )
        if self.target_limit >= self.head_limit:
            raise ConfigError(
                f"proxy.target_limit of {self.target_limit} is not below "
                f"proxy.head_limit of {self.head_limit}"
            )

    @property
    def limits(self) -> Limits:
        """The limits of the parser."""
        return Limits(
            head=self.head_limit,
            target=self.target_limit,
            fields=self.fields_limit,
            trailers=self.trailers_limit,
        )

    @property
    def sweep_interval(self) -> float:
        """How often deadlines are looked at: a tenth of the shortest, within 10–500 ms."""
        shortest = min(
            self.header_timeout,
            self.idle_timeout,
            self.body_timeout,
            self.write_timeout,
            self.read_timeout,
            self.half_close_timeout,
            self.tunnel_timeout,
            self.linger_timeout,
            self.pool_idle_timeout,
        )
        return min(0.5, max(0.01, shortest / 10))
