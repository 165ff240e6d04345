"""Who may call the admin API: token, host and origin checks, and the headers of every reply.

With a token, a caller must send it, or one made at run time (`control/tokens`). Without one the API
listens on loopback only (the composition root sees to that), and what must be kept out is a web
page in a browser of the same machine: DNS rebinding shows itself in `Host`, cross-site requests in
`Origin` and `Sec-Fetch-Site`. The checks are pure functions of a request's headers; `guard` is the
middleware around them.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from ipaddress import ip_address
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from onetrip.control.problems import RefusedError
from onetrip.control.rates import RateLimit
from onetrip.control.tokens import CONFIG, LOCAL, Caller, Scope, Token
from onetrip.errors import Kind

OPEN_PATHS = ("/", "/healthz")
"""Paths that tell nothing about the cluster: the empty page, and whether the node answers."""

OPEN_PREFIX = "/assets/"

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


_NO_FIELDS: Mapping[str, str] = MappingProxyType({})
_CALLER: ContextVar[Caller] = ContextVar("caller")

FIELDS: ContextVar[Mapping[str, str]] = ContextVar("fields", default=_NO_FIELDS)
"""Fields about the rate limit of the reply that a task makes."""

FindToken = Callable[[str], Awaitable[Token | None]]
"""Returns the token of a text, or None when it is unknown or expired."""


TYPES = ("application/json", "application/gzip")
"""Types of what clients send."""


def guard(token: str | None, find: FindToken, rates: RateLimit | None = None) -> Middleware:
    """Return the middleware that lets only permitted requests through, and tells who called.

    Args:
        token: the configuration's; None permits loopback use only.
        find: finds the tokens that were made at run time.
        rates: how often each caller may call; None for no limit.
    """

    async def admit(request: web.Request) -> None:
        address = f"address {request.remote}"
        try:
            caller = await identify(request.headers, token, find)
        except RefusedError:
            if rates is not None:
                FIELDS.set(rates.take(address))
            raise
        _CALLER.set(caller)
        if rates is not None:
            FIELDS.set(rates.take(address if caller is LOCAL else f"token {caller.name}"))

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        FIELDS.set(_NO_FIELDS)
        if token is None:
            check_host(request.headers, _listen_address(request))
        if request.method not in SAFE_METHODS:
            check_origin(request.headers, request.scheme)
        if not is_open(request.path):
            check_site(request.headers)
            await admit(request)
        return await handler(request)

    return check


def caller() -> Caller:
    """Return who sent the request that this task answers, as the guard found."""
    return _CALLER.get()


async def identify(headers: Mapping[str, str], token: str | None, find: FindToken) -> Caller:
    """Return who sent a request.

    Raises:
        RefusedError: 401, with the challenge of RFC 6750.
    """
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    given = given.strip() if scheme.lower() == "bearer" else ""
    if not given:
        if token is None:
            return LOCAL
        raise RefusedError(401, "a bearer token is required", headers=_challenge())
    if token is not None and hmac.compare_digest(given.encode(errors="replace"), token.encode()):
        return CONFIG
    found = await find(given)
    if found is None:
        raise RefusedError(
            401,
            "the token is not one of this node's, is revoked or has expired",
            headers=_challenge(error="invalid_token"),
        )
    return Caller(found.name, found.scope, found.project)


def check_scope(caller: Caller, needed: Scope) -> None:
    """Refuse what the scope of a caller's token does not permit.

    Raises:
        RefusedError: 403, with the challenge of RFC 6750, section 3.1.
    """
    if not caller.scope.covers(needed):
        raise RefusedError(
            403,
            f"token {caller.name} has scope {caller.scope.value}; {needed.value} is needed",
            headers=_challenge(error="insufficient_scope", scope=needed.value),
        )


def check_project(caller: Caller, project: str | None) -> None:
    """Refuse what is outside the project that a caller's token is for.

    Args:
        project: the one that the request names, or None.

    Raises:
        RefusedError: 403.
    """
    if caller.project and caller.project != project:
        raise RefusedError(
            403,
            f"token {caller.name} is for /v1/projects/{caller.project} only",
            headers=_challenge(error="insufficient_scope"),
        )


def _challenge(**parameters: str) -> dict[str, str]:
    parts = ['realm="onetrip"', *(f'{name}="{text}"' for name, text in parameters.items())]
    return {"WWW-Authenticate": f"Bearer {', '.join(parts)}"}


def is_open(path: str) -> bool:
    """Tell whether a path needs no token: it holds no state of the cluster."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)


def check_host(headers: Mapping[str, str], listen: str) -> None:
    """Refuse names that DNS rebinding could have pointed at us.

    Args:
        listen: address the connection was accepted on.

    Raises:
        RefusedError: 403, the Host is neither loopback nor the listen address.
    """
    host = _host_of(headers.get("Host", ""))
    if host == "localhost" or host.endswith(".localhost"):
        # RFC 6761, section 6.3: always loopback.
        return
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is None or not (address.is_loopback or str(address) == listen):
        raise RefusedError(403, "Host is not a loopback address; set a token to serve other names")


def check_origin(headers: Mapping[str, str], scheme: str) -> None:
    """Refuse a state change that a page of another origin asked for.

    Requests without `Origin` are not from a page. A page of another origin cannot send these types
    without asking first (CORS), which we never grant.

    Raises:
        RefusedError: 403 for another origin, 415 for a body that is not JSON.
    """
    origin = headers.get("Origin")
    if origin is not None and origin.lower() != f"{scheme}://{headers.get('Host', '')}".lower():
        raise RefusedError(403, "Origin is not this API's own")
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in TYPES and (origin is not None or "Content-Type" in headers):
        raise RefusedError(
            415,
            f"content type is {kind[:40]!r}; it must be {TYPES[0]}",
            kind=Kind.UNSUPPORTED,
            field="content-type",
        )


def check_site(headers: Mapping[str, str]) -> None:
    """Refuse what a browser marks as asked for by another site.

    Raises:
        RefusedError: 403. Source: https://www.w3.org/TR/fetch-metadata/
    """
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise RefusedError(403, "requests from other sites are refused")


def _host_of(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.partition(":")[0].rstrip(".").lower()


def _listen_address(request: web.Request) -> str:
    name = request.transport.get_extra_info("sockname") if request.transport else None
    return str(name[0]) if isinstance(name, tuple) else ""
