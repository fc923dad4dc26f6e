"""What the doors say of themselves: OpenAPI, AsyncAPI, and a page that needs nothing from elsewhere."""

import html
import re
from functools import cache
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar._openapi.schema_generation import SchemaCreator
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from mesh_contracts import asyncapi
from mesh_contracts.schemas import WIDE_SCHEMA
from mesh_contracts.units import Wide

from inference_gateway.domain.body import CHAT, COMPLETE, EMBED, Operation

_VERB = re.compile(r"/(cordon|drain|return|check|redrive)$")
_PROBLEM = {
    "description": "Refused, with a stable `code` and what to do.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_ERROR = {
    "description": "Refused, in OpenAI's envelope, with a `code` and what to do.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}},
}
_SAID: dict[str, tuple[str, dict[str, Any]]] = {
    CHAT.path: ("Chat", {"messages": {"type": "array", "items": {"type": "object"}, "minItems": 1}}),
    COMPLETE.path: ("Complete a text", {"prompt": {"type": ["string", "array"]}}),
    EMBED.path: ("Embed texts", {"input": {"type": ["string", "array"]}}),
}


class WideSchema(OpenAPISchemaPlugin):
    """Integers that may pass 2^53 are decimal strings."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether the field is such an integer."""
        return field_definition.annotation is Wide

    def to_openapi_schema(
        self, field_definition: FieldDefinition, schema_creator: SchemaCreator
    ) -> Schema:
        """Return how it travels."""
        del field_definition, schema_creator
        return Schema(
            type=OpenAPIType.STRING, pattern=WIDE_SCHEMA["pattern"], format=WIDE_SCHEMA["format"]
        )


class Described(JsonRenderPlugin):
    """``/openapi.json``: what the framework knows, completed by the hot routes."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the document."""
        del request
        return msgspec.json.encode(completed(openapi_schema))


def completed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the hot routes, the verbs as people write them, keys and refusals."""
    paths: dict[str, Any] = {}
    for path, item in schema["paths"].items():
        spoken = _VERB.sub(r":\1", path)
        paths[spoken] = {
            method: _asked(method, spoken, operation) if path.startswith("/api/") else operation
            for method, operation in item.items()
        }
    for operation_ in (CHAT, COMPLETE, EMBED):
        paths[operation_.path] = {"post": _hot(operation_)}
    paths["/api/v1/events"] = {"get": _EVENTS}
    paths["/v1/models"] = {"get": _models("List the models of the key's project.", "ModelList")}
    paths["/v1/models/{model}"] = {
        "get": {
            **_models("Show one model.", "Model"),
            "operationId": "getModel",
            "parameters": [
                {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
            ],
        }
    }
    components = schema.get("components", {})
    schemas = {**components.get("schemas", {}), **_SCHEMAS}
    return {
        **schema,
        "paths": paths,
        "components": {
            **components,
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key answers the same for 24 hours; with another body it is refused (422).",
    "schema": {"type": "string", "maxLength": 255},
}

_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The object's `generation`, as it was last read; refused (412) where it has changed.",
    "schema": {"type": "string"},
}
_HEEDS_GENERATION = re.compile(r"/api/v1/((endpoints|jobs|keys|leases|nodes|sites)/\{|quotas$)")

_EVENTS: dict[str, Any] = {
    "tags": ["events"],
    "summary": "Events",
    "operationId": "readEvents",
    "description": "What happened to the caller's project (an admin: to all), as CloudEvents 1.0: a "
    "stream of server-sent events, each `id` a cursor; or, with `limit` or `Accept: application/json`, "
    "a page. Resume with `Last-Event-ID` or `after`.",
    "security": [{"key": []}],
    "parameters": [
        {"name": name, "in": place, "required": False, "description": said, "schema": {"type": kind}}
        for name, place, kind, said in (
            ("after", "query", "string", "A cursor: what comes after it."),
            ("Last-Event-ID", "header", "string", "A cursor, as event sources send it."),
            ("limit", "query", "integer", "Events of a page at most (1000)."),
            ("types", "query", "string", "Types, with commas between; `*` at an end is any rest."),
            ("project", "query", "string", "A project's id."),
        )
    ],
    "responses": {
        "200": {
            "description": "Events from the cursor on; without one, from the first that is kept.",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}},
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "items": {"type": "array", "items": {"type": "object"}},
                            "next": {"type": ["string", "null"]},
                            "cursor": {"type": "string"},
                        },
                        "required": ["items", "next", "cursor"],
                    }
                },
            },
        },
        "410": _PROBLEM,
        "default": _PROBLEM,
    },
}

_SCHEMAS: dict[str, Any] = {
    "OpenAIError": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
    },
    "Problem": {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "param": {"type": "string"},
            "reasons": {"type": "array", "items": {"type": "object"}},
            "retry_after_s": {"type": "integer"},
        },
        "required": ["title", "status", "code", "detail"],
    },
    "Model": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
            "state": {"type": "string"},
            "embedding": {"type": "boolean"},
        },
        "required": ["id", "object", "created", "owned_by"],
    },
    "ModelList": {
        "type": "object",
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        },
        "required": ["object", "data"],
    },
}


def _asked(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Return a path under ``/api`` with its headers and refusals. The framework keeps its own document."""
    headers = [_IDEMPOTENCY] if method == "post" else []
    if method != "get" and _HEEDS_GENERATION.match(path):
        headers.append({**_IF_MATCH, "required": method == "patch"})
    answers = {status: one for status, one in operation["responses"].items() if status != "400"}
    return {
        **operation,
        "parameters": [*operation.get("parameters", []), *headers],
        "responses": {**answers, "default": _PROBLEM},
        "security": [{"key": []}],
    }


