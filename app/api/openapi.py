"""The OpenAPI 3.1 document, made from the rows. `python -m app.api.openapi` prints it."""

from __future__ import annotations

import re
import sys
from typing import Any, Final

import msgspec

from app import durations
from app.api.auth import Credential
from app.api.operation import Operation
from app.api.operations import OPERATIONS
from app.api.problems import MEDIA_TYPE, ProblemDocument
from app.api.schema import SESSION_ID, USER_ID
from app.errors import Problem
from app.model import SECOND

_VERSION: Final = "0.1.0"
_REF: Final = "#/components/schemas/{name}"
_SCHEMES: Final = {
    "apiKey": "A tenant's secret key, sk_live_… or sk_test_…",
    "accessToken": "An end user's access token (JWT)",
    "adminKey": "The operator's key, mk_live_…",
}
_SECURITY: Final[dict[Credential, tuple[tuple[str, ...], ...]]] = {
    "key": (("apiKey",),),
    "user": (("accessToken",),),
    "admin": (("adminKey",),),
    "key_or_admin": (("apiKey",), ("adminKey",)),
    "optional_key": ((), ("apiKey",)),
    "none": (),
}
_FORMS: Final = {
    "session_id": SESSION_ID,
    "tenant_id": "tnt_[0-9A-Z]{26}",
    "key_id": "[A-Za-z0-9_-]{1,64}",
    "kid": "[A-Za-z0-9_-]{1,64}",
    "user_id": USER_ID,
    "file": "[a-z]+\\.js",
}
_PYTHON_END: Final = re.compile(r"(?:\$\(\?!\\n\)|\\Z)$")
_TENANT_HEADER: Final = {
    "name": "X-Tenant-ID",
    "in": "header",
    "required": False,
    "description": "Must be the tenant of the credential; with the operator's key it names the tenant",
    "schema": {"type": "string", "pattern": "^tnt_[0-9A-Z]{26}$"},
}
_IDEMPOTENCY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!#-\\[\\]-~]{1,255}$"},
}
_IF_MATCH_HEADER: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the answer that this change is based on; without it the change is merged into what is",
    "schema": {"type": "string", "pattern": '^(\\*|"v[1-9][0-9]{0,14}")$'},
}


def document(operations: tuple[Operation, ...]) -> dict[str, Any]:
    """As plain data, in the order of the rows."""
    shapes = [shape for row in operations for shape in (row.body, row.query, row.answer) if shape is not None]
    _, components = msgspec.json.schema_components([*dict.fromkeys([*shapes, ProblemDocument])], ref_template=_REF)
    components = _portable(components)
    paths: dict[str, dict[str, Any]] = {}
    for row in operations:
        paths.setdefault(row.path, {})[row.method.lower()] = _entry(row, components)
    for shape in {row.query.__name__ for row in operations if row.query is not None}:
        del components[shape]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HelloJohn sessions",
            "version": _VERSION,
            "description": "Sessions as a service: signed access tokens, rotating refresh tokens, instant revocation.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text} for name, text in _SCHEMES.items()
            },
        },
    }


def _portable(node: Any) -> Any:
    """With the ends of patterns as every dialect has them: Python's `$` alone lets a last line break pass."""
    if isinstance(node, dict):
        return {
            key: _PYTHON_END.sub("$", value) if key == "pattern" and isinstance(value, str) else _portable(value)
            for key, value in node.items()
        }
    return [_portable(item) for item in node] if isinstance(node, list) else node


def encoded(operations: tuple[Operation, ...]) -> bytes:
    """As it is served and committed."""
    return msgspec.json.format(msgspec.json.encode(document(operations)), indent=2) + b"\n"


def _entry(row: Operation, components: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "security": _security(row),
        "responses": _responses(row),
    }
    parameters = _parameters(row, components)
    if parameters:
        entry["parameters"] = parameters
    if row.body is not None:
        shape = {"$ref": _REF.format(name=row.body.__name__)}
        entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": shape}}}
    return entry


def _security(row: Operation) -> list[dict[str, list[str]]]:
    """With the scope that an API key needs (OpenAPI 3.1, "Security Requirement Object")."""
    scopes: list[str] = [] if row.scope is None else [row.scope]
    return [{name: scopes if name == "apiKey" else [] for name in choice} for choice in _SECURITY[row.credential]]


def _parameters(row: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": _pattern(name, row)}}
        for name in re.findall(r"\{(\w+)\}", row.path)
    ]
    if row.query is not None:
        query = components[row.query.__name__]
        found += [
            {"name": name, "in": "query", "required": name in query.get("required", []), "schema": shape}
            for name, shape in query["properties"].items()
        ]
    if row.credential in ("key", "user", "key_or_admin", "optional_key"):
        found.append(_TENANT_HEADER)
    if row.repeatable:
        found.append({**_IDEMPOTENCY_HEADER, "description": _repeated(row)})
    if row.conditional:
        found.append(_IF_MATCH_HEADER)
    return found


def _repeated(row: Operation) -> str:
    """What an `Idempotency-Key` does."""
    if not row.kept_ms:
        return "A name for this call: repeated within a day it happens once, and gets the same answer"
    kept = durations.text(row.kept_ms // SECOND)
    return f"With an API key, a name for this call: repeated within {kept} it happens once, and gets the same answer"


def _pattern(name: str, row: Operation) -> str:
    """The form of an id in a path; end users may say `current` for the session they have."""
    form = _FORMS[name]
    return f"^(current|{form})$" if name == "session_id" and row.credential == "user" else f"^{form}$"


def _responses(row: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if row.status != 204:
        shape = {} if row.answer is None else {"$ref": _REF.format(name=row.answer.__name__)}
        good["content"] = {row.media_type: {"schema": shape}}
    by_status: dict[int, list[type[Problem]]] = {}
    for problem in row.problems:
        by_status.setdefault(problem.status, []).append(problem)
    refused = {"schema": {"$ref": _REF.format(name=ProblemDocument.__name__)}}
    return {str(row.status): good} | {
        str(status): {
            "description": ", ".join(problem.code for problem in by_status[status]),
            "content": {MEDIA_TYPE: refused},
        }
        for status in sorted(by_status)
    }


if __name__ == "__main__":
    sys.stdout.write(encoded(OPERATIONS).decode())
