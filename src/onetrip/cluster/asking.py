"""One question to a peer, and its answer: the client's side of what nodes share over HTTP."""

from __future__ import annotations

import secrets

import aiohttp

from onetrip.cluster.messages import MAX_REPORT_SIZE
from onetrip.cluster.telling import Known
from onetrip.cluster.tickets import sign, verify
from onetrip.errors import Kind, PeerError
from onetrip.model.topology import Endpoint, RegionId
from onetrip.net.tls import PeerContexts
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

NONCE, MAC = "onetrip-nonce", "onetrip-mac"


def purpose_of(name: str, *, is_delta: bool) -> str:
    """Return what the MAC of an answer is for (`cluster/tickets`)."""
    return f"{name}-delta" if is_delta else f"{name}-reply"


class PeerClient:
    """Asks peers, on connections that are kept.

    Args:
        interval: between two reports of a peer, s; times out after a few of them.
        source_address: local address of connections, or None.
    """

    def __init__(
        self,
        region: RegionId,
        secret: bytes,
        *,
        clock: Clock,
        metrics: Metrics,
        interval: float,
        source_address: str | None,
    ) -> None:
        self._region = region
        self._secret = secret
        self._clock = clock
        self._metrics = metrics
        self._interval = interval
        self._source_address = source_address
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        region: RegionId,
        endpoint: Endpoint,
        name: str,
        contexts: PeerContexts | None,
        known: Known | None = None,
    ) -> tuple[bytes, bool]:
        """Return what a peer answers, and whether it took note of what is known.

        Raises:
            PeerError: it cannot be reached, or its answer is refused.
        """
        nonce = f"{self._region}.{int(self._clock.wall())}.{secrets.token_hex(16)}"
        nonce += f".{known}" if known is not None else ""
        headers = {NONCE: nonce, MAC: sign(self._secret, f"{name}-request", nonce.encode())}
        scheme = "https" if endpoint.tls_name else "http"
        hold = known.hold if known is not None else 0.0
        timeout = aiohttp.ClientTimeout(total=hold + max(3.0, 5 * self._interval))
        try:
            async with self._client().get(
                f"{scheme}://{endpoint}/v1/{name}",
                headers=headers,
                timeout=timeout,
                ssl=contexts.client if contexts is not None else True,
                server_hostname=endpoint.tls_name,
            ) as reply:
                if reply.status != 200:
                    raise PeerError(f"peer {region} answered {reply.status}")
                body = await _read(reply)
                mac = reply.headers.get(MAC, "")
                self._count(reply, body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            kind = Kind.TIMEOUT if isinstance(error, TimeoutError) else Kind.CONNECT
            raise PeerError(f"peer {region} at {endpoint}: {_reason(error)}", kind=kind) from error
        for is_delta in (True, False) if known is not None else (False,):
            if verify(self._secret, mac, purpose_of(name, is_delta=is_delta), nonce.encode(), body):
                return body, is_delta
        raise PeerError(f"peer {region} at {endpoint} does not share the cluster secret")

    def _count(self, reply: aiohttp.ClientResponse, body: bytes) -> None:
        sent = reply.request_info.headers
        self._metrics.volume.sent.inc(sum(len(k) + len(v) + 4 for k, v in sent.items()) + 32)
        head = sum(len(k) + len(v) + 4 for k, v in reply.raw_headers)
        self._metrics.volume.received.inc(head + 19 + len(body))

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            local = (self._source_address, 0) if self._source_address else None
            connector = aiohttp.TCPConnector(local_addr=local, limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            )
        return self._session


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return f"its certificate is refused: {getattr(cause, 'verify_message', cause)}"
    return type(error).__name__


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in reply.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MAX_REPORT_SIZE:
            raise PeerError(f"report of over {MAX_REPORT_SIZE} bytes exceeds limit")
    return bytes(body)
