"""Makes the API's OpenAPI 3.1 document from the table of operations and the structs.

`make docs` writes it to `control/openapi.json`, which nodes serve, and to `docs/`. Words come from
docstrings: the first paragraphs of a struct describe its schema, its `Attributes:` the properties.

Source: https://spec.openapis.org/oas/v3.1.1, RFC 9457 for refusals.
"""

from __future__ import annotations

import inspect
import json
import re
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

import onetrip
from onetrip.control.about import OpenApiBody, ProblemBody
from onetrip.control.api_versions import CHANGES, LATEST, VERSIONS
from onetrip.control.api_versions import HEADER as VERSION_HEADER
from onetrip.control.operations import OPERATIONS, Operation
from onetrip.control.problems import KINDS, MEDIA_TYPE
from onetrip.control.replays import HEADER

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"

_ABOUT = """JSON over HTTP on `admin.listen`. Names that end in `_ms` are milliseconds, in `_at` \
Unix seconds; whatever is not known is `null`. Refusals are problem documents (RFC 9457) that name \
the field, its value and its limit."""

PARAMETERS: dict[str, tuple[str, Json]] = {
    "edge": ("Only as seen from this region.", {"type": "string"}),
    "route": ("Only this route, as it is listed.", {"type": "string"}),
    "environment": ("Only this environment of the project.", {"type": "string"}),
    "method": ("Only reads, or only writes.", {"type": "string", "enum": ["read", "write"]}),
    "project": ("Only this project.", {"type": "string"}),
    "name": ("A project.", {"type": "string", "minLength": 1}),
    "cursor": (
        "Where to go on: the `next` of an earlier reply.",
        {"type": "string"},
    ),
    "dry_run": (
        "Check, and tell what would be; change nothing.",
        {"type": "boolean", "default": False},
    ),
    "deployment": ("A deployment, by its id.", {"type": "string", "minLength": 1}),
    "binding": ("A binding of an environment.", {"type": "string", "minLength": 1}),
    "host": ("A host name.", {"type": "string", "minLength": 1}),
    "token": ("Name of a token.", {"type": "string", "minLength": 1}),
    "webhook": ("Name of a webhook.", {"type": "string", "minLength": 1}),
    "kind": (
        "Short name of a type of problem document.",
        {"type": "string", "enum": [kind.value for kind in KINDS]},
    ),
}
"""What each parameter of an address or a query means, and its schema; `limit` has its own."""

_KEY: Json = {
    "name": HEADER,
    "in": "header",
    "description": "A text of your choice: a request that is sent again with it within a day is "
    "not carried out again, but gets the first one's reply.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}

_LAST: Json = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Go on after this event; what happened meanwhile comes first.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}

_VERSION: Json = {
    "name": VERSION_HEADER,
    "in": "header",
    "description": "The version of the API that the client was made for: "
    + " ".join(f"{each.date} {each.name}: {each.does}." for each in CHANGES),
    "schema": {"type": "string", "enum": list(VERSIONS), "default": LATEST},
}

_ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<text>.*)", re.DOTALL)


