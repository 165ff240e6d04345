"""The lab's map: its regions, the true RTTs between them, and who listens where.

Linux treats all of 127.0.0.0/8 as loopback, so every component gets an address of its own without
root. *Near* addresses are where components really listen; the *far* address of the same component
is the relay's, and is what the others are configured with. The third octet is the region, so the
relay can tell from a connection's source address how far it came.
"""

from __future__ import annotations

import csv
import math
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint, is_id

INTRA_RTT = 0.0005
"""RTT inside a region, s. Source: IBM weekly inter-zone measurements 2023-2026: median 0.1 ms
within a zone and 1.5 ms between the zones of one region; 0.5 lies between."""

MAX_REGIONS = 12
"""Each region costs two processes; more than a dozen do not fit a laptop."""

MAX_RTT = 10.0
"""Largest RTT accepted from a matrix file, s; above it every connect would time out."""

NODE_PORT, PEER_PORT, INSTANCE_PORT, DATABASE_PORT = 8080, 9401, 9000, 5432

PLANS = 20
"""Address plans tried before giving up; each takes two /16 networks of 127.0.0.0/8."""

_KNOWN = {
    "den": ("Denver", (39.74, -104.99)),
    "bom": ("Mumbai", (19.08, 72.88)),
    "fra": ("Frankfurt", (50.11, 8.68)),
}


@dataclass(frozen=True, slots=True)
class RttMatrix:
    """True RTTs, s, for each unordered pair of regions.

    Attributes:
        regions: ids in file order; the first is the demo's edge, the second has the database.
    """

    regions: tuple[str, ...]
    rtts: Mapping[frozenset[str], float]

    def rtt(self, a: str, b: str) -> float:
        """Return the RTT between two regions, s; `INTRA_RTT` inside one."""
        return INTRA_RTT if a == b else self.rtts[frozenset((a, b))]

    def title(self, region: str) -> str:
        """Return what people call the region."""
        return _KNOWN[region][0] if region in _KNOWN else region

    def full_name(self, region: str) -> str:
        """Return the title with the id, such as `Denver (den)`."""
        title = self.title(region)
        return region if title == region else f"{title} ({region})"

    def position(self, region: str) -> tuple[float, float] | None:
        """Return (latitude, longitude) in degrees, or None when not known."""
        return _KNOWN[region][1] if region in _KNOWN else None


def default_matrix() -> RttMatrix:
    """Return the packaged three-region matrix."""
    text = resources.files("onetrip_lab").joinpath("data/rtt_3.csv").read_text("utf-8")
    return parse_matrix(text, "rtt_3.csv")


def parse_matrix(text: str, name: str) -> RttMatrix:
    """Parse a square CSV matrix of milliseconds; first column and header hold the ids.

    Lines that start with `#` are skipped. Ids such as `azure:westindia` become `westindia`.

    Raises:
        ConfigError: names the file, the cell and the limit.
    """
    try:
        rows = [r for r in csv.reader(x for x in text.splitlines() if x and x[0] != "#") if r]
    except csv.Error as error:
        raise ConfigError(f"{name}: not CSV: {error}") from error
    if not rows:
        raise ConfigError(f"{name}: no header line")
    ids = tuple(_region_id(cell, name) for cell in rows[0][1:])
    if not 2 <= len(ids) <= MAX_REGIONS:
        raise ConfigError(f"{name}: {len(ids)} regions, wanted 2 to {MAX_REGIONS}")
    if len(set(ids)) != len(ids):
        raise ConfigError(f"{name}: a region is named twice in the header")
    if len(rows) != len(ids) + 1:
        raise ConfigError(f"{name}: {len(rows) - 1} rows for {len(ids)} columns")
    rtts: dict[frozenset[str], float] = {}
    for region, row in zip(ids, rows[1:], strict=True):
        _read_row(name, ids, region, row, rtts)
    return RttMatrix(ids, rtts)


def _region_id(cell: str, name: str) -> str:
    text = cell.rpartition(":")[2].strip().lower()
    if not is_id(text):
        raise ConfigError(f"{name}: {cell!r} cannot name a region")
    return text


def _read_row(
    name: str,
    ids: tuple[str, ...],
    region: str,
    row: list[str],
    rtts: dict[frozenset[str], float],
) -> None:
    if len(row) != len(ids) + 1 or _region_id(row[0], name) != region:
        raise ConfigError(f"{name}: row {row[0]!r} does not match column {region!r}")
    for other, cell in zip(ids, row[1:], strict=True):
        if other != region:
            # The larger direction wins where a file is not symmetric.
            pair = frozenset((region, other))
            rtts[pair] = max(rtts.get(pair, 0.0), _read_ms(cell, f"{name}: {region} to {other}"))


