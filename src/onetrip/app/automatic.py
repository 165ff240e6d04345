"""`tls.acme` as configured: which domains get certificates, from whom; checked before use."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from onetrip.acme.settings import AcmeSettings, ExternalAccount
from onetrip.app.schema import AcmeEntry, ExternalAccountEntry, File
from onetrip.app.security import read_secret
from onetrip.errors import ConfigError
from onetrip.model.catalog import Catalog
from onetrip.model.topology import is_public_name
from onetrip.net.names import Names
from onetrip.net.tls import CertificateSet

MAX_DOMAINS = 1000
"""Names with a certificate of their own at one node."""


def build_acme(
    file: File, folder: Path, catalog: Catalog, files: CertificateSet | None, region: str
) -> AcmeSettings | None:
    """Return how certificates are ordered; None without `tls.acme`.

    Args:
        folder: what relative paths are relative to.
        files: the certificates of `tls.certificates`: no others are ordered for their names.
        region: the node's own.

    Raises:
        ConfigError: `KEY: reason`.
    """
    entry = file.tls.acme
    if entry is None:
        return None
    if find_spec("acme") is None:
        raise ConfigError("tls.acme: needs the package acme; install onetrip[acme]")
    if not entry.agree_to_terms:
        raise ConfigError(
            "tls.acme.agree_to_terms: must be true: orders need consent to the authority's terms"
        )
    if file.data_dir is None:
        raise ConfigError("tls.acme: needs data_dir, or every restart would order anew")
    configured = Names([n for c in files.all for n in c.names.hosts] if files is not None else [])
    hosts = _hosts(catalog)
    domains = _domains(entry, hosts, configured)
    return AcmeSettings(
        directory=entry.directory,
        email=entry.email,
        domains=domains,
        challenge=entry.challenge,
        key_type=entry.key_type,
        renew_ratio=entry.renew_before,
        ca_file=_authority_file(entry.ca_file, folder),
        external_account=_external_account(entry.eab, folder),
        region=_ordering_region(entry, file, region),
        left_out=tuple(h for h in hosts if h not in domains and not configured.cover(h)),
        follows_hosts=entry.domains is None,
    )


def follow_hosts(
    acme: AcmeSettings, files: CertificateSet | None, catalog: Catalog
) -> AcmeSettings:
    """Return settings that order certificates for the hosts of `catalog`, if they follow hosts.

    The names of single deployments and branches get none: authorities limit how many certificates
    they issue for a domain, and one for `*.<project>.<domain>` does for all.

    Args:
        files: the certificates of `tls.certificates`: no others are ordered for their names.
    """
    if not acme.follows_hosts:
        return acme
    configured = Names([n for c in files.all for n in c.names.hosts] if files is not None else [])
    hosts = _hosts(catalog)
    found = [h for h in hosts if is_public_name(h) and not configured.cover(h)]
    domains = tuple(dict.fromkeys(found))[:MAX_DOMAINS]
    left_out = tuple(h for h in hosts if h not in domains and not configured.cover(h))
    return replace(acme, domains=domains, left_out=left_out)


def _hosts(catalog: Catalog) -> list[str]:
    return [host for environment in catalog.environments() for host in environment.hosts]


def _ordering_region(entry: AcmeEntry, file: File, own: str) -> str:
    """Return whose node orders for the cluster."""
    if entry.region is not None and entry.region not in file.regions:
        raise ConfigError(f"tls.acme.region: {entry.region!r} is not one of the regions")
    if len(file.regions) == 1:
        return own
    if entry.region is None:
        raise ConfigError("tls.acme.region: required with several regions: whose node orders")
    if file.cluster.tls is None:
        raise ConfigError("tls.acme: needs cluster.tls with several regions: keys travel there")
    if file.regions[entry.region].peer is None and file.cluster.nats is None:
        raise ConfigError(
            f"tls.acme.region: needs regions.{entry.region}.peer or cluster.nats, for the others"
        )
    return entry.region


def _domains(entry: AcmeEntry, hosts: list[str], configured: Names) -> tuple[str, ...]:
    if entry.domains is None:
        found = [h for h in hosts if is_public_name(h) and not configured.cover(h)]
    else:
        found = [d.lower().rstrip(".") for d in entry.domains]
        for number, domain in enumerate(found):
            _check_domain(domain, f"tls.acme.domains[{number}]", entry.challenge, configured)
    domains = tuple(dict.fromkeys(found))
    if len(domains) > MAX_DOMAINS:
        raise ConfigError(f"tls.acme.domains: {len(domains)} domains exceed limit of {MAX_DOMAINS}")
    return domains


def _check_domain(domain: str, key: str, challenge: str, configured: Names) -> None:
    if not is_public_name(domain):
        raise ConfigError(
            f"{key}: {domain!r} is not a public host name; "
            f"{challenge} proves neither wildcards nor addresses"
        )
    if configured.cover(domain):
        raise ConfigError(f"{key}: {domain!r} has a certificate in tls.certificates")


def _authority_file(text: str | None, folder: Path) -> Path | None:
    if text is None:
        return None
    path = folder / text
    try:
        has_mark = b"BEGIN CERTIFICATE" in path.read_bytes()
    except OSError as error:
        raise ConfigError(f"tls.acme.ca_file: {path} cannot be read: {error.strerror}") from error
    if not has_mark:
        raise ConfigError(f"tls.acme.ca_file: {path} holds no 'BEGIN CERTIFICATE' line")
    return path


def _external_account(entry: ExternalAccountEntry | None, folder: Path) -> ExternalAccount | None:
    if entry is None:
        return None
    key = read_secret(folder, entry.hmac_file, entry.hmac_env, "tls.acme.eab.hmac")
    if key is None:
        raise ConfigError("tls.acme.eab: hmac_file or hmac_env is required")
    try:
        base64.b64decode(key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4), "-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError("tls.acme.eab.hmac: is not base64url") from error
    return ExternalAccount(entry.kid, key.rstrip("="))
