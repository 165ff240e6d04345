"""Private keys, certificate requests, and what an issued chain has to look like.

Needs the package `cryptography`, part of the extra `acme`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from base64 import urlsafe_b64encode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from onetrip.acme.settings import Challenge, KeyType
from onetrip.errors import AcmeError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MAX_CHAIN_SIZE = 128 * 1024
"""Bytes of an issued chain; real ones have under 10 kB."""

CHALLENGE_LIFETIME = dt.timedelta(days=7)
"""A validation's certificate says so; it is thrown away after minutes."""

_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""id-pe-acmeIdentifier (RFC 8737 section 6.1)."""

_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}
_SIZES = {"rsa2048": 2048, "rsa4096": 4096}


def new_key(kind: KeyType = "p256") -> PrivateKey:
    """Return a new private key."""
    if kind in _SIZES:
        return rsa.generate_private_key(public_exponent=65537, key_size=_SIZES[kind])
    return ec.generate_private_key(_CURVES[kind])


def encode_key(key: PrivateKey) -> bytes:
    """Return a key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def decode_account_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return an account's key.

    Raises:
        AcmeError: it is none that this program writes. The message holds nothing of it.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise AcmeError("the account's key file holds no key", reason="storage") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AcmeError("the account's key is not an elliptic one", reason="storage")
    return key


def make_request(key: PrivateKey, domain: str) -> bytes:
    """Return a certificate request for one name, PEM."""
    names = x509.SubjectAlternativeName([x509.DNSName(domain)])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(
        names, critical=False
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_chain(chain: bytes, key: PrivateKey, domain: str) -> bytes:
    """Return an issued chain as PEM of certificates and nothing else.

    Raises:
        AcmeError: it is not for this key and name.
    """
    if len(chain) > MAX_CHAIN_SIZE:
        raise _unusable(f"has {len(chain)} bytes, limit is {MAX_CHAIN_SIZE}")
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        names = _names_of(certificates[0])
    except (ValueError, IndexError, x509.ExtensionNotFound) as error:
        raise _unusable("cannot be read") from error
    if certificates[0].public_key() != key.public_key():
        raise _unusable("is for another key")
    if domain not in names:
        raise _unusable(f"is not for {domain}")
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def make_proof(challenge: Challenge, now: float) -> bytes:
    """Return a key and the certificate that answers a TLS-ALPN-01 challenge, PEM.

    Args:
        now: Unix time, s.
    """
    key = new_key()
    digest = hashlib.sha256(challenge.key_authorization.encode()).digest()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    start = dt.datetime.fromtimestamp(now, dt.UTC) - dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + CHALLENGE_LIFETIME)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(challenge.domain)]), critical=False
        )
        # The value is a DER octet string of 32 bytes.
        .add_extension(x509.UnrecognizedExtension(_IDENTIFIER, b"\x04\x20" + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return encode_key(key) + certificate.public_bytes(serialization.Encoding.PEM)


def renewal_id(pair: bytes) -> str | None:
    """Return how an authority calls the first certificate of a PEM text (RFC 9773 section 4.1).

    None when it cannot be told: the text holds none, or one without an issuer's key identifier.
    """
    try:
        certificate = x509.load_pem_x509_certificates(pair)[0]
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (ValueError, IndexError, x509.ExtensionNotFound):
        return None
    key, serial = found.value.key_identifier, certificate.serial_number
    if key is None:
        return None
    # As in DER: big-endian with room for the sign bit.
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in (key, number))


def _names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [name.lower() for name in found.value.get_values_for_type(x509.DNSName)]


def _unusable(text: str) -> AcmeError:
    return AcmeError(f"the issued chain {text}", reason="malformed")
