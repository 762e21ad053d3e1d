"""Checks exchanges against Fly's OpenAPI document.

`fly-machines-openapi.json` is Fly's own document of 2026-05-07 (OpenAPI 3.0.1, Apache 2.0). It is not the whole
contract: what it leaves out although Fly's docs or Fly's own client have it stands in the tables below, each with its
source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import jsonschema_rs

_FILE = Path(__file__).parents[1] / "fly-machines-openapi.json"

MACHINE = "/apps/{app_name}/machines/{machine_id}"

EXTRA_QUERY: dict[tuple[str, str], set[str]] = {
    ("DELETE", "/apps/{app_name}"): {"force"},  # Fly docs, apps resource
    ("POST", "/apps"): {"wait"},  # Fly's Go client sends it
    ("GET", "/apps"): {"cursor", "limit"},  # Fly's Go client (flaps_apps_test.go)
    ("DELETE", MACHINE): {"kill"},  # Fly's Go client always sends it
}
EXTRA_REQUEST_FIELDS: dict[tuple[str, str], set[str]] = {
    ("POST", "/apps"): {"app_name"},  # Fly docs' examples
}
EXTRA_RESPONSE_FIELDS = {"version", "cordoned", "message", "status", "next_cursor"}  # Fly's Go client reads them

# The document has no statuses of refusals on most calls. Fly's docs, Fly's Go client and its tests have these.
REFUSALS = {400, 401, 403, 404, 408, 409, 412, 422, 429, 500, 502, 503, 504}
# A request that was refused for being wrong may be wrong.
REFUSED_AS_WRONG = {400, 422}


class Exchange(Protocol):
    """One request and its answer."""

    @property
    def method(self) -> str:
        """HTTP method."""

    @property
    def path(self) -> str:
        """Path, with `/v1`."""

    @property
    def query(self) -> Mapping[str, Any]:
        """Query parameters."""

    @property
    def request(self) -> object:
        """JSON body, or None."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def response(self) -> object:
        """JSON body, or None."""


class SpecError(AssertionError):
    """An exchange that Fly's document does not allow."""


def check_exchange(exchange: Exchange) -> None:
    """Check path, query, request body with every property's name, status and response body.

    Raises:
        SpecError: Something is not as Fly documents it.
    """
    where = f"{exchange.method} {exchange.path}"
    template, operation = _operation(exchange.method, exchange.path)
    _check_query(where, exchange, template, operation)
    if exchange.status not in REFUSED_AS_WRONG:
        _check_request(where, exchange, template, operation)
    _check_response(where, exchange, operation)


def _check_query(where: str, exchange: Exchange, template: str, operation: dict[str, Any]) -> None:
    known = {item["name"] for item in operation.get("parameters", []) if item["in"] == "query"}
    known |= EXTRA_QUERY.get((exchange.method, template), set())
    for name in exchange.query:
        by_metadata = name.startswith("metadata.") and template.endswith("/machines")  # Fly docs, list machines
        if name not in known and not by_metadata:
            raise SpecError(f"{where}: Fly knows no query parameter {name!r}, only {sorted(known)}")


def _check_request(where: str, exchange: Exchange, template: str, operation: dict[str, Any]) -> None:
    schema = _json_schema(operation.get("requestBody", {}))
    if schema is None:
        if exchange.request not in (None, {}):
            raise SpecError(f"{where}: Fly takes no request body here")
        return
    if exchange.request is None and not operation["requestBody"].get("required"):
        return
    _validate(f"{where}: request", schema, exchange.request)
    extra = EXTRA_REQUEST_FIELDS.get((exchange.method, template), set())
    _check_names(f"{where}: request", schema, exchange.request, extra)


def _check_response(where: str, exchange: Exchange, operation: dict[str, Any]) -> None:
    if exchange.status in REFUSALS:
        body = exchange.response
        if not isinstance(body, dict) or not isinstance(body.get("error") or body.get("message"), str):
            raise SpecError(f"{where}: a refusal says why in `error`, not {body!r}")
        return
    response = operation["responses"].get(str(exchange.status))
    if response is None:
        raise SpecError(f"{where}: Fly answers {sorted(operation['responses'])}, not {exchange.status}")
    schema = _json_schema(response)
    if schema is not None:
        _validate(f"{where}: response", schema, exchange.response)
        _check_names(f"{where}: response", schema, exchange.response, EXTRA_RESPONSE_FIELDS)


def _operation(method: str, path: str) -> tuple[str, dict[str, Any]]:
    if not path.startswith("/v1/"):
        raise SpecError(f"{method} {path}: every path of the Machines API begins with /v1/")
    for template, operations in _document()["paths"].items():
        pattern = re.sub(r"\{[^}]*\}", "[^/]+", template)
        if re.fullmatch(pattern, path.removeprefix("/v1")) and method.lower() in operations:
            return template, operations[method.lower()]
    raise SpecError(f"{method} {path}: Fly has no such call")


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_FILE.read_text())
    return document


def _json_schema(holder: dict[str, Any]) -> dict[str, Any] | None:
    content = holder.get("content", {})
    found: dict[str, Any] | None = content.get("application/json", {}).get("schema")
    return found


def _validate(where: str, schema: dict[str, Any], value: object) -> None:
    validator = jsonschema_rs.Draft4Validator({**schema, "components": _document()["components"]})
    for error in validator.iter_errors(value):
        raise SpecError(f"{where}: {'.'.join(map(str, error.instance_path)) or 'body'}: {error.message}")


def _check_names(where: str, schema: dict[str, Any], value: object, extra: set[str]) -> None:
    """Every property of `value` must be named in its schema: a typo would pass where nothing is required."""
    schema = _resolve(schema)
    if isinstance(value, list):
        for item in value:
            _check_names(where, schema.get("items", {}), item, extra)
    if not isinstance(value, dict):
        return
    properties: dict[str, Any] = schema.get("properties", {})
    anything = schema.get("additionalProperties")
    for name, item in value.items():
        if name in properties:
            _check_names(f"{where}.{name}", properties[name], item, set())
        elif isinstance(anything, dict):
            _check_names(f"{where}.{name}", anything, item, set())
        elif properties and not anything and name not in extra:
            raise SpecError(f"{where}: Fly knows no property {name!r}, only {sorted(properties)}")


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = _document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= _resolve(part).get("properties", {})
        return {"properties": merged}
    return schema
