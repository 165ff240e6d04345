"""Playbooks of one stream: what a client says beside what it is sent."""

from __future__ import annotations

import pytest

from onetrip.errors import LimitError
from onetrip.xds.session import MAX_NAME, MAX_NAMES, Request, Response, Session, Type
from support.xds_client import XdsClient, resource, state


def connected(session: Session) -> XdsClient:
    client = XdsClient(session)
    client.connect()
    client.settle()
    return client


def serving(clusters: dict[str, str], routes: list[str]) -> tuple[Session, XdsClient]:
    session = Session()
    session.offer(state(clusters, routes))
    return session, connected(session)


def kinds(responses: list[Response]) -> list[tuple[str, bool]]:
    return [(r.type.name, bool(r.removed)) for r in responses]


def test_first_client_gets_everything_in_an_order_that_never_breaks() -> None:
    session, client = serving({"a": "1", "b": "1"}, ["a", "b"])
    assert next(r.type.name for r in client.responses) == "CLUSTER"
    assert client.responses[-1].type is Type.ROUTE
    assert client.broken == []
    assert session.is_current
    assert session.take() == []


def test_move_makes_the_new_cluster_before_it_breaks_the_old_one() -> None:
    session, client = serving({"a": "1"}, ["a"])
    client.responses.clear()
    session.offer(state({"b": "1"}, ["b"]))
    client.settle()
    assert kinds(client.responses) == [
        ("CLUSTER", False),
        ("ENDPOINT", False),
        ("ROUTE", False),
        ("CLUSTER", True),
    ]
    assert client.broken == []
    assert list(client.has[Type.CLUSTER]) == ["b"]


def test_cluster_that_changed_gets_its_endpoints_again() -> None:
    session, client = serving({"a": "1"}, ["a"])
    client.responses.clear()
    changed = dict(state({"a": "1"}, ["a"]))
    changed[Type.CLUSTER] = {"a": resource("a", "2")}
    session.offer(changed)
    client.settle()
    assert kinds(client.responses) == [("CLUSTER", False), ("ENDPOINT", False)]


def test_health_goes_out_while_a_cluster_waits_to_be_confirmed() -> None:
    session, _ = serving({"a": "1"}, ["a"])
    session.offer(state({"a": "1", "b": "1"}, ["a"], version="1"))
    assert kinds(session.take()) == [("CLUSTER", False)]
    new = dict(state({"a": "1", "b": "1"}, ["a"]))
    new[Type.ENDPOINT] = {"a": resource("a", "sick"), "b": resource("b", "1")}
    session.offer(new)
    (response,) = session.take()
    assert [r.version for r in response.resources] == ["sick"]


def test_what_is_offered_meanwhile_is_one_difference() -> None:
    session, client = serving({"a": "1"}, ["a"])
    session.offer(state({"a": "1"}, ["a"], version="2"))
    (first,) = session.take()
    for version in ("3", "4", "5"):
        session.offer(state({"a": "1"}, ["a"], version=version))
        assert session.take() == []
    client.answer(first)
    client.responses.clear()
    client.settle()
    (last,) = client.responses
    assert last.resources[0].version.startswith("5")


def test_refused_update_is_told_once_and_the_good_part_comes_through() -> None:
    session, client = serving({"a": "1"}, ["a"])
    session.offer(state({"a": "1", "b": "1", "c": "1"}, ["a", "b"], poison="c"))
    client.settle()
    final = [v for v in client.verdicts if v.is_final]
    assert [(v.names, v.error) for v in final] == [(("c",), "poison")]
    assert sorted(client.has[Type.CLUSTER]) == ["a", "b"]
    assert session.refused == {(Type.CLUSTER, "c"): "poison"}
    assert not session.is_current
    assert session.take() == []
    # Its routes stay as they are while what they may need is refused.
    assert client.has[Type.ROUTE]["routes"].body["clusters"] == ["a"]

    session.offer(state({"a": "1", "b": "1", "c": "2"}, ["a", "c"]))
    client.settle()
    assert session.refused == {}
    assert session.is_current
    assert client.broken == []


def test_refused_routes_keep_the_clusters_that_the_old_ones_need() -> None:
    session, client = serving({"a": "1"}, ["a"])
    bad = dict(state({"b": "1"}, ["b"]))
    bad[Type.ROUTE] = {"routes": resource("routes", "bad", poison=True, clusters=["b"])}
    session.offer(bad)
    client.settle()
    assert sorted(client.has[Type.CLUSTER]) == ["a", "b"]
    session.offer(state({"b": "1"}, ["b"], version="good"))
    client.settle()
    assert list(client.has[Type.CLUSTER]) == ["b"]
    assert client.broken == []


def test_client_that_comes_back_is_sent_only_what_changed() -> None:
    _, client = serving({"a": "1", "b": "1"}, ["a"])
    again = Session()
    again.offer(state({"a": "1", "b": "2"}, ["a"]))
    client.responses.clear()
    client.connect(again)
    client.settle()
    sent = [(r.type.name, [each.name for each in r.resources]) for r in client.responses]
    assert sent[0] == ("CLUSTER", ["b"])
    assert ("LISTENER", ["clients"]) not in sent
    assert again.is_current


def test_name_that_does_not_exist_is_said_to_be_absent_until_it_does() -> None:
    session = Session()
    session.offer(state({}, []))
    session.receive(Request(Type.SECRET, subscribe=("pair",)))
    (response,) = session.take()
    assert (response.resources, response.removed) == ((), ("pair",))
    session.receive(Request(Type.SECRET, response.nonce))
    assert session.take() == []
    session.offer({Type.SECRET: {"pair": resource("pair", "1")}})
    (response,) = session.take()
    assert [r.name for r in response.resources] == ["pair"]


def test_name_that_is_asked_for_again_is_sent_again() -> None:
    session = Session()
    session.offer({Type.SECRET: {"pair": resource("pair", "1")}})
    session.receive(Request(Type.SECRET, subscribe=("pair",)))
    (first,) = session.take()
    session.receive(Request(Type.SECRET, subscribe=("pair",)))
    session.receive(Request(Type.SECRET, first.nonce))
    (second,) = session.take()
    session.receive(Request(Type.SECRET, second.nonce))
    assert session.take() == []


def test_answer_to_an_earlier_response_confirms_nothing() -> None:
    session = Session()
    session.offer({Type.SECRET: {"pair": resource("pair", "1")}})
    session.receive(Request(Type.SECRET, subscribe=("pair",)))
    (first,) = session.take()
    assert session.receive(Request(Type.SECRET, "99")) is None
    assert session.take() == []
    assert session.receive(Request(Type.SECRET, first.nonce)) is not None


def test_wildcard_can_be_asked_for_and_given_up() -> None:
    session = Session()
    session.offer(state({"a": "1"}, []))
    session.receive(Request(Type.CLUSTER, subscribe=("*",)))
    (response,) = session.take()
    assert [r.name for r in response.resources] == ["a"]
    session.receive(Request(Type.CLUSTER, response.nonce, unsubscribe=("*",)))
    session.offer(state({"b": "1"}, []))
    assert session.take() == []


@pytest.mark.parametrize(
    "names",
    [("x" * (MAX_NAME + 1),), tuple(map(str, range(MAX_NAMES + 1)))],
    ids=["long name", "many names"],
)
def test_more_than_is_followed_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(LimitError, match="exceeds limit"):
        Session().receive(Request(Type.SECRET, subscribe=names))
