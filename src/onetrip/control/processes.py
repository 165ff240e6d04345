"""Bodies of the admin API about the processes of a node."""

from __future__ import annotations

from msgspec import Struct


class UpgradeBody(Struct, frozen=True):
    """`POST /v1/upgrade`: the process that serves from now on."""

    pid: int
    version: str
