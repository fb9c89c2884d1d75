"""The dashboard's files, as the build made them: read once, served from memory, with headers that let nothing else in.

What a page may load, run and reach stands in `CONTENT_SECURITY_POLICY`: this server and nothing beside it. Addresses
are those of the files that were found at the start, so no path of a request ever becomes a path of the disk. The names
of files below `/assets/` hold a checksum of what they contain: those never change, all others are asked for again.
"""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.utils import normalize_path

from agrenting.api.errors import UNAVAILABLE, MethodNotAllowed
from agrenting.api.page import CONTENT_SECURITY_POLICY as PLAIN_POLICY
from agrenting.api.page import make_shell

DIST: Final = Path(__file__).parent / "dashboard" / "dist"
"""Where the build leaves the page; in an installed package, too."""

INDEX: Final = "index.html"
METHODS: Final = ("GET", "HEAD")
OK, NOT_MODIFIED = 200, 304

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PERMISSIONS_POLICY: Final = (
    "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), "
    "midi=(), payment=(), usb=()"
)
ISOLATED: Final = (
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", PERMISSIONS_POLICY.encode()),
)
"""Beside what every answer has (api/observing.py)."""

IMMUTABLE: Final = b"public, max-age=31536000, immutable"
ASKED_AGAIN: Final = b"no-cache"

TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Written out here, because Python's own table depends on the machine."""

OTHER_TYPE: Final = "application/octet-stream"
PACKED_TYPES: Final = (".ico", ".png", ".woff2")
"""What is compressed as it is."""

NOT_BUILT: Final = (
    "<h1>The dashboard is not here</h1>"
    "<p>The market runs, but its page was not built. <code>make dashboard</code> in the checkout builds it; then start "
    "the server again.</p>"
    '<p>Programs need no page: <a href="/schema">/schema</a> shows every address.</p>'
)


class Form(msgspec.Struct, frozen=True):
    """A file's bytes as they are sent, and the tag that names just these."""

    content: bytes
    etag: bytes


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the page.

    Args:
        media_type: Its Content-Type.
        caching: Its Cache-Control.
        plain: As it is.
        packed: Compressed by gzip, where that is smaller.
    """

    media_type: str
    caching: bytes
    plain: Form
    packed: Form | None


@cache
def built_files(folder: Path) -> Mapping[str, File]:
    """Every file of a built page by its address, index.html at `/`; none where it was not built.

    A process reads a folder once: an index and its assets are of one build, whatever is built meanwhile.
    """
    if not (folder / INDEX).is_file():
        return {}
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return {_address(name): _read(folder, name) for name in shown}


def _address(name: Path) -> str:
    return "/" if name.as_posix() == INDEX else f"/{name.as_posix()}"


def _read(folder: Path, name: Path) -> File:
    content = (folder / name).read_bytes()
    packed = b"" if name.suffix in PACKED_TYPES else gzip.compress(content, mtime=0)
    return File(
        media_type=TYPES.get(name.suffix, OTHER_TYPE),
        caching=IMMUTABLE if name.parts[0] == "assets" else ASKED_AGAIN,
        plain=_form(content),
        packed=_form(packed) if packed and len(packed) < len(content) else None,
    )


def _form(content: bytes) -> Form:
    return Form(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'.encode())


def page_handlers(folder: Path = DIST) -> list[ASGIRouteHandler]:
    """What `litestar.Litestar` is given for the page: its addresses, or the one that says how to build it.

    Args:
        folder: What the build made.
    """
    files = built_files(folder)

    @asgi([*files] or "/", copy_scope=False)
    async def pages(scope: Any, receive: Any, send: Any) -> None:
        del receive
        if scope["method"] not in METHODS:
            message = "This address does not answer this method."
            raise MethodNotAllowed("method_not_allowed", message, allow=METHODS)
        if files:
            status, headers, body = _answer(files[normalize_path(scope["path"])], scope["headers"])
        else:
            status, headers, body = _not_built()
        content = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *ISOLATED]})
        await send({"type": "http.response.body", "body": content})

    return [pages]


Headers = list[tuple[bytes, bytes]]


def _answer(file: File, asked: Iterable[tuple[bytes, bytes]]) -> tuple[int, Headers, bytes]:
    """A file, in the form that the browser takes; nothing of it where the browser has just that already."""
    form = file.packed if file.packed is not None and _takes_gzip(asked) else file.plain
    headers = [
        (b"cache-control", file.caching),
        (b"etag", form.etag),
        (b"vary", b"accept-encoding"),
        (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    ]
    if form.etag in _tags(asked):
        return NOT_MODIFIED, headers, b""
    headers += [(b"content-type", file.media_type.encode()), (b"content-length", str(len(form.content)).encode())]
    if form is file.packed:
        headers.append((b"content-encoding", b"gzip"))
    return OK, headers, form.content


def _not_built() -> tuple[int, Headers, bytes]:
    body = make_shell("Agrenting", NOT_BUILT).encode()
    headers = [
        (b"content-type", TYPES[".html"].encode()),
        (b"content-length", str(len(body)).encode()),
        (b"content-security-policy", PLAIN_POLICY.encode()),
    ]
    return UNAVAILABLE, headers, body


def _values(asked: Iterable[tuple[bytes, bytes]], header: bytes) -> list[bytes]:
    """The parts of a header that is a list."""
    return [part.strip() for name, value in asked if name.lower() == header for part in value.split(b",")]


def _takes_gzip(asked: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether gzip is named, and not as what must not come. Source: RFC 9110, 12.5.3."""
    for coding in _values(asked, b"accept-encoding"):
        name, _, weight = coding.lower().replace(b" ", b"").partition(b";q=")
        if name == b"gzip":
            return not weight or weight.strip(b"0.") != b""
    return False


def _tags(asked: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """What the browser has; a proxy may have weakened a tag. Source: RFC 9110, 13.1.2."""
    return {tag.removeprefix(b"W/") for tag in _values(asked, b"if-none-match")}
