"""`onetrip relay`: options that cannot be used are refused by name, before anything is opened."""

from pathlib import Path
from typing import Any

import pytest

from onetrip.cli.relay import RelayKind, relay
from onetrip.errors import ConfigError

USABLE: dict[str, Any] = {
    "kind": RelayKind.MYSQL,
    "listen": "127.0.0.1:1",
    "backend": "db",
    "to": "127.0.0.1:1",
    "report": "http://127.0.0.1:9400",
    "token_file": None,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listen": "nowhere"}, "--listen: 'nowhere' is not host:port"),
        ({"listen": "127.0.0.1:99999"}, "--listen: port of '127.0.0.1:99999' is not in 1-65535"),
        ({"to": "https://db.example"}, "--to: 'https://db.example' is not host:port"),
        ({"backend": "a b"}, "backend is 'a b'; it must be 1-32 of a-z, 0-9 and -"),
        ({"report": "ftp://x"}, "--report 'ftp://x' is no http:// or https:// URL"),
        ({"token_file": Path("/nonexistent")}, "token file /nonexistent cannot be read"),
        ({"max_connections": 0}, "max_connections is 0; it must be in 1..100000"),
    ],
)
def test_option_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        relay(**(USABLE | change))
    assert str(caught.value).startswith(message)
