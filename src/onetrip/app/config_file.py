"""A configuration file: YAML, read strictly, to structs that refuse what they do not know."""

from __future__ import annotations

import contextlib
import copy
import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from onetrip.errors import ConfigError

MAX_FILE_SIZE = 8 * 1024 * 1024
"""Bytes of configuration read at most; 10,000 projects take about 4 MB."""

T = TypeVar("T")


_TEXT = "tag:yaml.org,2002:str"

LARGE = 64 * 1024
"""Characters from which a file is parsed by libyaml, where PyYAML was built with it: in a fifth of
the time. A small one would only bring the library's code into memory."""


class _StrictLoader(yaml.SafeLoader):
    """A safe loader for the YAML 1.2 core types that refuses a key written twice.

    YAML 1.1 reads `mode: off` as false and `22:22` as 1342; both would surprise here.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Merge keys (`<<`) are no part of YAML 1.2, and each key need be looked at only once.
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            is_text = key_node.tag == _TEXT
            key = key_node.value if is_text else self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(f"line {line}: key {key!r} is not text; quote it")
            if key in found:
                raise ConfigError(f"line {line}: key {key!r} is written twice")
            found[key] = self.construct_object(value_node, deep=deep)
        return found


def _culprit(
    message: str, data: dict[str, Any], place: str, shape: type[Any]
) -> tuple[str, dict[str, Any]]:
    """Find which entry of the mapping at `place` the message is about: the one that fails alone.

    Returns:
        Its name, and the data with that mapping cut down to it.
    """
    for name in _follow(data, place):
        alone = copy.deepcopy(data)
        entries = _follow(alone, place)
        for other in [key for key in entries if key != name]:
            del entries[other]
        try:
            msgspec.convert(alone, shape)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return name, alone
    return "?", data


def _follow(data: Any, place: str) -> dict[str, Any]:
    for part in re.findall(r"[^.\[\]]+", place):
        data = data[int(part) if isinstance(data, list) else part]
    return data if isinstance(data, dict) else {}


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile("^[-+]?[0-9]+$"), list("-+0123456789")
)


def _loader(size: int) -> type[yaml.SafeLoader]:
    fast = getattr(yaml, "CSafeLoader", None)
    if size < LARGE or fast is None:
        return _StrictLoader
    # Reads and composes by libyaml, resolves and constructs as above.
    members = {
        "yaml_implicit_resolvers": _StrictLoader.yaml_implicit_resolvers,
        "construct_mapping": _StrictLoader.construct_mapping,
    }
    return type("_FastLoader", (fast,), members)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pause the search for cycles of garbage.

    A large file becomes millions of objects that all stay, and most of the time would go into
    looking through them again and again: with 10,000 projects two thirds of it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def decode(path: Path, shape: type[T]) -> T:
    """Return what a YAML file holds, as `shape`; unknown keys are refused.

    Raises:
        ConfigError: it cannot be read, is no YAML, or has another shape: `KEY: reason`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_SIZE:
            raise ConfigError(f"file of {size} bytes exceeds limit of {MAX_FILE_SIZE}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot be read: {reason}") from error
    try:
        data = yaml.load(text, Loader=_loader(len(text)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ConfigError(f"{where}not YAML: {getattr(error, 'problem', error)}") from error
    except RecursionError as error:
        raise ConfigError("not YAML: nested too deeply") from error
    try:
        return msgspec.convert(data if data is not None else {}, shape)
    except msgspec.ValidationError as error:
        raise ConfigError(_keyed(str(error), data, shape)) from error


def _keyed(message: str, data: object, shape: type[Any]) -> str:
    """Turn msgspec's "reason - at `$.a[...].b`" into "a.name.b: reason"."""
    reason, found, where = message.partition(" - at `")
    key = where.rstrip("`").removeprefix("key in `").lstrip("$").lstrip(".") if found else ""
    while "[...]" in key and isinstance(data, dict):
        head = key.partition("[...]")[0]
        name, data = _culprit(message, data, head, shape)
        key = key.replace("[...]", f".{name}", 1)
    reason = reason.replace("Object contains unknown field", "unknown key")
    reason = reason.replace("Object missing required field", "missing key")
    return f"{key or '(top)'}: {reason}"
