"""The API's document: valid, equal to the code, and without anything left undescribed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from onetrip.control import document
from onetrip.control.openapi import document as make
from onetrip.control.openapi import text
from onetrip.control.operations import OPERATIONS
from onetrip.control.problems import KINDS, problem_kind
from onetrip.errors import ApiError

DOCS = Path(__file__).parents[3] / "docs"
MADE = make()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in MADE["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_document_is_valid_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(MADE).iter_errors()] == []


def test_files_are_what_the_code_says() -> None:
    assert document.load()[0].decode() == text(), "run `make docs`"
    assert (DOCS / "openapi.json").read_text(encoding="utf-8") == text(), "run `make docs`"


def test_every_operation_is_in_it_once() -> None:
    found = [operation["operationId"] for _, operation in operations()]
    assert sorted(found) == sorted(each.name for each in OPERATIONS)


def test_everything_is_described() -> None:
    for where, operation in operations():
        assert operation["summary"], where
        assert all(each["description"] for each in operation["parameters"]), where
        for status, reply in operation["responses"].items():
            shared = MADE["components"]["responses"].get(status, {})
            assert reply.get("description") or shared["description"], (where, status)
    for name, schema in MADE["components"]["schemas"].items():
        assert schema["description"], name
        assert "Attributes:" not in schema["description"], name


def test_attributes_of_a_docstring_describe_properties() -> None:
    properties = MADE["components"]["schemas"]["ProblemBody"]["properties"]
    assert properties["value"]["description"] == (
        'what was found there, cut to 40 characters, or "".'
    )
    shared = MADE["components"]["schemas"]["RegionRow"]["properties"]
    assert shared["instances"]["description"] == shared["instances_ready"]["description"]


def test_document_tells_the_limits_that_are_checked() -> None:
    patch = MADE["components"]["schemas"]["PlacementPatch"]["properties"]
    assert (patch["control"]["minimum"], patch["control"]["maximum"]) == (0, 0.5)
    assert sorted(patch["mode"]["enum"]) == ["off", "smart"]
    parameters = dict(operations())["get /v1/events"]["parameters"]
    assert parameters[0]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 100,
    }


def test_every_kind_of_problem_is_explained() -> None:
    for kind, expected in KINDS.items():
        assert problem_kind(kind.value).meaning == expected.meaning
    with pytest.raises(ApiError, match="no problem 'nothing'"):
        problem_kind("nothing")


def test_served_document_is_json_of_its_size() -> None:
    body, etag = document.load()
    assert json.loads(body) == MADE
    assert etag.startswith('"')
