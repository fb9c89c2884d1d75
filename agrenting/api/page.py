"""Plain pages, as the one to read the document: HTML with its own style, and a policy so that nothing else loads."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

STYLE: Final = """\
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
h1,h2,h3{line-height:1.2}
code,pre{font:0.9em/1.4 ui-monospace,monospace}
pre{background:var(--soft);overflow:auto;padding:0.5rem;white-space:pre-wrap}
details{border:1px solid var(--line);border-radius:0.3rem;margin:0.4rem 0;padding:0.3rem 0.6rem}
summary{cursor:pointer}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid var(--line);padding:0.2rem 0.5rem;text-align:left;vertical-align:top}
.method{display:inline-block;font-weight:bold;min-width:4.5rem}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Json = Mapping[str, Any]


def make_page(document: Json) -> str:
    """The page of an OpenAPI document."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    nouns = "".join(_noun(tag, document) for tag in document["tags"])
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    return make_shell(
        title,
        f"<h1>{title}</h1>{_text(document['info']['description'])}"
        '<p>For programs: <a href="/schema/openapi.json">/schema/openapi.json</a>.</p>'
        f"{nouns}<h2>Types</h2>{schemas}",
    )


def make_shell(title: str, body: str) -> str:
    """A plain page around a body; both are HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )


def _noun(tag: Json, document: Json) -> str:
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if tag["name"] in operation["tags"]
    )
    return f"<h2>{escape(tag['name'].capitalize())}</h2>{_text(tag['description'])}{operations}"


def _operation(path: str, method: str, operation: Json) -> str:
    body = operation.get("requestBody")
    parts = [
        _text(operation["description"]),
        _parameters(operation["parameters"]),
        "" if body is None else f"<h3>Body</h3>{_content(body['content'])}",
        "<h3>Answers</h3>",
        _table(
            (f"<code>{status}</code>", f"{_line(answer['description'])} {_content(answer['content'])}")
            for status, answer in operation["responses"].items()
        ),
    ]
    head = f'<span class="method">{method.upper()}</span> <code>{escape(path)}</code> {_line(operation["summary"])}'
    return f'<details id="{escape(operation["operationId"])}"><summary>{head}</summary>{"".join(parts)}</details>'


def _parameters(parameters: Iterable[Json]) -> str:
    rows = [
        (
            f"<code>{escape(parameter['name'])}</code> ({parameter['in']})",
            _type(parameter["schema"]) + (", required" if parameter.get("required") else ""),
            _line(parameter.get("description", "")),
        )
        for parameter in parameters
    ]
    return f"<h3>Parameters</h3>{_table(rows)}" if rows else ""


def _content(content: Json) -> str:
    return "; ".join(f"<code>{escape(media)}</code>: {_type(form['schema'])}" for media, form in content.items())


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(own) + (", required" if field in required else ""),
            _line(own.get("description", "")),
        )
        for field, own in schema.get("properties", {}).items()
    ]
    shown = _table(rows) if rows else f"<p>{_type(schema)}</p>"
    head = f"<summary><code>{escape(name)}</code></summary>"
    return f'<details id="{escape(name)}">{head}{_text(schema.get("description", ""))}{shown}</details>'


def _type(schema: Json) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    for several in ("anyOf", "enum"):
        if several in schema:
            forms = schema[several]
            return " or ".join(
                f"<code>{escape(form)}</code>" if isinstance(form, str) else _type(form) for form in forms
            )
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and "data" in schema.get("properties", {}):
        return ", ".join(f"<code>{name}</code>: {_type(own)}" for name, own in schema["properties"].items())
    limits = [
        f"{sign} {schema[name]}"
        for name, sign in (("minimum", "≥"), ("maximum", "≤"), ("pattern", "like"))
        if name in schema
    ]
    return escape(" ".join((kind, *limits)))


def _table(rows: Iterable[Iterable[str]]) -> str:
    return f"<table>{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>"


def _cells(row: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in row)


def _text(text: str) -> str:
    return "".join(f"<p>{_line(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph.strip())


def _line(text: str) -> str:
    """A line of text with `code` in it."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
