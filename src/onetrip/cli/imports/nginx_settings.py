"""nginx's settings that are one of the node's in onetrip: times, sizes, counts.

nginx has them for each site, onetrip once: the largest counts, and the report says which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from onetrip.cli.imports.draft import Draft, merged
from onetrip.cli.imports.nginx_files import Directive
from onetrip.cli.imports.report import Outcome

_UNITS = {
    "": 1.0, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800,
    "M": 2_592_000, "y": 31_536_000,
}  # fmt: skip
"""Lengths of nginx's units, s (https://nginx.org/en/docs/syntax.html)."""

_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

DEFAULT_BODY_LIMIT = "1m"
"""`client_max_body_size` where it is not set."""


def seconds(text: str) -> float | None:
    """Return a time in nginx's notation (`1h30m`, `500ms`), s; None when it is none."""
    if not re.fullmatch(r"(?:\d{1,9}(?:ms|[smhdwMy])?)+", text):
        return None
    parts = re.findall(r"(\d+)(ms|[smhdwMy]?)", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def size(text: str) -> int | None:
    """Return a size in nginx's notation (`8k`, `10m`), bytes; None when it is none."""
    found = re.fullmatch(r"(\d{1,12})([kKmMgG]?)", text)
    return int(found[1]) * _SIZES[found[2].lower()] if found is not None else None


def _time(args: tuple[str, ...]) -> float | None:
    return seconds(args[0]) if args else None


def _count(args: tuple[str, ...]) -> int | None:
    return int(args[0]) if args and re.fullmatch(r"\d{1,7}", args[0]) else None


def _attempts(args: tuple[str, ...]) -> int | None:
    tries = _count(args)
    return tries - 1 if tries else None  # 0 is "no limit" in nginx


def _head(args: tuple[str, ...]) -> int | None:
    each = size(args[1]) if len(args) == 2 and args[0].isdigit() else None
    return min(int(args[0][:4]) * each, 10_000_000) if each is not None else None


@dataclass(frozen=True, slots=True)
class _Setting:
    key: str
    read: Callable[[tuple[str, ...]], float | None]
    low: float = 0.001
    high: float = 86_400


_SETTINGS = {
    "proxy_connect_timeout": _Setting("connect_timeout", _time),
    "grpc_connect_timeout": _Setting("connect_timeout", _time),
    "proxy_read_timeout": _Setting("read_timeout", _time),
    "grpc_read_timeout": _Setting("read_timeout", _time),
    "send_timeout": _Setting("write_timeout", _time),
    "client_body_timeout": _Setting("body_timeout", _time),
    "client_header_timeout": _Setting("header_timeout", _time),
    "keepalive_timeout": _Setting("idle_timeout", _time),
    "keepalive_requests": _Setting("max_requests", _count, 1, 10_000_000),
    "keepalive": _Setting("pool_idle", _count, 0, 10_000_000),
    "large_client_header_buffers": _Setting("head_limit", _head, 1, 10_000_000),
    "proxy_next_upstream_tries": _Setting("extra_attempts", _attempts, 0, 10),
    "worker_shutdown_timeout": _Setting("drain_timeout", _time),
}

NAMES = frozenset((*_SETTINGS, "client_max_body_size", "worker_processes"))
"""Directives that are told here."""


def tell_settings(directives: Iterable[Directive], draft: Draft) -> None:
    """Carry over the settings among all directives of a configuration, and report them.

    Args:
        directives: all of them, whatever block they are in.
    """
    groups: dict[str, list[tuple[Directive, float]]] = {}
    for each in directives:
        setting = _SETTINGS.get(each.name)
        if each.is_told or setting is None:
            continue
        each.is_told = True
        value = setting.read(each.args)
        if value is None or not setting.low <= value <= setting.high:
            detail = f"proxy.{setting.key} must be in {setting.low:g}-{setting.high:g}"
            draft.report.add(each.place, str(each), Outcome.LEFT_OUT, detail)
        else:
            groups.setdefault(setting.key, []).append((each, value))
    for key, found in groups.items():
        _carry(key, found, draft)


def _carry(key: str, found: list[tuple[Directive, float]], draft: Draft) -> None:
    value = max(number for _, number in found)
    draft.section("proxy")[key] = _plain(value)
    for each, number in found:
        if number == value:
            draft.report.add(each.place, str(each), Outcome.CARRIED, f"proxy.{key}")
        else:
            detail = f"proxy.{key} is one for all sites, and {_plain(value)} for another one"
            draft.report.add(each.place, str(each), Outcome.CHANGED, detail)


def tell_workers(each: Directive, draft: Draft) -> None:
    """Carry over `worker_processes`."""
    count = _count(each.args)
    each.is_told = True
    if each.args == ("auto",) or (count is not None and 1 <= count <= 256):
        workers: Any = "auto" if count is None else count
        merged(draft.top, {"workers": workers})
        draft.report.add(each.place, str(each), Outcome.CARRIED, "workers")
    else:
        draft.report.add(each.place, str(each), Outcome.LEFT_OUT, "workers must be in 1-256")


def set_body_limit(limits: Iterable[Directive | None], draft: Draft) -> None:
    """Carry over the limits of request bodies of all sites; None is nginx's default of 1 MiB."""
    found = [
        (each, size(each.args[0] if each and each.args else DEFAULT_BODY_LIMIT)) for each in limits
    ]
    values = [value for _, value in found if value is not None]
    limit = 0 if 0 in values else max(values, default=0)
    if limit:
        draft.section("proxy")["body_limit"] = limit
    for each, value in found:
        if each is None or each.is_told:
            continue
        each.is_told = True
        if value is None:
            draft.report.add(each.place, str(each), Outcome.LEFT_OUT, "is no size")
        elif value == limit:
            draft.report.add(each.place, str(each), Outcome.CARRIED, "proxy.body_limit")
        else:
            detail = f"proxy.body_limit is one for all sites, and {limit or 'none'} for another one"
            draft.report.add(each.place, str(each), Outcome.CHANGED, detail)


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
