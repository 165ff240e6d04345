"""Checking what clients send: bodies, query strings and preconditions, as pure functions.

Nothing here reads a socket. Every refusal is an `ApiError` that names the field, the value and
the limit, so that one line is enough to correct the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Catalog, Mode, Project
from onetrip.model.status import PolicyChange

MAX_SHOWN = 40
"""Characters of a refused value that are echoed; enough to recognise it."""

MAX_RATIO = 0.5
"""Largest control or explore share: the two are cut from opposite ends of one unit interval
(`place/arms`), so above one half each they could overlap."""

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)


T = TypeVar("T", bound=Struct)


# What the document of the API says; `change_of` checks it, in words that name the limit.
_MODES = Meta(extra_json_schema={"enum": [mode.value for mode in Mode]})
_RATIO = Meta(extra_json_schema={"minimum": 0, "maximum": MAX_RATIO})
_SHARE = Meta(extra_json_schema={"minimum": 0, "maximum": 1})


class PlacementPatch(Struct, frozen=True, forbid_unknown_fields=True):
    """The `placement` part of a project change; an absent field stays as it is.

    A hint of "" or null clears the pin.
    """

    mode: Annotated[str, _MODES] | UnsetType = UNSET
    hint: str | UnsetType | None = UNSET
    control: Annotated[float, _RATIO] | UnsetType = UNSET
    explore: Annotated[float, _RATIO] | UnsetType = UNSET
    share: Annotated[float, _SHARE] | UnsetType = UNSET


class ProjectPatch(Struct, frozen=True, forbid_unknown_fields=True):
    """`PATCH /v1/projects/{name}`."""

    placement: PlacementPatch | UnsetType = UNSET


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an action that needs none: `{}`, or no body at all."""


class DrainOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/drain`: whether the node's region shall drain."""

    draining: bool


def parse(body: bytes, want: type[T]) -> T:
    """Decode a body as a `want`.

    Raises:
        ApiError: it is no JSON, holds an unknown field, or a value of the wrong type.
    """
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(f"body of {len(body)} bytes is not JSON: {error}") from error
    try:
        return msgspec.convert(raw, want)
    except msgspec.ValidationError as error:
        raise _refuse(str(error), raw) from error


def change_of(patch: ProjectPatch, regions: Iterable[str]) -> PolicyChange | None:
    """Return the policy change a patch asks for, or None when it changes nothing.

    Args:
        patch: decoded body.
        regions: region ids that a hint may name.

    Raises:
        ApiError: a value is outside its limits.
    """
    wanted = patch.placement
    if isinstance(wanted, UnsetType):
        return None
    change = PolicyChange(
        mode=_mode(wanted),
        hint=_hint(wanted, list(regions)),
        control_ratio=_ratio("placement.control", wanted.control),
        explore_ratio=_ratio("placement.explore", wanted.explore),
        share=_ratio("placement.share", wanted.share, 1.0),
    )
    return None if change == PolicyChange() else change


def query_of(pairs: Iterable[tuple[str, str]], allowed: Iterable[str]) -> dict[str, str]:
    """Return the query parameters by name.

    Raises:
        ApiError: one is unknown or given twice.
    """
    known, found = list(allowed), dict[str, str]()
    for name, value in pairs:
        if name not in known:
            choice = ", ".join(known) or "none"
            raise ApiError(
                f"unknown query parameter {_shown(name)}; known: {choice}",
                field=name[:MAX_SHOWN],
                limit=choice,
            )
        if name in found:
            raise ApiError(f"query parameter {name} is given twice", field=name)
        found[name] = value
    return found


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    """Return the `limit` parameter.

    Raises:
        ApiError: it is no integer in 1..`most`.
    """
    text = query.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise outside("limit", text, f"in 1..{most}")
    return int(text)


def flag_of(query: Mapping[str, str], name: str) -> bool:
    """Return a parameter that is true or false, and false where it is absent.

    Raises:
        ApiError: it is neither.
    """
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise outside(name, text, "true or false")
    return text == "true"


def project_of(catalog: Catalog, name: str, field: str = "name") -> Project:
    """Return a project; `field` is what names it.

    Raises:
        ApiError: there is none of that name.
    """
    project = catalog.projects.get(name)
    if project is None:
        raise ApiError(
            f"no project {name[:MAX_SHOWN]!r}",
            field=field,
            kind=Kind.NOT_FOUND,
            value=name[:MAX_SHOWN],
        )
    return project


def etag_matches(if_match: str, etag: str) -> bool:
    """Tell whether an If-Match header allows a change of what `etag` names.

    Source: RFC 9110, section 13.1.1 (strong comparison, so a weak tag never matches).
    """
    if if_match.strip() == "*":
        return True
    return etag in (part.strip() for part in if_match.split(","))


def outside(field: str, value: Any, limit: str) -> ApiError:
    """Return the refusal of a value that is not `limit`."""
    shown = _shown(value)
    return ApiError(
        f"{field} is {shown}; it must be {limit}", field=field, value=shown, limit=limit
    )


def _mode(wanted: PlacementPatch) -> Mode | None:
    if isinstance(wanted.mode, UnsetType):
        return None
    try:
        return Mode(wanted.mode)
    except ValueError:
        choice = " or ".join(repr(mode.value) for mode in Mode)
        raise outside("placement.mode", wanted.mode, choice) from None


def _hint(wanted: PlacementPatch, regions: list[str]) -> str | None:
    if isinstance(wanted.hint, UnsetType):
        return None
    hint = wanted.hint or ""
    if hint and hint not in regions:
        limit = f'one of {", ".join(regions)}, or "" to clear it'
        raise outside("placement.hint", hint, limit)
    return hint


def _ratio(field: str, value: float | UnsetType, most: float = MAX_RATIO) -> float | None:
    if isinstance(value, UnsetType):
        return None
    if not 0.0 <= value <= most:
        raise outside(field, value, f"in 0..{most:g}")
    return float(value)


def _refuse(message: str, raw: Any) -> ApiError:
    """Turn msgspec's words into ours: the field by its dotted path, and its value."""
    found = _WHERE.match(message)
    assert found is not None, "the pattern matches every text"
    what, path = found["what"], (found["path"] or "").lstrip(".")
    if unknown := _UNKNOWN.match(what):
        name = unknown["name"][:MAX_SHOWN]
        field = f"{path}.{name}" if path else name
        return ApiError(f"{field} is no field of this body", field=field)
    if missing := _MISSING.match(what):
        field = f"{path}.{missing['name']}" if path else missing["name"]
        return ApiError(f"{field} is missing", field=field, limit="required")
    value, limit = _shown(_lookup(raw, path)), what.replace("`", "")
    return ApiError(f"{path or 'body'} is {value}: {limit}", field=path, value=value, limit=limit)


def _lookup(raw: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