def text() -> str:
    """Return the document as it is written to disk."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def document() -> Json:
    """Return the document."""
    paths: dict[str, Json] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "onetrip admin API",
            "version": onetrip.__version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The node that serves this document."}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {str(status): _refusal(status) for status in _all_statuses()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token made by `onetrip token create`, or that of "
                    "`admin.token_file` or `admin.token_env`. A node without the latter answers "
                    "on loopback only, and needs none.",
                }
            },
        },
    }


def refusals_of(operation: Operation) -> list[int]:
    """Return every status code above 399 that an operation can answer with."""
    found = {403, 500, *operation.statuses}
    if operation.query is not None or operation.path.startswith("/v1/"):
        found.add(400)
    if not operation.is_open:
        found |= {401, 429}
    if "{" in operation.path:
        found.add(404)
    if operation.is_change:
        found |= {400, 408, 413, 415}
    if operation.is_change and operation.is_replayed:
        found |= {409, 422}
    return sorted(found)


def _operation(operation: Operation) -> Json:
    made: Json = {
        "operationId": operation.name,
        "summary": operation.does,
        "description": _scope_note(operation),
        "parameters": _parameters(operation),
        "responses": _replies(operation),
    }
    if operation.is_open:
        made["security"] = []
    if operation.body is not None:
        is_needed = any(field.required for field in msgspec.structs.fields(operation.body))
        made["requestBody"] = {
            "required": is_needed or operation.method == "PATCH",
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    if operation.media_in:
        schema = {"type": "string", "format": "binary"}
        made["requestBody"] = {
            "required": True,
            "content": {operation.media_in: {"schema": schema}},
        }
    return made


def _scope_note(operation: Operation) -> str:
    return "" if operation.is_open else f"Needs scope `{operation.scope.value}`."


def _parameters(operation: Operation) -> list[Json]:
    found = [_parameter(name, "path") for name in re.findall(r"\{(\w+)\}", operation.path)]
    for name in operation.query or ():
        found.append(_limit(operation) if name == "limit" else _parameter(name, "query"))
    if operation.has_etag:
        name, text = (
            ("If-Match", "Change only what has this entity tag.")
            if operation.is_change
            else ("If-None-Match", "Send nothing (304) if the entity tag is still this one.")
        )
        if operation.is_change or operation.reply is OpenApiBody:
            found.append(
                {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
            )
    if operation.is_change and operation.is_replayed:
        found.append(_KEY)
    if operation.path.startswith("/v1/"):
        found.append(_VERSION)
    if operation.media_type == "text/event-stream":
        found.append(_LAST)
    return found


def _parameter(name: str, where: str) -> Json:
    text, schema = PARAMETERS[name]
    return {
        "name": name,
        "in": where,
        "description": text,
        "required": where == "path",
        "schema": schema,
    }


def _limit(operation: Operation) -> Json:
    default, most = operation.rows
    return {
        "name": "limit",
        "in": "query",
        "description": "Most rows of the reply.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": most, "default": default},
    }


def _replies(operation: Operation) -> Json:
    made: Json = {}
    if operation.reply is None and operation.media_type == "application/json":
        made["204"] = {"description": "Done; there is nothing to tell."}
    else:
        schema = {"type": "string"} if operation.reply is None else _ref(operation.reply)
        done: Json = {
            "description": operation.does,
            "content": {operation.media_type: {"schema": schema}},
        }
        if operation.has_etag:
            done["headers"] = {
                "ETag": {"description": "Changes with the body.", "schema": {"type": "string"}}
            }
        made[str(operation.status)] = done
        if operation.may_exist:
            made["200"] = {**done, "description": "It is there already, or this is a dry run."}
    if operation.reply is OpenApiBody:
        made["304"] = {"description": "The client has this document already."}
    for status in refusals_of(operation):
        made[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return made


def _all_statuses() -> list[int]:
    return sorted({status for each in OPERATIONS for status in refusals_of(each)})


def _refusal(status: int) -> Json:
    meanings = [each.meaning for each in KINDS.values() if status in each.statuses]
    made: Json = {
        "description": " ".join([f"{HTTPStatus(status).phrase}.", *meanings]),
        "content": {MEDIA_TYPE: {"schema": _ref(ProblemBody)}},
    }
    if status == 429:
        made["headers"] = {
            "Retry-After": {"description": "s.", "schema": {"type": "integer", "minimum": 1}}
        }
    if status == 401:
        made["headers"] = {
            "WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}
        }
    return made


def _ref(struct: type[Struct]) -> Json:
    return {"$ref": _REF.format(name=struct.__name__)}


def _schemas() -> Json:
    roots: set[type[Struct]] = {
        t for each in OPERATIONS for t in (each.reply, each.body) if t is not None
    }
    roots.add(ProblemBody)
    ordered = sorted(roots, key=lambda each: each.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    for schema in schemas.values():
        _describe(schema)
    schemas["ProblemBody"]["properties"]["kind"]["enum"] = [kind.value for kind in KINDS]
    return dict(sorted(schemas.items()))


def _describe(schema: Json) -> None:
    """Move what a docstring says of attributes to the properties."""
    head, _, tail = inspect.cleandoc(schema.get("description", "")).partition("\nAttributes:\n")
    schema["description"] = " ".join(head.split())
    for entry in re.split(r"\n(?=    \S)", "\n" + tail):
        found = _ENTRY.fullmatch(" ".join(entry.split()))
        for name in found["names"].split(", ") if found else ():
            schema["properties"][name]["description"] = found["text"] if found else ""
