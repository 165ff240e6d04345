"""Cursors: where a listing goes on, as a text that means nothing to a client.

Listings of routes go on after the last route told, so rows that come or go meanwhile are neither
told twice nor left out. Those that are numbered or ranked go on at a number.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

import msgspec

from onetrip.control.requests import outside
from onetrip.errors import ApiError
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId, is_id

MAX_SIZE = 8_000
"""Characters; a request's target may have 8190."""

RoutePlace = tuple[RouteKey, RegionId, int]
"""A row of a listing of routes: the route, its edge, and a rank among rows of both."""


def number_of(query: Mapping[str, str]) -> int | None:
    """Return the `cursor` parameter of a numbered listing, or None for the first page.

    Raises:
        ApiError: it is not the `next` of an earlier reply.
    """
    text = query.get("cursor")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise _refusal(text)
    return int(text)


def project_of(query: Mapping[str, str]) -> str | None:
    """Return the project that the `cursor` parameter follows, or None for the first page.

    Raises:
        ApiError: it is not the `next` of an earlier reply.
    """
    text = query.get("cursor")
    if text is not None and not is_id(text):
        raise _refusal(text)
    return text


def after_route(place: RoutePlace) -> str:
    """Return the cursor of the page that follows a row."""
    key, edge, rank = place
    where = key.environment
    text = (where.project, where.environment, key.route, key.method.value, edge, rank)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(text)).decode().rstrip("=")


def route_of(query: Mapping[str, str]) -> RoutePlace | None:
    """Return the row that the `cursor` parameter follows, or None for the first page.

    Raises:
        ApiError: it is not the `next` of an earlier reply.
    """
    text = query.get("cursor")
    if text is None:
        return None
    try:
        if len(text) > MAX_SIZE or not text.isascii():
            raise ValueError
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        project, environment, route, method, edge, rank = msgspec.msgpack.decode(
            data, type=tuple[str, str, str, str, str, int]
        )
        key = RouteKey(EnvironmentId(project, environment), route, MethodClass(method))
    except (ValueError, msgspec.DecodeError) as error:
        raise _refusal(text) from error
    return key, RegionId(edge), rank


def _refusal(text: str) -> ApiError:
    return outside("cursor", text, "the next of an earlier reply")
