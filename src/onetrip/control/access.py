"""Bodies of the admin API about tokens and the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from onetrip.control.audit import Change
from onetrip.control.tokens import Scope, Token

MAX_LIFETIME = 10 * 365 * 86_400
"""Longest time until a token expires, s."""

NAME = "^[a-z0-9][a-z0-9-]{0,31}$"
"""What a token can be called."""

_SCOPES = Meta(extra_json_schema={"enum": [scope.value for scope in Scope]})


class TokenOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/tokens`.

    Attributes:
        name: lower-case letters, digits and hyphens.
        scope: what it permits.
        project: the only project it may be used for, or "".
        expires_in: time until it expires, s, at most ten years; null for never.
    """

    name: Annotated[str, Meta(pattern=NAME)]
    scope: Annotated[str, _SCOPES]
    project: Annotated[str, Meta(max_length=64)] = ""
    expires_in: Annotated[float, Meta(gt=0, le=MAX_LIFETIME)] | None = None


class TokenRow(Struct, frozen=True):
    """One token, without its secret. Instants are Unix time, s.

    Attributes:
        project: the only project it may be used for, or "".
        expires_at: null when it does not.
        used_at: last use, to a minute; null before the first.
    """

    name: str
    scope: str
    project: str
    created_at: float
    expires_at: float | None
    used_at: float | None


class TokensBody(Struct, frozen=True):
    """`GET /v1/tokens`."""

    tokens: list[TokenRow]


class NewTokenBody(Struct, frozen=True):
    """A token that was made.

    Attributes:
        secret: what to send as bearer token; it is told here, and never again.
    """

    secret: str
    token: TokenRow


class ChangeRow(Struct, frozen=True):
    """One change that was made.

    Attributes:
        at: Unix time, s.
        caller: name of the token; "config" for the configuration's, "local" without one.
        address: IP address the request came from.
        request_id: as in the reply's X-Request-Id.
        operation: what was done, by its operationId.
        subject: the project, token or region it was done to.
        before, after: what a read would have told, or null.
    """

    at: float
    caller: str
    address: str
    request_id: str
    operation: str
    subject: str
    before: Any
    after: Any


class AuditBody(Struct, frozen=True):
    """`GET /v1/audit`, newest first.

    Attributes:
        next: `cursor` of the next page, null on the last one.
    """

    changes: list[ChangeRow]
    next: str | None


def token_row(token: Token) -> TokenRow:
    """Describe a token."""
    return TokenRow(
        name=token.name,
        scope=token.scope.value,
        project=token.project,
        created_at=token.created_at,
        expires_at=token.expires_at,
        used_at=token.used_at,
    )


def change_row(change: Change) -> ChangeRow:
    """Describe a change."""
    return ChangeRow(
        at=change.at,
        caller=change.caller,
        address=change.address,
        request_id=change.request_id,
        operation=change.operation,
        subject=change.subject,
        before=change.before,
        after=change.after,
    )