def _hot(operation: Operation) -> dict[str, Any]:
    said, needs = _SAID[operation.path]
    properties: dict[str, Any] = {"model": {"type": "string"}, **needs}
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if operation.streams:
        properties["stream"] = {"type": "boolean"}
        properties["stream_options"] = {"type": "object"}
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    body = {"type": "object", "properties": properties, "required": ["model", *needs]}
    return {
        "tags": ["openai"],
        "summary": said,
        "operationId": operation.name,
        "description": f"{said}, in OpenAI's shape; fields not listed pass through to the engine.",
        "security": [{"key": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "The answer; `x-request-id` names the request.", "content": answers},
            **dict.fromkeys(("400", "401", "403", "404", "413", "422", "429", "503"), _ERROR),
        },
    }


def _models(said: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "tags": ["openai"],
        "summary": said,
        "operationId": "listModels",
        "security": [{"key": []}],
        "responses": {"200": {"description": said, "content": content}, "default": _ERROR},
    }


@cache
def _asyncapi() -> bytes:
    return msgspec.json.encode(asyncapi.document())


@get("/asyncapi.json", include_in_schema=False)
async def asyncapi_json() -> Response[bytes]:
    """Describe the bus."""
    return Response(_asyncapi(), media_type="application/json")


@get(["/", "/docs"], include_in_schema=False, media_type=MediaType.HTML)
async def docs(request: Request[Any, Any, Any]) -> str:
    """List every path on one page, without scripts and without anything from elsewhere."""
    page = request.app.state.get("docs")
    if page is None:
        # Once: it takes the time of many requests, and anybody may ask.
        schema = request.app.openapi_schema.to_schema()
        page = request.app.state["docs"] = _page(completed(schema))
    return str(page)


def _page(schema: dict[str, Any]) -> str:
    rows = []
    for path, item in sorted(schema["paths"].items()):
        for method, operation in item.items():
            said = operation.get("description") or operation.get("summary") or ""
            cells = (method.upper(), path, said.replace("`", ""))
            rows.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Compute Mesh</title>"
        "<style>body{font:15px system-ui;margin:2em}td{padding:.2em 1em;vertical-align:top}"
        "td:nth-child(-n+2){font-family:monospace}</style>"
        "<h1>Compute Mesh</h1><p>Machines read <a href='/openapi.json'>/openapi.json</a> and "
        "<a href='/asyncapi.json'>/asyncapi.json</a>. Send "
        "<code>Authorization: Bearer &lt;key&gt;</code>.</p>"
        f"<table>{table}</table></html>"
    )


DOCUMENTS = [asyncapi_json, docs]
