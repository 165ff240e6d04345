"""TLS contexts: which certificate a client gets, and whom a node believes to be a peer.

What a certificate says is read with the standard library alone: its chain is served to a client
in memory that trusts exactly this certificate, and `getpeercert` then tells names and dates. That
also proves, before anything is applied, that the pair works: dates, usage and key included.

Public side: TLS 1.2 with forward secrecy and AEAD suites only, or TLS 1.3 (RFC 9325 section 4).
Between nodes: TLS 1.3 only, both sides show a certificate of the cluster's own authority, and a
node of region `den` is known by the name `den.onetrip`.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from onetrip.errors import ConfigError
from onetrip.net.names import Names

MAX_PEM_SIZE = 1024 * 1024
"""Bytes of a certificate, key or authority file read at most."""

NODE_DOMAIN = ".onetrip"
"""A node's certificate carries its region's name under this suffix; no public domain ends so."""

MAX_ISSUER_SIZE = 200
"""Characters of an issuer's name that are kept."""

_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MAX_STEPS = 20
"""Turns of the handshake in memory; a real one takes three."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_Context = TypeVar("_Context", bound=ssl.SSLContext)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a served certificate says.

    Attributes:
        file: its path as configured, for people and metrics.
        names: hosts it is used for.
        expires_at: Unix time, s.
        issued_at: Unix time, s; 0 when unknown.
        issuer: who issued it, for people.
        notice: people are told when it has less time left than this, s; None is the usual time.
    """

    file: str
    names: Names
    expires_at: float
    issued_at: float = 0.0
    issuer: str = ""
    notice: float | None = None

    @property
    def lifetime(self) -> float:
        """From issue to end, s."""
        return self.expires_at - self.issued_at


class ServerContext(ssl.SSLContext):
    """A server context that knows its certificate.

    Attributes:
        pem: what it was made of: chain and key; between nodes the authority first.
    """

    certificate: Certificate
    pem: tuple[bytes, ...]


class CertificateSet:
    """The certificates of one listener; immutable, replaced as a whole by a reload.

    Args:
        contexts: the default first. With none at all every handshake is refused.
        awaited: names whose certificate is still to come: their handshakes are refused, because
            the default's certificate would be a wrong one and a self-signed one a bad habit.

    Attributes:
        all: every certificate, the default first.
    """

    def __init__(
        self, contexts: Sequence[ServerContext], awaited: Collection[str] = frozenset()
    ) -> None:
        self.contexts = tuple(contexts)
        self._awaited = frozenset(awaited)
        self._default = contexts[0] if contexts else _server_context(ServerContext, "1.2")
        self._by_name: dict[str, ServerContext] = {}
        for context in contexts:
            for host in context.certificate.names.hosts:
                self._by_name.setdefault(host, context)
        self.all = tuple(context.certificate for context in contexts)
        # Tickets are sealed with the keys of the context a handshake starts with: always starting
        # with this one lets sessions be resumed whichever certificate the name selects.
        self._default.sni_callback = self._on_name

    @property
    def context(self) -> ssl.SSLContext:
        """The context to start a handshake with; the client's server name may switch it."""
        return self._default

    def find(self, name: str | None) -> ServerContext:
        """Return the context for a server name: exact, wildcard, else the default."""
        if name is None:
            return self._default
        name = name.lower().removesuffix(".")
        found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        return found or self._default

    @property
    def is_partial(self) -> bool:
        """Tell whether handshakes are refused for want of a certificate."""
        return not self.contexts or not self._awaited <= self._by_name.keys()

    def refuses(self, name: str | None) -> bool:
        """Tell whether a handshake for `name` is refused."""
        if not self.contexts or name is None:
            return not self.contexts
        name = name.lower().removesuffix(".")
        return name in self._awaited and name not in self._by_name

    def _on_name(self, ssl_object: Any, name: str | None, context: ssl.SSLContext) -> int | None:
        if self.refuses(name):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        found = self.find(name)
        if found is not context:
            ssl_object.context = found
        return None


@dataclass(frozen=True, slots=True)
class PeerContexts:
    """How a node shows itself to the other nodes, and checks them.

    Attributes:
        client: for connections to peers.
        forward: the same for forwarded requests; offers `protocols`, as `server` does.
        server: for connections from peers; requires their certificate.
        protocols: ALPN names, best first.
    """

    client: ssl.SSLContext
    forward: ssl.SSLContext
    server: ServerContext
    protocols: tuple[str, ...]


def node_name(region: str) -> str:
    """Return the name in the certificate of a region's node."""
    return region + NODE_DOMAIN


def peer_regions(ssl_object: Any) -> frozenset[str]:
    """Return the regions that a verified peer's certificate speaks for; none without one."""
    names = _names_of(ssl_object.getpeercert() or {})
    return frozenset(n.removesuffix(NODE_DOMAIN) for n in names if n.endswith(NODE_DOMAIN))