def _read_ms(cell: str, where: str) -> float:
    try:
        rtt = float(cell) / 1000
    except ValueError:
        raise ConfigError(f"{where}: {cell!r} is no number of ms") from None
    if not math.isfinite(rtt) or not 0 < rtt <= MAX_RTT:
        raise ConfigError(f"{where}: {cell} ms is not above 0 and at most {MAX_RTT * 1000:g}")
    return rtt


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Addresses of every component, from two loopback networks.

    Attributes:
        near: second octet of the addresses components listen on.
        far: second octet of the relay's addresses.
        admin_base: port of the first region's admin API, less one.
    """

    regions: tuple[str, ...]
    near: int = 77
    far: int = 78
    admin_base: int = 9400

    def index(self, region: str) -> int:
        """Return the region's third octet, from 1."""
        return self.regions.index(region) + 1

    def source(self, region: str) -> str:
        """Return the address users and the node of a region connect from."""
        return f"127.{self.near}.{self.index(region)}.1"

    def instance_source(self, region: str) -> str:
        """Return the address the region's instance listens on and connects from."""
        return f"127.{self.near}.{self.index(region)}.10"

    def node(self, region: str) -> Endpoint:
        """Return where the region's node really listens."""
        return Endpoint(self.source(region), NODE_PORT)

    def peer(self, region: str) -> Endpoint:
        """Return where the region's node really answers its peers."""
        return Endpoint(self.source(region), PEER_PORT)

    def instance(self, region: str) -> Endpoint:
        """Return where the region's instance really listens."""
        return Endpoint(self.instance_source(region), INSTANCE_PORT)

    def database(self, region: str) -> Endpoint:
        """Return where a database in `region` really listens."""
        return Endpoint(f"127.{self.near}.{self.index(region)}.50", DATABASE_PORT)

    def admin(self, region: str) -> Endpoint:
        """Return the region's admin API; it is not behind the relay."""
        return Endpoint("127.0.0.1", self.admin_base + self.index(region))

    def far_of(self, endpoint: Endpoint) -> Endpoint:
        """Return the relay's address for a component's real one."""
        _, _, region, host = endpoint.host.split(".")
        return Endpoint(f"127.{self.far}.{region}.{host}", endpoint.port)

    def region_of(self, address: str) -> str | None:
        """Return the region a source address belongs to, or None for a stranger."""
        octets = address.split(".")
        if len(octets) != 4 or octets[:2] != ["127", str(self.near)] or not octets[2].isdigit():
            return None
        index = int(octets[2])
        return self.regions[index - 1] if 1 <= index <= len(self.regions) else None

    def near_endpoints(self, database: str) -> list[Endpoint]:
        """Return every endpoint reached through the relay; the database is in `database`."""
        return [
            endpoint
            for region in self.regions
            for endpoint in (self.node(region), self.peer(region), self.instance(region))
        ] + [self.database(database)]

    def all_endpoints(self, database: str) -> list[Endpoint]:
        """Return every endpoint something of the lab will listen on."""
        near = self.near_endpoints(database)
        return near + [self.far_of(e) for e in near] + [self.admin(r) for r in self.regions]


def free_plan(regions: tuple[str, ...], database: str) -> AddressPlan:
    """Return the first address plan whose addresses are all free now.

    Raises:
        ConfigError: this system has no 127.0.0.0/8, or every plan is taken.
    """
    if not _can_bind(Endpoint("127.77.1.1", 0)):
        raise ConfigError(
            "the lab needs Linux, where every address of 127.0.0.0/8 is loopback: "
            "127.77.1.1 cannot be bound here"
        )
    busy = Endpoint("", 0)
    for number in range(PLANS):
        plan = AddressPlan(regions, 77 + 2 * number, 78 + 2 * number, 9400 + 20 * number)
        taken = _first_busy(plan.all_endpoints(database))
        if taken is None:
            return plan
        busy = taken
    raise ConfigError(f"all {PLANS} address plans of the lab are taken; the last one by {busy}")


def _first_busy(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    return next((e for e in endpoints if not _can_bind(e)), None)


def _can_bind(endpoint: Endpoint) -> bool:
    with socket.socket() as sock:
        # As servers do it: an address whose last connections are in TIME_WAIT is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((endpoint.host, endpoint.port))
            sock.listen(1)
        except OSError:
            return False
    return True
