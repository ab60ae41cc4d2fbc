"""The OpenAPI 3.1 document, made from the operations and the very models that validate."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter

from sync.http import Operation
from sync.models import Model, Problem

_REF = "#/components/schemas/{model}"
_TITLES = {
    200: "Done", 201: "Created", 202: "Accepted", 204: "Gone", 304: "Not modified", 400: "Malformed", 401: "No or wrong key",
    404: "Not found", 409: "Conflict", 412: "Changed meanwhile", 413: "Too large", 422: "Invalid",
    429: "Too soon", 500: "Our fault", 502: "Microsoft refuses", 503: "Not now",
}  # fmt: skip


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The whole document as JSON."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(f"/{one.path}", {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tenantsync",
            "version": version,
            "summary": "Keeps Microsoft 365 tenants in step with a portal.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api"}],
        "security": [{"header": []}, {"query": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "query": {"type": "apiKey", "in": "query", "name": "code"},
            },
        },
    }


def _operation(one: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.id,
        "summary": one.summary,
        "parameters": [*_path_parameters(one.path), *_query_parameters(one.query), *_header_parameters(one)],
        "responses": {str(status): _answer(status, body, schemas) for status, body in one.answers.items()},
    }
    for status in _errors(one):
        described["responses"].setdefault(str(status), _problem(status, schemas))
    if one.body is not None:
        content = {"application/json": {"schema": _schema(one.body, schemas, "validation")}}
        described["requestBody"] = {"required": not (one.optional_body or one.instead_of_body), "content": content}
    if one.anonymous:
        described["security"] = []
    return described


def _errors(one: Operation) -> list[int]:
    """The problems that an operation may answer with."""
    usual = [500]
    if not one.anonymous:
        usual += [503]
    if "{" in one.path:
        usual += [404]
    if one.body is not None:
        usual += [400, 422]
    if one.method != "GET":
        usual += [409, 413]
    if one.query is not None:
        usual += [422]
    if one.method == "POST":
        usual += [422]
    return sorted({*usual, *one.errors})


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(query: type[Model] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    properties = query.model_json_schema(by_alias=True)["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _header_parameters(one: Operation) -> list[dict[str, Any]]:
    names = []
    if 412 in one.errors:
        names.append("If-Match")
    if 304 in one.answers:
        names.append("If-None-Match")
    if one.takes_key:
        names.append("Idempotency-Key")
    return [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in names]


def _answer(status: int, body: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _TITLES[status]}
    if isinstance(body, str):
        answer["content"] = {body: {}}
    elif body is not None:
        answer["content"] = {"application/json": {"schema": _schema(body, schemas, "serialization")}}
    elif status == 200:
        answer["content"] = {"application/json": {"schema": {"type": "object"}}}
    return answer


def _problem(status: int, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = _schema(Problem, schemas, "serialization")
    return {"description": _TITLES[status], "content": {"application/problem+json": {"schema": schema}}}


def _schema(kind: Any, schemas: dict[str, Any], mode: Any) -> dict[str, Any]:
    """The schema of a type, its parts put among `schemas`."""
    if isinstance(kind, Mapping):
        return {"anyOf": [_schema(one, schemas, mode) for one in kind.values()]}
    if get_origin(kind) is list:
        item = _schema(get_args(kind)[0], schemas, mode)
        following = {"type": ["string", "null"]}
        return {
            "type": "object",
            "properties": {"items": {"type": "array", "items": item}, "next": following},
            "required": ["items", "next"],
        }
    schema = TypeAdapter(kind).json_schema(mode=mode, by_alias=True, ref_template=_REF)
    schemas.update(schema.pop("$defs", {}))
    if isinstance(kind, type) and issubclass(kind, Model):
        schemas[kind.__name__] = schema
        return {"$ref": _REF.format(model=kind.__name__)}
    return schema
