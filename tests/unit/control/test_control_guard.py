"""Who may call: tokens, DNS rebinding and cross-site requests, as tables of headers."""

from __future__ import annotations

import pytest

from onetrip.control.guard import (
    check_host,
    check_origin,
    check_project,
    check_scope,
    check_site,
    identify,
    is_open,
)
from onetrip.control.problems import RefusedError
from onetrip.control.tokens import CONFIG, LOCAL, Caller, Scope, Token


def status_of(check: object, *args: object) -> int:
    """Return the status a check refuses with, or 200."""
    assert callable(check)
    try:
        check(*args)
    except RefusedError as error:
        return error.status
    return 200


async def known(text: str) -> Token | None:
    """Know one token that was made at run time."""
    return Token("ci", Scope.WRITE, "shop", 0.0, None) if text == "made" else None


async def caller(header: str | None, token: str | None = "right") -> Caller | int:
    headers = {} if header is None else {"Authorization": header}
    try:
        return await identify(headers, token, known)
    except RefusedError as error:
        return error.status


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer right", CONFIG),
        ("bearer right", CONFIG),
        ("Bearer  right ", CONFIG),
        ("Bearer made", Caller("ci", Scope.WRITE, "shop")),
        ("Bearer wrong", 401),
        ("Bearer righ", 401),
        ("Bearer right2", 401),
        ("Bearer", 401),
        ("Basic right", 401),
        ("right", 401),
        ("Bearer \udcff", 401),
        (None, 401),
    ],
)
async def test_only_the_right_tokens_pass(header: str | None, expected: Caller | int) -> None:
    assert await caller(header) == expected


async def test_node_without_a_token_permits_all_but_heeds_what_is_sent() -> None:
    assert await caller(None, None) == LOCAL
    assert await caller("Bearer made", None) == Caller("ci", Scope.WRITE, "shop")
    assert await caller("Bearer revoked", None) == 401


async def test_refused_token_is_not_repeated() -> None:
    with pytest.raises(RefusedError) as caught:
        await identify({"Authorization": "Bearer guess"}, "right", known)
    assert caught.value.headers["WWW-Authenticate"].startswith('Bearer realm="onetrip"')
    assert 'error="invalid_token"' in caught.value.headers["WWW-Authenticate"]
    assert "guess" not in str(caught.value)
    assert "right" not in str(caught.value)


@pytest.mark.parametrize("held", list(Scope))
@pytest.mark.parametrize("needed", list(Scope))
def test_scope_permits_itself_and_those_before_it(held: Scope, needed: Scope) -> None:
    order = ["read", "operate", "write", "admin"]
    is_enough = order.index(held.value) >= order.index(needed.value)
    found = status_of(check_scope, Caller("ci", held), needed)
    assert found == (200 if is_enough else 403)


@pytest.mark.parametrize(
    ("project", "status"), [("shop", 200), ("blog", 403), (None, 403), ("", 403)]
)
def test_token_of_a_project_permits_that_project_only(project: str | None, status: int) -> None:
    held = Caller("ci", Scope.ADMIN, "shop")
    assert status_of(check_project, held, project) == status


def test_missing_scope_is_named_in_the_challenge() -> None:
    with pytest.raises(RefusedError) as caught:
        check_scope(Caller("ci", Scope.READ), Scope.WRITE)
    assert 'scope="write"' in caught.value.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9400", 200),
        ("127.3.2.1", 200),
        ("localhost", 200),
        ("LOCALHOST:9400", 200),
        ("localhost.", 200),
        ("den.localhost:9400", 200),
        ("[::1]:9400", 200),
        ("10.0.0.5:9400", 200),
        ("10.0.0.6:9400", 403),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("notlocalhost", 403),
        ("[::2]", 403),
        ("", 403),
    ],
)
def test_host_must_be_loopback_or_the_listen_address(host: str, status: int) -> None:
    assert status_of(check_host, {"Host": host}, "10.0.0.5") == status


JSON = "application/json"


@pytest.mark.parametrize(
    ("origin", "content_type", "status"),
    [
        ("http://127.0.0.1:9400", JSON, 200),
        ("http://127.0.0.1:9400", "application/json; charset=utf-8", 200),
        (None, JSON, 200),
        (None, None, 200),
        (None, "text/plain", 415),
        ("http://127.0.0.1:9400", "text/plain", 415),
        ("http://127.0.0.1:9400", None, 415),
        ("http://127.0.0.1:9401", JSON, 403),
        ("https://127.0.0.1:9400", JSON, 403),
        ("http://evil.example", JSON, 403),
        ("null", JSON, 403),
        ("", JSON, 403),
    ],
)
def test_state_changes_are_same_origin_json(
    origin: str | None, content_type: str | None, status: int
) -> None:
    headers = {"Host": "127.0.0.1:9400"}
    if origin is not None:
        headers["Origin"] = origin
    if content_type is not None:
        headers["Content-Type"] = content_type
    assert status_of(check_origin, headers, "http") == status


@pytest.mark.parametrize(
    ("value", "status"),
    [(None, 200), ("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)],
)
def test_requests_marked_as_from_another_site_are_refused(value: str | None, status: int) -> None:
    headers = {} if value is None else {"Sec-Fetch-Site": value}
    assert status_of(check_site, headers) == status


def test_only_the_page_and_the_health_check_are_open() -> None:
    assert [p for p in ("/", "/healthz", "/assets/app.js") if not is_open(p)] == []
    assert [
        p for p in ("/metrics", "/v1/status", "/assets", "//", "/healthz/x") if is_open(p)
    ] == []
