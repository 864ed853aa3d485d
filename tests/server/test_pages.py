"""The built-in pages: what they are made of, and what protects them."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from localllm.server.page import FILES
from localllm.server.settings import ServerSettings, key_digest
from tests.server.app_client import client_of

HTML = {"accept": "text/html,application/xhtml+xml"}
SOURCES = sorted(
    (item.name, item.read_text(encoding="utf-8"))
    for item in files("localllm.server.page").iterdir()
    if item.name.endswith((".html", ".css", ".js", ".svg"))
)


@pytest.mark.parametrize("path", FILES)
def test_file_is_served_without_a_key(path: str) -> None:
    settings = ServerSettings(key_digests=(key_digest("secret"),))
    with client_of(settings) as client:
        response = client.get(path, headers=HTML)
        assert response.status_code == 200
        assert response.headers["content-type"] == FILES[path].media_type
        assert response.content == FILES[path].read()
        assert client.get("/v1/models", headers=HTML).status_code == 401


def test_policy_allows_nothing_but_our_own_files() -> None:
    with client_of() as client:
        policy = client.get("/", headers=HTML).headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy


def test_browser_that_has_the_file_is_told_so() -> None:
    with client_of() as client:
        first = client.get("/page.css")
        again = client.get("/page.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_programs_are_greeted_at_the_root() -> None:
    with client_of() as client:
        assert client.get("/").text == "Ollama is running"
        assert client.head("/").status_code == 200


def test_no_page_is_missing_from_the_table() -> None:
    assert {name for name, _ in SOURCES} == {file.name for file in FILES.values()}


@pytest.mark.parametrize(("name", "text"), SOURCES)
def test_nothing_comes_from_elsewhere(name: str, text: str) -> None:
    urls = re.findall(r"""(?:src|href|from|import|url)\s*[=(]?\s*["'(]\s*((?:https?:)?//[^"')]+)""", text)
    assert urls == [], name


@pytest.mark.parametrize(("name", "text"), [source for source in SOURCES if source[0].endswith(".html")])
def test_no_script_or_style_is_inline(name: str, text: str) -> None:
    assert not re.search(r"<script(?![^>]*\ssrc=)", text), name
    assert not re.search(r"<style|\sstyle=|\son\w+=", text), name


@pytest.mark.parametrize(("name", "text"), [source for source in SOURCES if source[0].endswith(".js")])
def test_no_text_becomes_markup(name: str, text: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), name
