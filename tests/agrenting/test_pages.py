"""The dashboard's files: what is served, to whom it is told to keep what, and that nothing beside them is reached."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from agrenting.api.page import CONTENT_SECURITY_POLICY as PLAIN_POLICY
from agrenting.pages import CONTENT_SECURITY_POLICY, page_handlers
from tests.agrenting.api.market import Marketplace, marketplace

INDEX = "<!doctype html><title>Agrenting</title>" + "<p>A market.</p>" * 100
SCRIPT = "const market = 1\n" * 100
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1_000)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A page as the build leaves it, beside a file that is nobody's business."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX, "utf-8")
    (folder / "assets" / "index-B4c9.js").write_text(SCRIPT, "utf-8")
    (folder / "assets" / "tiny-0000.css").write_text("a{}", "utf-8")
    (folder / "icon.png").write_bytes(PICTURE)
    (folder / "notes.xyz").write_text("?", "utf-8")
    (folder / ".built-1").write_text("a stamp", "utf-8")
    (tmp_path / "server.key").write_text("a secret", "utf-8")
    return folder


@pytest.fixture
async def page(dist: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of that page that unpacks nothing by itself."""
    async with browser(dist) as client:
        yield client


@pytest.fixture
async def market(folder: Path) -> AsyncIterator[Marketplace]:
    """A running marketplace."""
    async with marketplace(folder) as running:
        yield running


def browser(folder: Path) -> httpx.AsyncClient:
    app: Any = Litestar(page_handlers(folder), openapi_config=None)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://market.example", headers={"accept-encoding": "identity"}
    )


@pytest.mark.parametrize(
    ("path", "media_type", "content", "caching"),
    [
        ("/", "text/html; charset=utf-8", INDEX.encode(), "no-cache"),
        (
            "/assets/index-B4c9.js",
            "text/javascript; charset=utf-8",
            SCRIPT.encode(),
            "public, max-age=31536000, immutable",
        ),
        ("/assets/tiny-0000.css", "text/css; charset=utf-8", b"a{}", "public, max-age=31536000, immutable"),
        ("/icon.png", "image/png", PICTURE, "no-cache"),
        ("/notes.xyz", "application/octet-stream", b"?", "no-cache"),
    ],
)
async def test_a_file_comes_with_its_type_its_length_and_how_long_it_may_be_kept(
    page: httpx.AsyncClient, path: str, media_type: str, content: bytes, caching: str
) -> None:
    answer = await page.get(path)

    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["cache-control"] == caching
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/assets/index-B4c9.js", "/icon.png"])
async def test_every_file_says_what_a_page_may_do(page: httpx.AsyncClient, path: str) -> None:
    headers = (await page.get(path)).headers

    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]


@pytest.mark.parametrize(
    "part", ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
)
def test_the_policy_lets_no_other_host_and_nothing_inline_in(part: str) -> None:
    assert part in CONTENT_SECURITY_POLICY.split("; ")
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip;q=0.5, br", "GZIP; q=1.0"])
async def test_a_browser_that_takes_gzip_gets_it(page: httpx.AsyncClient, accepted: str) -> None:
    plain = await page.get("/")

    async with page.stream("GET", "/", headers={"accept-encoding": accepted}) as answer:
        packed = b"".join([piece async for piece in answer.aiter_raw()])

    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == INDEX.encode()
    assert len(packed) == int(answer.headers["content-length"]) < len(INDEX)
    assert answer.headers["etag"] != plain.headers["etag"]
    assert answer.headers["vary"] == plain.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    ("path", "accepted"), [("/", "gzip;q=0"), ("/", "gzip; q=0.0, br"), ("/icon.png", "gzip"), ("/notes.xyz", "gzip")]
)
async def test_what_is_not_asked_for_or_would_not_be_smaller_is_not_compressed(
    page: httpx.AsyncClient, path: str, accepted: str
) -> None:
    answer = await page.get(path, headers={"accept-encoding": accepted})

    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("as_sent", ["{}", "W/{}", '"other", {}'])
async def test_a_browser_that_has_the_file_is_sent_nothing_of_it(page: httpx.AsyncClient, as_sent: str) -> None:
    etag = (await page.get("/")).headers["etag"]

    answer = await page.get("/", headers={"if-none-match": as_sent.format(etag)})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "no-cache"


async def test_a_browser_with_an_older_file_is_sent_the_new_one(page: httpx.AsyncClient) -> None:
    answer = await page.get("/", headers={"if-none-match": '"0123"'})

    assert (answer.status_code, answer.text) == (200, INDEX)


async def test_head_tells_of_a_file_without_it(page: httpx.AsyncClient) -> None:
    whole = await page.get("/")

    answer = await page.head("/")

    assert (answer.status_code, answer.content) == (200, b"")
    assert dict(answer.headers) == dict(whole.headers)


@pytest.mark.parametrize(
    "path",
    [
        "/../server.key",
        "/assets/../../server.key",
        "/assets/%2e%2e/%2e%2e/server.key",
        "/assets/..%2f..%2fserver.key",
        "/.built-1",
        "/assets",
        "/assets/",
        "/assets/gone-1111.js",
        "/index.html/more",
    ],
)
async def test_nothing_but_the_files_is_found(page: httpx.AsyncClient, path: str) -> None:
    answer = await page.get(httpx.URL("http://market.example", raw_path=path.encode()))

    assert answer.status_code == 404
    assert "secret" not in answer.text


async def test_a_page_that_was_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    async with browser(tmp_path / "nowhere") as client:
        answer = await client.get("/")
        told = await client.head("/")

    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "make dashboard" in answer.text
    assert answer.headers["content-security-policy"] == PLAIN_POLICY
    assert (told.status_code, told.content) == (503, b"")


async def test_a_market_refuses_other_methods_in_its_usual_form(market: Marketplace) -> None:
    answer = await market.http.post("/", json={})

    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD"


async def test_a_market_serves_its_page_with_the_headers_of_every_answer(market: Marketplace) -> None:
    answer = await market.http.get("/")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert len(answer.headers.get_list("cache-control")) == 1


async def test_the_dashboard_can_be_switched_off(folder: Path) -> None:
    async with marketplace(folder, on_dashboard=False) as market:
        answer = await market.http.get("/")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