def load_certificate(
    cert: Path,
    key: Path,
    *,
    hosts: Sequence[str] = (),
    min_version: str = "1.2",
    protocols: Sequence[str] = ("http/1.1",),
) -> ServerContext:
    """Read a certificate chain and its key, both PEM, and check that they can be served.

    Args:
        hosts: names to serve it for; by default those in the certificate.
        protocols: ALPN names, best first.

    Raises:
        ConfigError: `cert: ...` or `key: ...`, with file and reason.
    """
    context = _server_context(ServerContext, min_version)
    context.set_alpn_protocols(list(protocols))
    context.pem = _load_pair(context, cert, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate itself is the trust anchor: who issued it is the client's business.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load_authority(client, cert, "cert")
    said = _shake_hands(context, client, None, cert)
    names = tuple(hosts) or tuple(_names_of(said))
    if not names:
        raise ConfigError(f"cert: {cert} names no host; set hosts")
    context.certificate = Certificate(
        str(cert),
        Names(names),
        _instant(said, "notAfter"),
        _instant(said, "notBefore"),
        _issuer(said),
    )
    return context


def load_peer_contexts(
    ca: Path, cert: Path, key: Path, region: str, protocols: Sequence[str] = ("http/1.1",)
) -> PeerContexts:
    """Read what a node needs to talk to its peers; `protocols` are for forwarded requests.

    Raises:
        ConfigError: `ca: ...`, `cert: ...` or `key: ...`; a certificate that the authority did not
            issue, that does not name `region`, or that cannot be used for both sides.
    """
    server = _server_context(ServerContext, "1.3")
    server.num_tickets = 0  # peers keep connections; a ticket would outlive a revoked authority
    client, forward = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    for context in (server, client, forward):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["http/1.1"] if context is client else list(protocols))
        pair = _load_pair(context, cert, key)
        server.pem = (_load_authority(context, ca, "ca"), *pair)
    said = _shake_hands(server, client, node_name(region), cert)
    server.certificate = Certificate(
        str(cert), Names(tuple(_names_of(said))), _instant(said, "notAfter")
    )
    return PeerContexts(client, forward, server, tuple(protocols))


def _server_context(kind: type[_Context], min_version: str) -> _Context:
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[min_version]
    context.set_ciphers(_SUITES)
    # A client could make us compute for ever by renegotiating (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> tuple[bytes, bytes]:
    pair = (
        _read_pem(cert, "cert", b"BEGIN CERTIFICATE"),
        _read_pem(key, "key", b"PRIVATE KEY"),
    )
    try:
        context.load_cert_chain(cert, key, password=_refuse_password)
    except _EncryptedError as error:
        raise ConfigError(f"key: {key} is encrypted, and nobody is there to type") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"key: {key} does not belong to the certificate {cert}") from error
        raise ConfigError(f"cert: {cert} with key {key}: {_reason(error)}") from error
    except OSError as error:  # changed since the check
        raise ConfigError(f"cert: {cert} cannot be read: {error.strerror}") from error
    return pair


def _load_authority(context: ssl.SSLContext, file: Path, key: str) -> bytes:
    data = _read_pem(file, key, b"BEGIN CERTIFICATE")
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{key}: {file}: {_reason(error)}") from error
    return data


def _read_pem(file: Path, key: str, mark: bytes) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_PEM_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{key}: {file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_PEM_SIZE:
        raise ConfigError(f"{key}: {file} exceeds limit of {MAX_PEM_SIZE} bytes")
    if mark not in data:
        raise ConfigError(f"{key}: {file} holds no '{mark.decode()}' line")
    return data


class _EncryptedError(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedError


def _shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, cert: Path
) -> dict[str, Any]:
    """Let both contexts shake hands in memory; return what the server's certificate says.

    Raises:
        ConfigError: they cannot.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(_MAX_STEPS):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise ConfigError(f"cert: {cert}: {_reason(error)}") from error
        if not waiting:
            return dict(ends[0].getpeercert() or {})
    raise ConfigError(f"cert: {cert}: no handshake is possible with it")


def _names_of(said: dict[str, Any]) -> list[str]:
    names = [str(value) for kind, value in said.get("subjectAltName", ()) if kind == "DNS"]
    addresses = [v for kind, v in said.get("subjectAltName", ()) if kind == "IP Address"]
    return list(dict.fromkeys([n.lower() for n in names] + [_address(v) for v in addresses]))


def _address(text: str) -> str:
    # OpenSSL prints IPv6 addresses in long form.
    return str(ipaddress.ip_address(text.strip()))


def _instant(said: dict[str, Any], key: str) -> float:
    return float(ssl.cert_time_to_seconds(said[key]))


def _issuer(said: dict[str, Any]) -> str:
    fields = dict(pair for part in said.get("issuer", ()) for pair in part)
    found = fields.get("commonName") or fields.get("organizationName") or ""
    return str(found)[:MAX_ISSUER_SIZE]


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or type(error).__name__
