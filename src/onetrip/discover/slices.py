"""EndpointSlices of one Kubernetes Service as its API tells them: a list, then a watch of changes.

Pure. The watch is a stream of JSON lines; every object carries the version to go on from, and so do
bookmarks, which exist for nothing else. A version that the server has forgotten (410) means to list
again. What is kept is bounded, whatever the server says.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
and https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, TypeVar

import msgspec

from onetrip.discover.book import DiscoveryError
from onetrip.errors import Kind
from onetrip.model.discovery import Source
from onetrip.model.topology import Endpoint

T = TypeVar("T")

MAX_LINE = 4 * 1024 * 1024
"""Longest event, bytes; a slice holds at most 1,000 endpoints, of some 300 bytes each."""

MAX_SLICES = 1000
"""Slices kept of one Service."""


class ExpiredError(DiscoveryError):
    """The server no longer knows the version that was asked for: list again."""


class Metadata(msgspec.Struct):
    """Of an object or a list."""

    name: str = ""
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    next_page: str = msgspec.field(name="continue", default="")


class Conditions(msgspec.Struct):
    """Of an endpoint; what is not told is taken for ready."""

    ready: bool | None = None
    terminating: bool | None = None


class SliceEndpoint(msgspec.Struct):
    """One pod."""

    addresses: list[str] = []
    conditions: Conditions | None = None


class SlicePort(msgspec.Struct):
    """A port that every endpoint of a slice has."""

    name: str | None = None
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    protocol: str | None = None


class EndpointSlice(msgspec.Struct):
    """`discovery.k8s.io/v1` EndpointSlice, as far as it is used."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class SliceList(msgspec.Struct):
    """A page of the list."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    items: list[EndpointSlice] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class SliceBook:
    """The slices of one Service.

    Attributes:
        version: to watch from.
    """

    def __init__(self) -> None:
        self.version = ""
        self._slices: dict[str, EndpointSlice] = {}
        self._listed: dict[str, EndpointSlice] = {}
        self._buffer = b""

    def list_page(self, body: bytes) -> str:
        """Take a page of the list; return how the next one is asked for, "" after the last.

        The list takes effect with its last page.

        Raises:
            DiscoveryError: it is none, or there are too many slices.
        """
        page = _decode(body, SliceList)
        for each in page.items or ():
            self._listed[each.metadata.name] = each
        if len(self._listed) > MAX_SLICES:
            self._listed = {}
            raise DiscoveryError(f"more than {MAX_SLICES} slices")
        if not page.metadata.next_page:
            self._slices, self._listed = self._listed, {}
            self.version = page.metadata.resource_version
        return page.metadata.next_page

    def begin(self) -> None:
        """Forget what is half read: a list or a watch begins."""
        self._listed, self._buffer = {}, b""

    def feed(self, data: bytes) -> bool:
        """Take bytes of the watch; return whether an endpoint may have changed.

        Raises:
            ExpiredError: the version is too old.
            DiscoveryError: it is no watch, or too much of one.
        """
        changed = False
        for line in self._lines(data):
            changed |= self._take(_decode(line, _Event))
        return changed

    def endpoints(self, source: Source) -> list[Endpoint]:
        """Return where the pods are that are ready, on the source\'s port."""
        return [
            Endpoint(address, port)
            for each in self._slices.values()
            for port in _ports(each, source.port)
            for endpoint in each.endpoints or ()
            if _is_ready(endpoint)
            for address in endpoint.addresses[:1]  # the others are the same pod
            if _is_address(address)
        ]

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *whole, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise DiscoveryError(f"event of over {MAX_LINE} bytes exceeds limit")
        return (line for line in whole if line.strip())

    def _take(self, event: _Event) -> bool:
        if event.type == "ERROR":
            status = _decode(bytes(event.object), _Status)
            if status.code == 410:
                raise ExpiredError("version is too old")
            raise DiscoveryError(f"watch failed: {status.code} {status.message[:100]}")
        found = _decode(bytes(event.object), EndpointSlice)
        self.version = found.metadata.resource_version or self.version
        if event.type == "DELETED":
            return self._slices.pop(found.metadata.name, None) is not None
        if event.type not in ("ADDED", "MODIFIED"):  # a bookmark, or what a newer API has
            return False
        if found.metadata.name not in self._slices and len(self._slices) >= MAX_SLICES:
            raise DiscoveryError(f"more than {MAX_SLICES} slices")
        self._slices[found.metadata.name] = found
        return True


def _decode(body: bytes, want: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=want)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryError(f"not an EndpointSlice: {error}", kind=Kind.MALFORMED) from error


def _ports(each: EndpointSlice, wanted: int | str) -> list[int]:
    """Return the ports of a slice that a source means: by name, or as the pods listen."""
    if not each.ports and isinstance(wanted, int):
        return [wanted]  # a headless Service may name none
    found = [p.port for p in each.ports or () if p.port and wanted in (p.name, p.port)]
    return [port for port in found if port is not None][:1]


def _is_ready(endpoint: SliceEndpoint) -> bool:
    conditions = endpoint.conditions
    return conditions is None or (conditions.ready is not False and not conditions.terminating)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
