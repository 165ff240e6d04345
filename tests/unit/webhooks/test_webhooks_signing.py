"""Signatures that the specification's own library accepts, and secrets that are refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks

from onetrip.errors import ConfigError
from onetrip.model.webhook import Webhook
from onetrip.webhooks.signing import fields, parse_keys

NEW = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(1, 25))).decode()


def test_each_of_two_secrets_signs_as_the_reference_does() -> None:
    keys, at = parse_keys(f"{NEW}\n{OLD}", "secret"), datetime.fromtimestamp(1_700_000_000, UTC)
    body = '{"type": "place.moved", "n": "ä"}'
    made = fields(keys, "den-1", 1_700_000_000, body.encode())
    wanted = [standardwebhooks.Webhook(key).sign("den-1", at, body) for key in (NEW, OLD)]
    assert made["webhook-signature"].split(" ") == wanted
    assert (made["webhook-id"], made["webhook-timestamp"]) == ("den-1", "1700000000")


def test_the_known_answer_of_the_specification() -> None:
    # The example of the reference implementations.
    (key,) = parse_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret")
    made = fields([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "secret",
    ["", "hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_!!", f"{NEW} {NEW} {OLD}", NEW[6:]],
)
def test_other_secrets_are_refused_and_not_told(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keys(secret, "webhooks[0].secret")
    assert str(caught.value).startswith("webhooks[0].secret: ")
    assert "hunter2" not in str(caught.value)
    assert "MfKQ" not in str(caught.value)


@pytest.mark.parametrize(
    ("patterns", "event", "is_wanted"),
    [
        (("*",), "app.reloaded", True),
        (("place.*",), "place.moved", True),
        (("place.*",), "placement.moved", False),
        (("app.reloaded", "*.instance_*"), "proxy.instance_ejected", True),
        (("app.reload",), "app.reloaded", False),
    ],
)
def test_patterns(patterns: tuple[str, ...], event: str, is_wanted: bool) -> None:
    assert Webhook("a", "https://x/y", patterns, ()).wants(event) is is_wanted


def test_neither_path_nor_keys_are_shown() -> None:
    hook = Webhook("a", "https://chat.example:8443/services/T0/B0/xyz", ("*",), (b"k" * 24,))
    assert repr(hook) == "Webhook(name='a', url='https://chat.example:8443', events=('*',))"
