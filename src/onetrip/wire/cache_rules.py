"""What a shared cache may keep, for how long, for whom, and when it has to ask again.

Pure: a response is judged when its head has arrived, and a stored one when a request comes; who
calls tells the time. Where RFC 9111 leaves a choice, the careful one is taken: nothing is kept
that does not say for how long, nothing stale is used that the response itself does not allow.

Source: RFC 9111 (section numbers beside the rules), RFC 5861 (stale-while-revalidate and
stale-if-error).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from onetrip.wire.cache_control import Directives, parse_directives
from onetrip.wire.conditional import Validators, is_entity_tag, same_weakly
from onetrip.wire.http1 import Fields, split_list
from onetrip.wire.http_date import format_date, parse_date

KEPT_STATUSES = frozenset((200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501))
"""Final status codes whose meaning for a cache is known (section 3); 206 is not combined."""

HEURISTIC_STATUSES = KEPT_STATUSES - {302, 307}
"""Those that may be kept without explicit freshness (RFC 9110 section 15.1)."""

ERRORS = frozenset((500, 502, 503, 504))
"""What stale-if-error is about (RFC 5861 section 4)."""

MAX_HEURISTIC = 86400.0
"""Longest heuristic freshness, s (section 4.2.2 suggests a day at most without a warning)."""

MAX_VARY = 8
"""Fields a response may vary on; more make every request its own variant."""

BYPASSING = frozenset(
    b"if-match if-unmodified-since x-http-method-override x-http-method x-method-override "
    b"x-original-url x-rewrite-url upgrade".split()
)
"""Request fields past which nothing is looked up or kept. The first two are for the origin only
(section 4.3.2); the others make some applications answer another request than the key names,
and a cache that kept that would hand it to everybody."""

_AGE = re.compile(rb"[0-9]+")
_FROZEN = frozenset(b"content-length content-encoding content-range transfer-encoding".split())


class Use(Enum):
    """What may be done with a stored response for one request."""

    FRESH = "fresh"
    REVALIDATE_LATER = "revalidate_later"
    """Send it, although stale, and ask in the background."""
    VALIDATE = "validate"
    """Ask before it is used."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a project decides.

    Attributes:
        heuristic: share of the time since Last-Modified that counts as fresh; 0 for none.
        keeps_cookies: responses with Set-Cookie may be kept.
    """

    heuristic: float = 0.0
    keeps_cookies: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a cache reads of a GET or HEAD.

    Attributes:
        fields: lower-case name to value; several lines joined by commas.
    """

    fields: Mapping[bytes, bytes]
    directives: Directives

    @classmethod
    def read(cls, fields: Fields) -> Request:
        """Read the fields of a request."""
        joined = join_fields(fields)
        return cls(joined, parse_directives(joined.get(b"cache-control")))

    @property
    def bypasses(self) -> bool:
        """Tell whether the cache must not be involved at all."""
        return not BYPASSING.isdisjoint(self.fields)


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored response.

    Attributes:
        fields: as received, without those of one connection, Age and Content-Length.
        vary: the request's values of the fields that the response depends on.
        lifetime: of freshness, s.
        age: when it was received, s.
        received_at: monotonic time, s.
        while_revalidate, if_error: further s that it may be used stale for.
        must_ask: it may never be used without asking.
        is_public: it may answer requests that carry credentials (section 3.5).
    """

    status: int
    fields: Fields
    body: bytes
    vary: tuple[tuple[bytes, bytes], ...]
    validators: Validators
    lifetime: float
    age: float
    received_at: float
    while_revalidate: float
    if_error: float
    must_ask: bool
    is_public: bool

    def age_at(self, now: float) -> float:
        """Return its current age (section 4.2.3), s."""
        return self.age + max(0.0, now - self.received_at)

    def fresh_for(self, now: float) -> float:
        """Return the freshness left, s; negative when stale."""
        return self.lifetime - self.age_at(now)

    def fits(self, request: Request) -> bool:
        """Tell whether it was chosen by the same values (section 4.1), and may be shared."""
        if b"authorization" in request.fields and not self.is_public:
            return False
        return all(_selecting(request, name) == value for name, value in self.vary)


@dataclass(frozen=True, slots=True)
class Received:
    """A response's head and the times around it.

    Attributes:
        sent_at, received_at: monotonic times of the request and of the head, s.
        now: Unix time of the head, s.
    """

    status: int
    fields: Fields
    sent_at: float
    received_at: float
    now: float


def judge(request: Request, response: Received, policy: Policy) -> Stored | None:
    """Return what to keep of the response to a GET, still without a body; None to keep nothing."""
    fields = join_fields(response.fields)
    directives = parse_directives(fields.get(b"cache-control"))
    if response.status not in KEPT_STATUSES or b"no-store" in request.directives:
        return None
    # Qualified forms (`private="x"`) are taken for the whole (sections 5.2.2.4 and 5.2.2.7).
    if b"no-store" in directives or b"private" in directives:
        return None
    if b"set-cookie" in fields and not policy.keeps_cookies:
        return None
    is_public = bool({b"public", b"s-maxage", b"must-revalidate"} & directives.names)
    if b"authorization" in request.fields and not is_public:
        return None
    names = _varies_on(fields)
    if names is None:
        return None
    validators = validators_of(fields, response.now)
    must_ask = b"no-cache" in directives
    lifetime = _lifetime(fields, directives, validators, response, policy)
    if lifetime is None or ((must_ask or lifetime <= 0) and validators == Validators()):
        return None
    never_stale = not directives.names.isdisjoint(
        (b"must-revalidate", b"proxy-revalidate", b"no-cache")
    )
    seconds = {} if never_stale else directives.seconds
    return Stored(
        response.status,
        kept_fields(response),
        b"",
        tuple((name, _selecting(request, name)) for name in names),
        validators,
        lifetime,
        _initial_age(fields, response),
        response.received_at,
        seconds.get(b"stale-while-revalidate", 0),
        seconds.get(b"stale-if-error", 0),
        must_ask,
        is_public,
    )


def choose_use(stored: Stored, request: Request, now: float) -> Use:
    """Return what may be done with a stored response (sections 4 and 5.2.1).

    Args:
        now: monotonic time, s.
    """
    wanted, left = request.directives, stored.fresh_for(now)
    if stored.must_ask or b"no-cache" in wanted:
        return Use.VALIDATE
    if (limit := wanted.seconds.get(b"max-age")) is not None and stored.age_at(now) > limit:
        return Use.VALIDATE
    if left > 0 and left >= wanted.seconds.get(b"min-fresh", 0):
        return Use.FRESH
    if left <= 0 and b"min-fresh" not in wanted and -left < stored.while_revalidate:
        return Use.REVALIDATE_LATER
    return Use.VALIDATE


def may_hide_error(stored: Stored, request: Request, now: float) -> bool:
    """Tell whether the stored response may be used because the next hop failed (RFC 5861)."""
    if stored.must_ask or b"no-cache" in request.directives:
        return False
    return -stored.fresh_for(now) < stored.if_error


def condition_lines(stored: Stored) -> bytes:
    """Return the request fields that ask whether a stored response is still valid."""
    lines = b""
    if stored.validators.etag:
        lines += b"If-None-Match: %b\r\n" % stored.validators.etag
    if stored.validators.modified is not None:
        lines += b"If-Modified-Since: %b\r\n" % format_date(stored.validators.modified)
    return lines


def confirm(stored: Stored, response: Received) -> Received | None:
    """Return a stored response's head as a 304 updates it (section 3.2).

    None when the 304 is about another version, so that the stored one has to go.
    """
    fresh = join_fields(response.fields)
    etag = fresh.get(b"etag")
    if (
        etag is not None
        and stored.validators.etag
        and not same_weakly(etag, stored.validators.etag)
    ):
        return None
    replaced = fresh.keys() - _FROZEN
    kept = [f for f in stored.fields if f[0].lower() not in replaced]
    added = [f for f in response.fields if f[0].lower() not in _FROZEN]
    return replace(response, status=stored.status, fields=kept + added)


def join_fields(fields: Fields) -> dict[bytes, bytes]:
    """Return fields by lower-case name; several lines of one are joined by commas."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        key, value = name.lower(), value.strip(b" \t")
        joined[key] = joined[key] + b", " + value if key in joined else value
    return joined


