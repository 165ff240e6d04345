"""Refusals as replies: one table from kinds to status codes, and RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from onetrip.control.schemas import ProblemBody
from onetrip.errors import ApiError, Kind, OnetripError

STATUS_OF = {
    Kind.INVALID: 400,
    Kind.MALFORMED: 400,
    Kind.DENIED: 403,
    Kind.NOT_FOUND: 404,
    Kind.TIMEOUT: 408,
    Kind.CONFLICT: 409,
    Kind.BODY_TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.CONFIG: 422,
    Kind.OVERLOADED: 503,
    Kind.UNAVAILABLE: 503,
}
"""Status code of each kind; any other kind is our own fault (500)."""

_KIND_OF = {400: Kind.INVALID, 404: Kind.NOT_FOUND, 413: Kind.BODY_TOO_LARGE}


class RefusedError(ApiError):
    """A refusal whose status code the kind alone does not tell (401, 412).

    Attributes:
        status: status code.
        headers: headers the status code asks for.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: Kind = Kind.DENIED,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, kind=kind)
        self.status = status
        self.headers = dict(headers or {})


def problem_of(error: BaseException) -> web.Response:
    """Return the reply for a failure; an unexpected one tells nothing but that it happened."""
    if isinstance(error, web.HTTPException):
        return _from_aiohttp(error)
    if not isinstance(error, OnetripError):
        return problem(500, "the node failed to answer; its log says why", kind="internal")
    headers = error.headers if isinstance(error, RefusedError) else None
    status = error.status if isinstance(error, RefusedError) else STATUS_OF.get(error.kind, 500)
    field = error.field if isinstance(error, ApiError) else ""
    return problem(status, str(error), kind=error.kind.value, field=field, headers=headers)


def problem(
    status: int,
    detail: str,
    *,
    kind: str,
    field: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a problem document.

    Source: RFC 9457; `about:blank` means that the title is the status code's own.
    """
    title = HTTPStatus(status).phrase
    body = ProblemBody("about:blank", title, status, detail, kind, field)
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/problem+json",
        headers=headers,
    )


def _from_aiohttp(error: web.HTTPException) -> web.Response:
    headers, detail = {}, error.reason
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        detail = f"{error.method} is not allowed here; allowed: {headers['Allow']}"
    elif isinstance(error, web.HTTPNotFound):
        detail = "no such address; the API is below /v1/"
    kind = _KIND_OF.get(error.status, Kind.INVALID)
    return problem(error.status, detail, kind=kind.value, headers=headers)
