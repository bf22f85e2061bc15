"""The OpenAPI document: complete, and true of the server, whatever is asked by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from market_spine.domain.serving import Scope
from market_spine_tests.api.server import Api

EXAMPLES = 12  # per operation, 30 s in all; beside them schemathesis tries the bounds of every parameter
HELD_TO = (status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance)


@pytest.fixture(scope="session")
def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.ask("GET", "openapi.json", None).json()
    return found


@pytest.fixture(scope="session")
def schema(api: Api, document: dict[str, Any]) -> Any:
    found = schemathesis.openapi.from_dict(document)
    found.config.update(base_url=api.url)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_says_everything(document: dict[str, Any]) -> None:
    """Prevents an integrator from having to guess: every operation, parameter and field is described."""
    lacking = []
    for name, operation in operations(document):
        lacking += [f"{name}: {part}" for part in ("summary", "description", "tags") if not operation.get(part)]
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "header" and not parameter.get("description"):
                lacking.append(f"{name}: parameter {parameter['name']}")
        if "/health/" not in name:
            lacking += [f"{name}: {status}" for status in ("401", "429") if status not in operation["responses"]]
            lacking += [] if operation.get("security") else [f"{name}: security"]
    for name, schema in document["components"]["schemas"].items():
        if name not in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no answer has
            members = schema.get("properties", {}).items()
            lacking += [f"{name}: {member}" for member, told in members if not told.get("description")]
    assert lacking == []


def test_failures_are_problems(document: dict[str, Any]) -> None:
    """Prevents a documented failure from having another form than the others."""
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)


lazy = schemathesis.pytest.from_fixture("schema")


@lazy.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_keeps_to_the_document(case: Any, api: Api) -> None:
    """Prevents a status, media type, header or body that the document does not have; 5xx other than the 503 in it."""
    headers = {"Authorization": f"Bearer {api.tokens[Scope.ADMIN]}"}
    response = case.call(headers=headers, timeout=60)
    if response.status_code != 503:
        case.validate_response(response, checks=[not_a_server_error])
    case.validate_response(response, checks=list(HELD_TO))
