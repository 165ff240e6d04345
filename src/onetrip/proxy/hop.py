"""The mark on requests that one node forwards to another, and the check of it.

`onetrip-hop: v1;edge=den;arm=placed;minute=29000000;mac=<hex>` tells the node of the chosen region
that another node of the cluster has placed this request already: run it on your own instances and
never forward it again. During a rollout `;variant=<deployment>` before the mac tells which
deployment the edge has chosen. The mac is HMAC-SHA256 under the cluster secret over everything
before it. It does not cover the request: whoever can read traffic between nodes could replay it for
ten minutes, and would gain only what the edge grants to any client, run in a region of his choice.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from onetrip.errors import Kind, UpstreamError
from onetrip.model.measure import Arm
from onetrip.model.topology import RegionId
from onetrip.proxy.headers import find_all
from onetrip.timing import Clock
from onetrip.wire.http1_head import MessageMeta

HOP_HEADER = b"onetrip-hop"
REFUSED_HEADER = b"onetrip-refused"
"""On a peer's 503: nothing was sent to an instance, so any request may go elsewhere."""

MAX_AGE = 10
"""Minutes of clock difference and delay accepted between two nodes."""

_MAX_CACHED = 256
_ARMS = {arm.value: arm for arm in Arm}
_HOP = re.compile(
    rb"(v1;edge=([a-z0-9-]{1,32});arm=([a-z]{1,16});minute=([0-9]{1,12})"
    rb"(?:;variant=([0-9a-f]{1,64}))?);mac=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a forwarded request came from, and why it is here.

    Attributes:
        variant: the deployment that the edge has chosen, "" for what the environment runs.
    """

    edge: RegionId
    arm: Arm
    minute: int
    variant: str = ""


def doubt_peer(hop: Hop | None, regions: frozenset[str] | None) -> tuple[str, str] | None:
    """Return why a request is not taken for a peer's, where peers have to use TLS.

    Args:
        hop: its valid mark, or None.
        regions: what the certificate of its connection names; None on a listener for clients.

    Returns:
        The reason (a label) and the detail; None when there is no doubt.
    """
    if hop is None:
        return "unmarked", "request without a valid hop mark"
    if regions is None:
        return "plain", f"node of {hop.edge} forwards to a listener for clients"
    if hop.edge not in regions:
        names = ", ".join(sorted(regions)) or "no region"
        return "region", f"certificate for {names} forwards for {hop.edge}"
    return None


def check_refusal(meta: MessageMeta, region: RegionId) -> None:
    """Look whether the 503 of a peer is its own.

    Raises:
        UpstreamError: kind UNAVAILABLE; nothing was sent to an instance of `region`.
    """
    if find_all(meta.fields, REFUSED_HEADER):
        raise UpstreamError(
            f"region {region} has no ready instance", kind=Kind.UNAVAILABLE, retryable=True
        )


class HopSigner:
    """Makes and checks hop headers.

    Args:
        secret: shared by the nodes of a cluster; None makes no hop and accepts none.
    """

    def __init__(self, secret: bytes | None, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._made: dict[tuple[RegionId, Arm, str], tuple[int, bytes]] = {}
        self._seen: dict[bytes, Hop] = {}

    @property
    def can_hop(self) -> bool:
        """Tell whether a secret exists."""
        return self._secret is not None

    def make(self, edge: RegionId, arm: Arm, variant: str = "") -> bytes:
        """Return the header value for a request that `edge` forwards in `arm`."""
        assert self._secret is not None, "no cluster secret"
        minute = self._minute()
        made = self._made.get((edge, arm, variant))
        if made is None or made[0] != minute:
            ending = f";variant={variant}" if variant else ""
            text = f"v1;edge={edge};arm={arm.value};minute={minute}{ending}".encode()
            made = (minute, text + b";mac=" + self._mac(self._secret, text))
            if len(self._made) >= _MAX_CACHED:
                self._made.clear()
            self._made[edge, arm, variant] = made
        return made[1]

    def verify(self, value: bytes) -> Hop | None:
        """Return the hop that `value` proves, or None."""
        if self._secret is None:
            return None
        hop = self._seen.get(value)
        if hop is None:
            parts = _HOP.fullmatch(value)
            if parts is None or not hmac.compare_digest(
                self._mac(self._secret, parts[1]), parts[6]
            ):
                return None
            arm = _ARMS.get(parts[3].decode())
            if arm is None:
                return None
            variant = (parts[5] or b"").decode()
            hop = Hop(RegionId(parts[2].decode()), arm, int(parts[4]), variant)
            if len(self._seen) >= _MAX_CACHED:
                self._seen.clear()
            self._seen[value] = hop
        return hop if abs(hop.minute - self._minute()) <= MAX_AGE else None

    def _minute(self) -> int:
        return int(self._clock.wall() // 60)

    @staticmethod
    def _mac(secret: bytes, text: bytes) -> bytes:
        return hmac.digest(secret, text, "sha256").hex().encode()
