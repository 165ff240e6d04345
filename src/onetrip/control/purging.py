"""Purging: what a client may ask to be forgotten, and the reply."""

from __future__ import annotations

import re

from msgspec import Struct

from onetrip.control.requests import parse
from onetrip.errors import ApiError
from onetrip.model.edge import Purge
from onetrip.model.topology import RegionId

MAX_URL = 8192
"""Bytes of a URL; more than the longest request target that is accepted by default."""

_URL = re.compile(r"(?i:(https?)://([!-.0-~]+))((?:/[!-~]*)?)")


class PurgeOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/projects/{name}/purge`: one URL, all that begin with one, or everything."""

    url: str | None = None
    prefix: str | None = None


class PurgeBody(Struct, frozen=True):
    """What was forgotten, by which node."""

    region: RegionId
    purged: int


def purge_of(body: bytes, project: str) -> Purge:
    """Return what a request body asks to be forgotten.

    Raises:
        ApiError: both members, or something that is no URL.
    """
    order = parse(body or b"{}", PurgeOrder)
    if order.url is not None and order.prefix is not None:
        raise ApiError("either url or prefix, not both", field="prefix")
    if order.url is not None:
        return _covering(project, order.url, "url", is_prefix=False)
    if order.prefix is not None:
        return _covering(project, order.prefix, "prefix", is_prefix=True)
    return Purge(project)


def _covering(project: str, url: str, field: str, *, is_prefix: bool) -> Purge:
    if len(url) > MAX_URL:
        raise ApiError(f"{field} of {len(url)} bytes exceeds limit of {MAX_URL}", field=field)
    match = _URL.fullmatch(url)
    if match is None:
        raise ApiError(f"{field} {url[:40]!r} is not http(s)://host/path", field=field)
    scheme, authority, target = (part.encode() for part in match.groups())
    return Purge(project, scheme.lower(), authority.lower(), target or b"/", is_prefix)
