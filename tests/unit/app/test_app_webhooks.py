"""`webhooks` of the configuration: what is taken, and what is refused with key and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.webhook import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def load(folder: Path, *hooks: dict[str, Any]) -> tuple[Webhook, ...]:
    path = folder / "onetrip.yaml"
    path.write_text(yaml.safe_dump({"regions": {"den": {}}, "webhooks": list(hooks)}))
    (folder / "secret").write_text(SECRET + "\n")
    return load_settings(path).webhooks


def hook(**more: Any) -> dict[str, Any]:
    return {"name": "ops", "url": "https://hooks.example/x", "secret_file": "secret"} | more


def test_a_webhook_and_its_defaults(tmp_path: Path) -> None:
    (found,) = load(tmp_path, hook())
    assert (found.name, found.url, found.events) == ("ops", "https://hooks.example/x", ("*",))
    assert len(found.keys) == 1
    (found,) = load(tmp_path, hook(url="http://127.0.0.1:9/x", events=["place.*"]))
    assert found.events == ("place.*",)


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ([hook(url="http://hooks.example/x")], "webhooks[0].url: hooks.example is not loopback"),
        ([hook(url="https://u:pw@hooks.example/x")], "webhooks[0].url: is not https://HOST"),
        ([hook(url="https://:1/x")], "webhooks[0].url: is not https://HOST"),
        ([hook(url="ftp://x")], "webhooks[0].url: Expected `str` matching"),
        ([hook(secret_file=None)], "webhooks[0]: secret_env or secret_file is required"),
        ([hook(secret_file="no")], "webhooks[0].secret_file: no cannot be read"),
        ([hook(secret_file=None, secret_env="PLAIN")], "webhooks[0].secret: the secret is not"),
        ([hook(name="Ops!")], "webhooks[0].name: 'Ops!' is not a name"),
        ([hook(), hook()], "webhooks[1].name: 'ops' is taken"),
        ([hook(events=[])], "webhooks[0].events: "),
        ([hook(events=["Place Moved"])], "webhooks[0].events[0]: "),
        ([hook(retries=3)], "unknown key `retries`"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: list[dict[str, Any]], reason: str
) -> None:
    monkeypatch.setenv("PLAIN", "hunter2-hunter2-hunter2")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, *hooks)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "u:pw" not in str(caught.value)
