"""What the configuration names: checks of names, regions and addresses, told with their key."""

from __future__ import annotations

from collections.abc import Collection

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint, RegionId, is_id, parse_endpoint


def check_id(text: str, key: str) -> None:
    """Raise `ConfigError` unless `text` can be a name; `key` is where it stands."""
    if not is_id(text):
        raise ConfigError(
            f"{key}: {text!r} is not a name of 1-32 lower-case letters, digits and hyphens"
        )


def known_region(name: str, regions: Collection[RegionId], key: str) -> RegionId:
    """Return the region of that name; `key` is where it stands.

    Raises:
        ConfigError: there is none.
    """
    if name not in regions:
        known = ", ".join(regions) or "none"
        raise ConfigError(f"{key}: region {name!r} is not one of {known}")
    return RegionId(name)


def optional_region(name: str | None, regions: Collection[RegionId], key: str) -> RegionId | None:
    """Return the region of a name that may be absent; see `known_region`."""
    return None if name is None else known_region(name, regions, key)


def endpoint_at(text: str, key: str) -> Endpoint:
    """Parse an endpoint; `key` is where it stands.

    Raises:
        ConfigError: it is none.
    """
    try:
        return parse_endpoint(text)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def optional_endpoint(text: str | None, key: str) -> Endpoint | None:
    """Parse an endpoint that may be absent; see `endpoint_at`."""
    return None if text is None else endpoint_at(text, key)
