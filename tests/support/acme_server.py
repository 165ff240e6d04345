"""A small, strict ACME server (RFC 8555, RFC 9773) that can be told to fail.

It believes nothing: every request is checked for its nonce, URL, signature and account; a
challenge is validated by a real connection to the client's own port; what it issues is signed by a
test authority. It stands beside Pebble in the tests because Pebble neither fails on demand nor
has rate limits, and is not installed everywhere.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import secrets
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.acme_checks import (
    ProblemError,
    check_http,
    check_tls,
    decode64,
    encode64,
    thumbprint,
    verify_binding,
    verify_es256,
)
from support.certs import Authority
from support.waits import eventually


@dataclass(slots=True)
class Order:
    """One order, its only authorization and what came of it."""

    account: str
    domain: str
    token: str
    status: str = "pending"
    proof: str = "pending"
    problem: dict[str, str] | None = None
    chain: str = ""
    replaces: str | None = None


@dataclass(slots=True)
class AcmeServer:
    """The server's state, and how it is to behave.

    Attributes:
        http_port, tls_port: where domains are validated.
        lifetime: of what it issues, s.
        accounts_required: HMAC keys by id, one of which a new account has to show.
        offered: kinds of challenge.
        is_credulous: whether a domain is believed without a look at it.
        patience: reads of an authorization and of an order that say "not yet".
        pace: `Retry-After` of these.
        window: what to say when asked about renewal, Unix times, or None not to offer that.
        seen: steps of the protocol that were asked for, in order.
    """

    folder: Path
    http_port: int
    tls_port: int
    lifetime: float = 90 * 86400.0
    accounts_required: dict[str, str] | None = None
    offered: tuple[str, ...] = ("dns-01", "http-01", "tls-alpn-01")
    is_credulous: bool = False
    patience: int = 0
    pace: str = "0"
    window: tuple[float, float] | None = None
    base: str = ""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _nonces: set[str] = field(default_factory=set)
    _faults: dict[str, deque[Any]] = field(default_factory=lambda: defaultdict(deque))
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def fail(self, step: str, *faults: Any) -> None:
        """Answer the next requests of a step with a `ProblemError`, or a whole reply."""
        self._faults[step].extend(faults)

    @property
    def directory(self) -> str:
        """Its URL."""
        return f"{self.base}/directory"

    @property
    def root(self) -> x509.Certificate:
        """Return the authority's certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Strict test authority")])
        start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        public = self._key.public_key()
        return (
            x509.CertificateBuilder(name, name, public, 1, start, start.replace(year=2060))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def root_pem(self) -> str:
        """Return the authority's certificate, PEM."""
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    # --- HTTP -------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """Return the server as an application."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/directory", self.on_directory),
                web.head("/nonce", self.on_nonce),
                web.post("/account", self.on_account),
                web.post("/order", self.on_order),
                web.post("/order/{id}", self.on_order_read),
                web.post("/authorization/{id}", self.on_authorization),
                web.post("/challenge/{id}/{kind}", self.on_challenge),
                web.post("/finalize/{id}", self.on_finalize),
                web.post("/certificate/{id}", self.on_certificate),
                web.get("/renewal/{id}", self.on_renewal),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        step = request.path.split("/")[1]
        self.seen.append(step)
        try:
            if self._faults[step]:
                fault = self._faults[step].popleft()
                if isinstance(fault, ProblemError):
                    raise fault
                reply: web.StreamResponse = fault
            else:
                reply = await handler(request)
        except ProblemError as error:
            reply = web.json_response(
                error.json(), status=error.status, content_type="application/problem+json"
            )
            if error.retry_after is not None:
                reply.headers["Retry-After"] = error.retry_after
        if request.method != "GET":
            reply.headers["Replay-Nonce"] = self._nonce()
        return reply

    def _nonce(self) -> str:
        nonce = secrets.token_urlsafe(16)
        self._nonces.add(nonce)
        return nonce

    async def _read(self, request: web.Request, *, is_new: bool = False) -> tuple[str, Any]:
        """Check a signed request; return its account and payload, None for POST-as-GET."""
        if request.content_type != "application/jose+json":
            raise ProblemError("malformed", "content type", status=415)
        body = await request.json()
        head = json.loads(decode64(body["protected"]))
        if head.get("alg") != "ES256":
            raise ProblemError("badSignatureAlgorithm")
        if head.get("url") != f"{self.base}{request.path}":
            raise ProblemError("unauthorized", "signed for another URL", status=403)
        if head.get("nonce") not in self._nonces:
            raise ProblemError("badNonce")
        self._nonces.discard(head["nonce"])
        if ("jwk" in head) is ("kid" in head) or ("jwk" in head) is not is_new:
            raise ProblemError("malformed", "jwk for a new account, kid for all else")
        if is_new:
            account, jwk = thumbprint(head["jwk"]), head["jwk"]
            verify_es256(jwk, body)
            return account, json.loads(decode64(body["payload"])) | {"jwk": jwk}
        account = head["kid"].removeprefix(f"{self.base}/account/")
        if account not in self.accounts:
            raise ProblemError("accountDoesNotExist")
        verify_es256(self.accounts[account]["jwk"], body)
        return account, json.loads(decode64(body["payload"])) if body["payload"] else None

    # --- steps ------------------------------------------------------------------------------

    async def on_directory(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.1.1."""
        found: dict[str, Any] = {
            "newNonce": f"{self.base}/nonce",
            "newAccount": f"{self.base}/account",
            "newOrder": f"{self.base}/order",
            "meta": {"externalAccountRequired": self.accounts_required is not None},
        }
        if self.window is not None:
            found["renewalInfo"] = f"{self.base}/renewal"
        return web.json_response(found)

    async def on_nonce(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.2."""
        return web.Response(headers={"Cache-Control": "no-store"})

    async def on_account(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.3."""
        account, wanted = await self._read(request, is_new=True)
        is_known = account in self.accounts
        if not is_known:
            if wanted.get("termsOfServiceAgreed") is not True:
                raise ProblemError("userActionRequired", status=403)
            if self.accounts_required is not None:
                binding = wanted.get("externalAccountBinding")
                url = f"{self.base}/account"
                verify_binding(binding, self.accounts_required, wanted["jwk"], url)
            self.accounts[account] = wanted
        body = {"status": "valid", "contact": self.accounts[account].get("contact", [])}
        place = {"Location": f"{self.base}/account/{account}"}
        return web.json_response(body, status=200 if is_known else 201, headers=place)

    async def on_order(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.4."""
        account, wanted = await self._read(request)
        [identifier] = wanted["identifiers"]
        if identifier["type"] != "dns":
            raise ProblemError("unsupportedIdentifier")
        order = Order(account, identifier["value"], secrets.token_urlsafe(24))
        order.replaces = wanted.get("replaces")
        if order.replaces is not None:
            self._check_replaced(order)
        self.orders.append(order)
        place = {"Location": f"{self.base}/order/{len(self.orders) - 1}"}
        return web.json_response(self._order_body(order), status=201, headers=place)

    async def on_order_read(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.4."""
        order, payload = await self._find(request)
        assert payload is None
        return web.json_response(self._order_body(order))

    async def on_authorization(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.5."""
        order, payload = await self._find(request)
        assert payload is None
        number = self.orders.index(order)
        found = [self._challenge_body(order, number, kind) for kind in self.offered]
        is_late = self._is_late() and order.proof == "valid"
        body = {
            "identifier": {"type": "dns", "value": order.domain},
            "status": "pending" if is_late else order.proof,
            "challenges": found,
        }
        return web.json_response(body, headers={"Retry-After": self.pace} if is_late else {})

    def _check_replaced(self, order: Order) -> None:
        """RFC 9773 section 5: known, of this account and name, and not replaced before."""
        if self.window is None:
            raise ProblemError("malformed", "replaces without renewal information")
        known = [each for each in self.orders if each.chain and id_of(each) == order.replaces]
        if not known or (known[0].account, known[0].domain) != (order.account, order.domain):
            raise ProblemError("malformed", "replaces nothing that you have")
        if any(each.replaces == order.replaces for each in self.orders):
            raise ProblemError("alreadyReplaced", status=409)

    def _is_late(self) -> bool:
        self.patience -= 1
        return self.patience >= 0

    async def on_challenge(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.5.1; validates before it answers."""
        order, payload = await self._find(request)
        if payload != {}:
            raise ProblemError("malformed", "an empty object starts a challenge")
        kind = request.match_info["kind"]
        expected = f"{order.token}.{order.account}"
        try:
            if self.is_credulous:
                pass
            elif kind == "http-01":
                await check_http(order.domain, self.http_port, order.token, expected)
            else:
                await check_tls(order.domain, self.tls_port, expected)
            order.proof, order.status = "valid", "ready"
        except ProblemError as error:
            order.proof, order.status, order.problem = "invalid", "invalid", error.json()
        number = self.orders.index(order)
        return web.json_response(self._challenge_body(order, number, kind))

    async def on_finalize(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.4; the order is `processing` until it is read again."""
        order, payload = await self._find(request)
        if order.status != "ready":
            raise ProblemError("orderNotReady", status=403)
        csr = x509.load_der_x509_csr(decode64(payload["csr"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if list(names) != [x509.DNSName(order.domain)] or not csr.is_signature_valid:
            raise ProblemError("badCSR")
        order.chain = self._issue(csr, order.domain)
        body = self._order_body(order) | {"status": "processing"}
        order.status = "valid"
        return web.json_response(body)

    async def on_certificate(self, request: web.Request) -> web.Response:
        """RFC 8555 section 7.4.2."""
        order, payload = await self._find(request)
        assert payload is None
        return web.Response(text=order.chain, content_type="application/pem-certificate-chain")

    async def on_renewal(self, request: web.Request) -> web.Response:
        """RFC 9773 section 4.2."""
        assert self.window is not None
        start, end = (dt.datetime.fromtimestamp(at, dt.UTC) for at in self.window)
        times = {"start": start.isoformat(), "end": end.isoformat()}
        return web.json_response({"suggestedWindow": times}, headers={"Retry-After": "3600"})

    # --- parts ------------------------------------------------------------------------------

    async def _find(self, request: web.Request) -> tuple[Order, Any]:
        account, payload = await self._read(request)
        order = self.orders[int(request.match_info["id"])]
        if order.account != account:
            raise ProblemError("unauthorized", status=403)
        return order, payload

    def _order_body(self, order: Order) -> dict[str, Any]:
        number = self.orders.index(order)
        body: dict[str, Any] = {
            "status": order.status,
            "identifiers": [{"type": "dns", "value": order.domain}],
            "authorizations": [f"{self.base}/authorization/{number}"],
            "finalize": f"{self.base}/finalize/{number}",
        }
        if order.chain:
            body["certificate"] = f"{self.base}/certificate/{number}"
        return body

    def _challenge_body(self, order: Order, number: int, kind: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": kind,
            "url": f"{self.base}/challenge/{number}/{kind}",
            "token": order.token,
            "status": order.proof,
        }
        return body if order.problem is None else body | {"error": order.problem}

    def _issue(self, csr: x509.CertificateSigningRequest, domain: str) -> str:
        root = self.root
        start = dt.datetime.now(dt.UTC)
        end = start + dt.timedelta(seconds=self.lifetime)
        serial = x509.random_serial_number()
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        leaf = (
            x509.CertificateBuilder(root.subject, csr.subject, csr.public_key(), serial, start, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=True)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return "".join(
            each.public_bytes(serialization.Encoding.PEM).decode() for each in (leaf, root)
        )


def id_of(order: Order) -> str:
    """Return how the certificate of an order is called (RFC 9773 section 4.1)."""
    leaf = x509.load_pem_x509_certificate(order.chain.encode())
    found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert found.value.key_identifier is not None
    text = f"{leaf.serial_number:x}"
    text = text.zfill(len(text) + len(text) % 2)
    serial = bytes.fromhex("00" * (text[0] in "89abcdef") + text)
    return f"{encode64(found.value.key_identifier)}.{encode64(serial)}"


@contextlib.asynccontextmanager
async def running_acme(
    folder: Path, http_port: int, tls_port: int, **more: Any
) -> AsyncIterator[AcmeServer]:
    """Run the server over TLS on loopback; `ca.pem` in `folder` vouches for it."""
    authority = Authority(folder, "ca")
    pair = authority.issue("acme", "127.0.0.1")
    server = AcmeServer(folder, http_port, tls_port, **more)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.base = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        # A stopped node leaves its last exchange to a thread, whose connection may be half made.
        await eventually(lambda: all(t.name != "acme" for t in threading.enumerate()))
        await runner.cleanup()