def validators_of(fields: Mapping[bytes, bytes], now: float) -> Validators:
    """Return the validators of a response."""
    etag = fields.get(b"etag", b"")
    modified = fields.get(b"last-modified")
    return Validators(
        etag if is_entity_tag(etag) else b"",
        None if modified is None else parse_date(modified, now),
    )


def kept_fields(response: Received) -> Fields:
    """Return the fields that are stored: Age and length are told anew, a missing Date is added."""
    fields = [f for f in response.fields if f[0].lower() not in (b"age", b"content-length")]
    if not any(name.lower() == b"date" for name, _ in fields):
        fields.append((b"Date", format_date(response.now)))
    return fields


def _varies_on(fields: Mapping[bytes, bytes]) -> list[bytes] | None:
    """Return the request fields that chose the response; None when nobody can know (`*`)."""
    names = sorted(set(split_list(fields.get(b"vary", b""))))
    if b"*" in names or len(names) > MAX_VARY:
        return None
    if b"content-encoding" in fields and b"accept-encoding" not in names:
        # Who forgets to say so would have clients without the coding get it.
        names.append(b"accept-encoding")
    return names


def _selecting(request: Request, name: bytes) -> bytes:
    """Return the request's value of a field, in a form that equal meanings share."""
    parts: Iterable[bytes] = request.fields.get(name, b"").split(b",")
    value = b",".join(part.strip(b" \t") for part in parts)
    return value.lower() if name in (b"accept-encoding", b"accept-language") else value


def _lifetime(
    fields: Mapping[bytes, bytes],
    directives: Directives,
    validators: Validators,
    response: Received,
    policy: Policy,
) -> float | None:
    """Return the freshness lifetime (section 4.2.1), s; None when nothing tells one."""
    for name in (b"s-maxage", b"max-age"):
        if name in directives.seconds:
            return directives.seconds[name]
    date = parse_date(fields.get(b"date", b""), response.now)
    start = response.now if date is None else date
    if (expires := fields.get(b"expires")) is not None:
        until = parse_date(expires, response.now)
        return 0.0 if until is None else max(0.0, until - start)
    if b"no-cache" in directives:
        return 0.0
    if policy.heuristic and validators.modified is not None:
        if response.status in HEURISTIC_STATUSES:
            return min(MAX_HEURISTIC, max(0.0, start - validators.modified) * policy.heuristic)
    return None


def _initial_age(fields: Mapping[bytes, bytes], response: Received) -> float:
    date = parse_date(fields.get(b"date", b""), response.now)
    apparent = 0.0 if date is None else max(0.0, response.now - date)
    # Of several values the first counts; what is no number is ignored (section 5.1).
    told = fields.get(b"age", b"").partition(b",")[0].strip(b" \t")
    age = float(min(int(told[:12]), 1 << 31)) if _AGE.fullmatch(told) else 0.0
    return max(apparent, age + max(0.0, response.received_at - response.sent_at))
