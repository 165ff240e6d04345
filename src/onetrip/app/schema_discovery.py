"""Entries about where instances are found that are not configured by address."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from onetrip.app.schema_base import Interval, Strict, Text


class KubernetesEntry(Strict):
    """`discovery.kubernetes`: the API of the cluster; a pod knows its own without this."""

    api: Annotated[str, Meta(pattern="^https?://[!-~]+$", max_length=1024)] | None = None
    token_file: Annotated[str, Meta(max_length=4096)] | None = None
    ca_file: Annotated[str, Meta(max_length=4096)] | None = None


class DiscoveryEntry(Strict):
    """`discovery`: how sources of instances are asked, and what is taken from them."""

    least_interval: Interval = 1.0
    most_interval: Interval = 30.0
    max_instances: Annotated[int, Meta(ge=1, le=10_000)] = 256
    allow: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)
    dns_servers: Annotated[list[Text], Meta(max_length=8)] = field(default_factory=list)
    kubernetes: KubernetesEntry = field(default_factory=KubernetesEntry)
