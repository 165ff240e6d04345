"""What a node needs to order certificates, and what is said while one is being ordered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

ChallengeKind = Literal["http-01", "tls-alpn-01"]
KeyType = Literal["p256", "p384", "rsa2048", "rsa4096"]

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """Ties the account to one that the authority knows already (RFC 8555 section 7.3.4).

    Attributes:
        hmac_key: base64url, as the authority gave it; a secret.
    """

    key_id: str
    hmac_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """How certificates are ordered.

    Attributes:
        directory: the authority's URL.
        email: told to the authority, or None.
        domains: each gets a certificate of its own.
        renew_ratio: a certificate is renewed when this share of its lifetime is left.
        ca_file: who vouches for the authority's own server, or None for the public ones.
        region: whose node orders; the others take part in what it gets.
        left_out: hosts of projects that no certificate can be ordered for.
        follows_hosts: `domains` are the hosts of the projects, whatever they become.
    """

    directory: str
    email: str | None
    domains: tuple[str, ...]
    challenge: ChallengeKind
    key_type: KeyType
    renew_ratio: float
    ca_file: Path | None
    external_account: ExternalAccount | None
    region: str
    left_out: tuple[str, ...] = ()
    follows_hosts: bool = False


@dataclass(frozen=True, slots=True)
class Challenge:
    """A proof that an authority asks for, and its answer.

    Attributes:
        key_authorization: the answer (RFC 8555 section 8.1); public once it is asked for.
    """

    domain: str
    kind: ChallengeKind
    token: str
    key_authorization: str


class Answers(Protocol):
    """Where challenges are answered from."""

    async def put(self, challenge: Challenge) -> None:
        """Return once every place that the authority may ask gives the answer."""

    def take(self, challenge: Challenge) -> None:
        """Stop giving it."""


class Authority(Protocol):
    """Who issues certificates."""

    async def order(self, domain: str, replaced: bytes | None = None) -> bytes:
        """Return a new private key and the chain for it, PEM, in this order.

        Args:
            replaced: the chain that it is to replace; renewals can be exempt from rate limits.

        Raises:
            AcmeError: none was issued.
        """

    async def suggest(self, chain: bytes) -> Suggestion:
        """Ask when a certificate should be renewed (RFC 9773).

        Raises:
            AcmeError: the authority did not say.
        """


@dataclass(frozen=True, slots=True)
class Suggestion:
    """When an authority wants a certificate renewed.

    Attributes:
        renew_at: Unix time, s; None when it has no opinion.
        ask_after: time until it may be asked again, s.
    """

    renew_at: float | None
    ask_after: float
