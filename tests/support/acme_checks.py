"""What an ACME authority does to believe a client: signatures, and looks at the domain itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from support.waits import BOUND

IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


class ProblemError(Exception):
    """A refusal: an ACME error code, its status and what the client should do."""

    def __init__(
        self, code: str, detail: str = "", *, status: int = 400, retry_after: str | None = None
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.retry_after = retry_after

    def json(self) -> dict[str, str]:
        """Return the problem document (RFC 7807)."""
        return {"type": f"urn:ietf:params:acme:error:{self.code}", "detail": self.detail}


def decode64(text: str) -> bytes:
    """Return the bytes of base64url without padding, which must not have any."""
    if "=" in text or "+" in text or "/" in text:
        raise ProblemError("malformed", "not base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def thumbprint(jwk: dict[str, Any]) -> str:
    """Return a key's thumbprint (RFC 7638)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return encode64(hashlib.sha256(text.encode()).digest())


def verify_es256(jwk: dict[str, Any], body: dict[str, str]) -> None:
    """Check a flattened JWS made with a P-256 key (RFC 7518 section 3.4)."""
    x, y = (int.from_bytes(decode64(jwk[name]), "big") for name in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    signature = decode64(body["signature"])
    if len(signature) != 64:
        raise ProblemError("malformed", "signature is not 64 bytes")
    halves = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    signed = f"{body['protected']}.{body['payload']}".encode()
    try:
        key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ProblemError("malformed", "signature does not verify") from None


def verify_binding(binding: Any, accounts: dict[str, str], jwk: dict[str, Any], url: str) -> None:
    """Check an external account binding (RFC 8555 section 7.3.4)."""
    if not isinstance(binding, dict):
        raise ProblemError("externalAccountRequired", status=403)
    head = json.loads(decode64(binding["protected"]))
    secret = accounts.get(head.get("kid", ""))
    if secret is None or head.get("url") != url or head.get("alg") != "HS256":
        raise ProblemError("unauthorized", "unknown external account", status=403)
    if json.loads(decode64(binding["payload"])) != jwk:
        raise ProblemError("malformed", "binding is for another key")
    mac = hmac.HMAC(decode64(secret), hashes.SHA256())
    mac.update(f"{binding['protected']}.{binding['payload']}".encode())
    try:
        mac.verify(decode64(binding["signature"]))
    except InvalidSignature:
        raise ProblemError("unauthorized", "binding does not verify", status=403) from None


async def check_http(domain: str, port: int, token: str, expected: str) -> None:
    """Fetch the answer over HTTP as RFC 8555 section 8.3 says, without following redirects."""
    url = f"http://127.0.0.1:{port}/.well-known/acme-challenge/{token}"
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers={"Host": domain}, allow_redirects=False) as reply,
        ):
            text = await reply.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProblemError("connection", f"{url}: {type(error).__name__}") from error
    if reply.status != 200:
        raise ProblemError("unauthorized", f"{url} answered {reply.status}", status=403)
    if text.strip() != expected:
        raise ProblemError("unauthorized", "the key authorization is another one", status=403)


async def check_tls(domain: str, port: int, expected: str) -> None:
    """Shake hands and look at the certificate as RFC 8737 section 3 says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    try:
        async with asyncio.timeout(BOUND):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=domain
            )
    except (OSError, TimeoutError) as error:
        raise ProblemError("connection", f"handshake: {type(error).__name__}") from error
    tls = writer.get_extra_info("ssl_object")
    chosen, der = tls.selected_alpn_protocol(), tls.getpeercert(binary_form=True)
    writer.close()
    if chosen != "acme-tls/1":
        raise ProblemError("unauthorized", f"protocol is {chosen}", status=403)
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if list(names) != [x509.DNSName(domain)]:
        raise ProblemError("unauthorized", "certificate names something else", status=403)
    proof = certificate.extensions.get_extension_for_oid(IDENTIFIER)
    digest = b"\x04\x20" + hashlib.sha256(expected.encode()).digest()
    value = proof.value
    if not proof.critical or not isinstance(value, x509.UnrecognizedExtension):
        raise ProblemError("unauthorized", "acmeIdentifier is not critical", status=403)
    if value.value != digest:
        raise ProblemError("unauthorized", "acmeIdentifier is another one", status=403)
