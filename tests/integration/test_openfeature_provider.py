"""The OpenFeature provider through OpenFeature's own client, on a node's API on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus

from onetrip.cli.client import Client
from onetrip.control.access import NewTokenBody
from onetrip.control.schemas import ProjectBody
from onetrip_openfeature import OnetripProvider
from support.admin_server import admin_thread
from support.fake_view import FakeView
from support.ports import free_port

BOUND = 30.0
"""Longest wait, s."""

KEY = EvaluationContext(targeting_key="request-7")


def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Heard:
    """The provider's events, in order."""

    def __init__(self, client: OpenFeatureClient) -> None:
        self.names: list[str] = []
        self.changed: list[str] = []
        for event in ProviderEvent:
            client.add_handler(event, self._handler(event))

    def _handler(self, event: ProviderEvent) -> Callable[[EventDetails], None]:
        def note(details: EventDetails) -> None:
            self.names.append(event.value)
            self.changed += details.flags_changed or []

        return note


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    api.shutdown()
    api.clear_providers()


def use(provider: OnetripProvider) -> None:
    """Set the provider, and wait until it was initialized, whatever came of it."""
    api.set_provider(provider)
    eventually(lambda: api.get_client().get_provider_status() is not ProviderStatus.NOT_READY)


def change(url: str, token: str | None = None, **fields: object) -> None:
    """Change the shop's policy as another caller of the API would."""
    Client(url, token).patch(("projects", "shop"), {"placement": fields}, ProjectBody)


def test_flags_follow_the_node() -> None:
    with admin_thread(FakeView()) as url:
        follow(url)
        api.shutdown()


def follow(url: str) -> None:
    use(OnetripProvider(url))
    client = api.get_client()
    heard = Heard(client)
    assert client.get_boolean_value("shop.placement", False) is True
    details = client.get_string_details("shop.placement", "x")
    assert (details.value, details.variant, details.reason) == ("smart", "smart", Reason.STATIC)
    change(url, share=0.5)
    eventually(lambda: client.get_float_value("shop.share", 9.0) == 0.5)
    details = client.get_boolean_details("shop.placement", True, KEY)
    assert details.reason == Reason.SPLIT
    missing = client.get_boolean_details("shop.placement", True)
    assert (missing.value, missing.error_code) == (True, ErrorCode.TARGETING_KEY_MISSING)
    change(url, mode="off")
    eventually(lambda: client.get_boolean_value("shop.placement", True, KEY) is False)
    eventually(lambda: heard.changed.count("shop.placement") == 2)
    unknown = client.get_boolean_details("gone.placement", True)
    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    wrong = client.get_integer_details("shop.placement", 3)
    assert (wrong.value, wrong.error_code) == (3, ErrorCode.TYPE_MISMATCH)
    assert client.get_object_details("shop.share", {}).error_code is ErrorCode.TYPE_MISMATCH


def test_a_node_that_is_away_makes_the_provider_stale_and_then_ready_again() -> None:
    view, port = FakeView(), free_port()
    with admin_thread(view, port=port) as url:
        use(OnetripProvider(url, stale_after=0.2))
        client = api.get_client()
        heard = Heard(client)
        heard.names.clear()
    eventually(lambda: "PROVIDER_STALE" in heard.names)
    details = client.get_boolean_details("shop.placement", False)
    # What was known last still answers, and says that it may be out of date.
    assert (details.value, details.reason) == (True, Reason.STALE)
    with admin_thread(view, port=port):
        eventually(lambda: "PROVIDER_READY" in heard.names)
        eventually(
            lambda: client.get_boolean_details("shop.placement", False).reason == Reason.STATIC
        )


def test_before_the_first_answer_the_default_counts() -> None:
    view, port = FakeView(), free_port()
    use(OnetripProvider(f"http://127.0.0.1:{port}", timeout=0.2))
    client = api.get_client()
    details = client.get_boolean_details("shop.placement", False)
    assert details.value is False
    assert details.error_code in (ErrorCode.PROVIDER_NOT_READY, ErrorCode.GENERAL)
    assert client.get_provider_status() is ProviderStatus.ERROR
    with admin_thread(view, port=port):
        eventually(lambda: client.get_boolean_value("shop.placement", False) is True)
        eventually(lambda: client.get_provider_status() is ProviderStatus.READY)


def test_with_a_token_for_one_project_it_polls(tmp_path: Path) -> None:
    root = "a token of the configuration"
    with admin_thread(FakeView(), root, tmp_path / "onetrip.db") as url:
        order = {"name": "flags", "scope": "read", "project": "shop"}
        token = Client(url, root).post(("tokens",), NewTokenBody, order).secret
        use(OnetripProvider(url, token, project="shop", poll_interval=0.05))
        client = api.get_client()
        assert client.get_float_value("shop.share", 0.0) == 1.0
        change(url, root, share=0.25)
        eventually(lambda: client.get_float_value("shop.share", 0.0) == 0.25)
        other = client.get_boolean_details("blog.placement", True)
        assert other.error_code is ErrorCode.FLAG_NOT_FOUND
        api.shutdown()
