"""The document and the errors as pages: rendered here, with no script and no outside address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from app.api.problems import PAGE, type_of
from app.errors import Problem

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h2{margin-top:2.5rem;border-bottom:1px solid #ccc}section{margin:1.5rem 0}h3{margin:0;font-size:1rem}"
    "code{font:14px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}b.m{display:inline-block;min-width:4.5rem}"
    "table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;vertical-align:top;"
    "padding:.2rem .8rem .2rem 0;border-bottom:1px solid #eee}caption{text-align:left}"
    "section:target{outline:2px solid;outline-offset:.5rem}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}td,th{border-color:#333}a{color:#8bf}}"
)
_BOUNDS: Final = {
    "minLength": "at least {} characters",
    "maxLength": "up to {} characters",
    "pattern": "of the form {}",
    "minItems": "at least {} items",
    "maxItems": "up to {} items",
    "minimum": "at least {}",
    "maximum": "up to {}",
}
_ABOUT: Final = (
    "Every refusal is a document of the type `application/problem+json` (RFC 9457). Decide by its `code`, which is "
    "stable; `detail` is for people and may change. `field` names what was wrong with the request, `scope` what an API "
    "key lacks; `request_id` stands in the log too. The header `Link` leads from each refusal to its place here."
)


def render(document: dict[str, Any]) -> bytes:
    """HTML for an OpenAPI document of ours."""
    info = document["info"]
    calls = "".join(
        _call(method, path, call) for path, methods in document["paths"].items() for method, call in methods.items()
    )
    shapes = "".join(_shape(name, shape) for name, shape in document["components"]["schemas"].items())
    return _page(
        info["title"],
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
        f'<p><a href="/openapi.json">openapi.json</a> · <a href="{PAGE}">errors, and what to do</a></p>'
        f"<h2>Calls</h2>{calls}<h2>Shapes</h2>{shapes}",
    )


def errors(catalogue: Sequence[type[Problem]]) -> bytes:
    """HTML that says of every refusal what it means and what to do: each has its code for an anchor. `catalogue`: by
    status."""
    by_status = [(status, list(some)) for status, some in groupby(catalogue, key=lambda kind: kind.status)]
    rows = "".join(
        f'<tr><th scope="row">{_status(status)}</th><td>{_codes([kind.code for kind in some])}</td></tr>'
        for status, some in by_status
    )
    parts = "".join(f"<h2>{_status(status)}</h2>{''.join(map(_problem, some))}" for status, some in by_status)
    return _page(
        "Errors – HelloJohn sessions",
        '<h1>Errors, and what to do</h1><p><a href="/docs">All calls</a></p>'
        f"<p>{_prose(_ABOUT)}</p>"
        f"<table><caption>All codes, by status</caption>{rows}</table>{parts}",
    )


def _problem(kind: type[Problem]) -> str:
    return (
        f'<section id="{kind.code}"><h3><code>{kind.code}</code></h3><p>{escape(kind.title)}.</p>'
        f"<p><b>What to do:</b> {_prose(kind.advice)}</p><p><code>{type_of(kind)}</code></p></section>"
    )


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def _page(title: str, inner: str) -> bytes:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{inner}</main></body></html>"
    ).encode()


def _prose(text: str) -> str:
    """With what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _codes(codes: Sequence[str]) -> str:
    return ", ".join(f'<a href="{PAGE}#{escape(code)}"><code>{escape(code)}</code></a>' for code in codes)


def _call(method: str, path: str, call: dict[str, Any]) -> str:
    who = " or ".join(map(_credential, call["security"])) or "nothing"
    rows = "".join(
        f"<tr><th>{escape(status)}</th><td>{_outcome(status, answer)} {_content(answer)}</td></tr>"
        for status, answer in call["responses"].items()
    )
    takes = _content(call.get("requestBody", {}))
    asks = ", ".join(f"<code>{escape(given['name'])}</code>" for given in call.get("parameters", []))
    return (
        f'<section id="{escape(call["operationId"])}"><h3><code><b class="m">{method.upper()}</b>'
        f"{escape(path)}</code></h3><p>{escape(call['summary'])}. Needs: {escape(who)}."
        f"{' Body: ' + takes + '.' if takes else ''}{' Parameters: ' + asks + '.' if asks else ''}</p>"
        f"<table>{rows}</table></section>"
    )


def _outcome(status: str, answer: dict[str, Any]) -> str:
    """A refusal is described by its codes."""
    text = answer["description"]
    return escape(text) if int(status) < 400 else _codes(text.split(", "))


def _credential(choice: dict[str, list[str]]) -> str:
    """`apiKey with sessions:read`."""
    return " and ".join(" with ".join([name, *scopes]) for name, scopes in choice.items()) or "nothing"


def _shape(name: str, shape: dict[str, Any]) -> str:
    needed = shape.get("required", [])
    rows = "".join(
        f"<tr><th><code>{escape(field)}</code>{' *' if field in needed else ''}</th>"
        f"<td>{_type(inner)} {escape(_rules(inner))}</td></tr>"
        for field, inner in shape.get("properties", {}).items()
    )
    text = escape(shape.get("description", ""))
    return f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{text}</p><table>{rows}</table></section>'


def _rules(shape: dict[str, Any]) -> str:
    """What a value has to keep to: in words where the document has them, which then speak of its parts too; else of
    each alternative and of the items of a list."""
    if "description" in shape:
        return str(shape["description"])
    own = [text.format(shape[name]) for name, text in _BOUNDS.items() if name in shape]
    parts = [_rules(part) for part in shape.get("anyOf", [])]
    if "items" in shape and (item := _rules(shape["items"])):
        own.append(f"each {item}")
    return "; ".join(dict.fromkeys([*own, *filter(None, parts)]))


def _content(part: dict[str, Any]) -> str:
    return ", ".join(_type(media["schema"]) for media in part.get("content", {}).values() if media.get("schema"))


def _type(shape: dict[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in shape:
        name = escape(shape["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in shape:
        return " or ".join(_type(choice) for choice in shape["anyOf"])
    if "enum" in shape:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in shape["enum"])
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    return escape(str(shape.get("type", "anything")))
