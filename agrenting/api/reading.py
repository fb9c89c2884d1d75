"""The OpenAPI document, and a page to read it that loads nothing: no script, no font, no other host."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec

from agrenting.api.call import Call, Raw
from agrenting.api.document import make_document
from agrenting.api.errors import JSON
from agrenting.api.operation import Callers, Noun
from agrenting.api.page import CONTENT_SECURITY_POLICY, make_page

NOUN = Noun("document", "This document.", is_rooted=False)
HTML: Final = "text/html"
CACHED: Final = {"Cache-Control": "public, max-age=300"}

_described: list[Noun] = []


def describe(nouns: Sequence[Noun]) -> None:
    """Say whose operations the document is of."""
    _described[:] = nouns


@cache
def document() -> dict[str, Any]:
    """The document, made once."""
    return make_document(_described)


@cache
def _document_bytes() -> bytes:
    return msgspec.json.encode(document())


@cache
def _page_bytes() -> bytes:
    return make_page(document()).encode()


@NOUN.get("/schema/openapi.json", answer=None, callers=Callers.ANYBODY, files={JSON: "OpenAPI 3.1."})
async def read_document(call: Call) -> object:
    """This document."""
    del call
    return Raw(_document_bytes(), JSON, CACHED)


@NOUN.get("/schema", callers=Callers.ANYBODY, files={HTML: "The page."})
async def read_page(call: Call) -> object:
    """This document as a page to read."""
    del call
    return Raw(_page_bytes(), HTML, {**CACHED, "Content-Security-Policy": CONTENT_SECURITY_POLICY})
