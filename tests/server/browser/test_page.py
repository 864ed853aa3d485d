"""The built-in page in Chromium, with a real server and a real model behind it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.server.browser.conftest import ARGUMENTS, chromium_path
from tests.server.process import serving

pytestmark = [pytest.mark.browser, pytest.mark.real]

OpenPage = Callable[..., Any]


def ask(page: Any, text: str) -> None:
    page.wait_for_selector("#model:not([disabled])")
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def await_end(page: Any) -> Any:
    page.wait_for_selector("#send:not([hidden])")
    page.wait_for_selector(".answer:last-of-type .tools button")
    return page.locator(".answer").last


def stream(*deltas: dict[str, Any], reason: str | None = "stop", done: bool = True) -> str:
    """Return the stream of an answer made of these deltas."""
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices += [{"index": 0, "delta": {}, "finish_reason": reason}] if reason else []
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    last = {"choices": [], "usage": usage, "timings": {"predicted_per_second": 50.0}}
    chunks = [*({"choices": [choice]} for choice in choices), *([last] if reason else [])]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + ("data: [DONE]\n\n" if done else "")


def will_answer(page: Any, body: str, status: int = 200) -> None:
    """Let the next question be answered by this body, and not by the server."""
    kind = "text/event-stream" if status == 200 else "application/json"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=status, body=body, content_type=kind))


def test_conversation_of_two_turns(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    page.click("#tune")
    page.fill("#limit", "40")
    page.locator("#temperature").fill("0")
    asked: list[dict[str, Any]] = []
    page.on("request", lambda request: request.method == "POST" and asked.append(request.post_data_json))
    ask(page, "What is the capital of France?")
    first = await_end(page)
    assert first.locator(".prose").inner_text().strip()
    assert re.search(r"\d tokens/s · first token \d.* · \d+ tokens · context \d+ of 2,048", first.inner_text())
    ask(page, "And of Italy?")
    await_end(page)
    assert [message["role"] for message in asked[1]["messages"]] == ["user", "assistant", "user"]
    assert (asked[1]["temperature"], asked[1]["max_tokens"]) == (0, 40)
    assert page.locator("#facts").inner_text().startswith("loaded")
    # The conversation is one that a screen reader can walk through, and its end is announced.
    assert page.locator("#announcer").inner_text() == page.locator(".answer .prose").last.inner_text()


def test_stopping_ends_the_answer_on_the_server_too(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    ask(page, "Write a very long story about a bicycle.")
    page.wait_for_selector(".answer .prose p")
    page.keyboard.press("Escape")
    answer = await_end(page)
    assert "Stopped." in answer.inner_text()
    assert page.locator("#send").is_visible()
    page.wait_for_timeout(500)
    model = httpx.get(f"{server}/v1/admin/status").json()["models"][0]
    assert (model["running"], model["waiting"]) == (0, 0)


def test_regenerating_replaces_the_answer(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    will_answer(page, stream({"content": "first"}))
    ask(page, "Hello")
    await_end(page)
    will_answer(page, stream({"content": "second"}))
    page.get_by_role("button", name="Regenerate the answer").click()
    page.locator(".answer .prose", has_text="second").wait_for()
    assert page.locator(".answer").count() == 1
    assert page.locator(".user").count() == 1


def test_markdown_becomes_a_document(server: str, open_page: OpenPage) -> None:
    text = (
        "# Title\n\nSome **bold**, *slanted* and `code`.\n\n- one\n- two\n  1. inner\n\n"
        "| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nprint('<b>')\n```\n\n> said\n\n[site](https://example.com/x)"
    )
    page = open_page(server)
    will_answer(page, stream(*({"content": text[i : i + 3]} for i in range(0, len(text), 3))))
    ask(page, "Hello")
    prose = await_end(page).locator(".prose")
    assert prose.locator("h3").inner_text() == "Title"
    assert prose.locator("strong").inner_text() == "bold"
    assert prose.locator("em").inner_text() == "slanted"
    assert prose.locator("p code").inner_text() == "code"
    assert prose.locator("ul > li").count() == 2
    assert prose.locator("ul ol > li").inner_text() == "inner"
    assert prose.locator("td").all_inner_texts() == ["1", "2"]
    assert prose.locator("pre").inner_text() == "print('<b>')"
    assert prose.locator("blockquote").inner_text() == "said"
    assert prose.locator("a").get_attribute("href") == "https://example.com/x"
    assert prose.locator("a").get_attribute("rel") == "noopener noreferrer nofollow"


def test_models_text_is_never_markup(server: str, open_page: OpenPage) -> None:
    text = (
        "<img src=x onerror=alert(1)> <script>alert(2)</script>\n\n[x](javascript:alert(3)) ![y](https://example.com/y.png)"
        "\n\n```<i>\n</code></pre><script>alert(4)</script>\n```"
    )
    page = open_page(server)
    dialogs, elsewhere = [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: not request.url.startswith(server) and elsewhere.append(request.url))
    will_answer(page, stream({"content": text}))
    ask(page, "Hello")
    prose = await_end(page).locator(".prose")
    assert "<img src=x onerror=alert(1)>" in prose.inner_text()
    assert prose.locator("img, script, i").count() == 0
    assert prose.locator("a").evaluate_all("all => all.map(a => a.protocol)") == ["https:"]
    assert (dialogs, elsewhere) == ([], [])


def test_endless_markdown_takes_linear_time(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    took_ms = page.evaluate(
        """async () => {
          const { MarkdownView } = await import("/markdown.js");
          const hostile = ["**a ", "[", "`", "> ", "- ", "| a ", "#", "_a", "~~a ", "<", "![a](", "1. ", "```", "h"];
          let worst = 0;
          for (const piece of hostile) {
            const started = performance.now();
            new MarkdownView(document.createElement("div")).update(piece.repeat(20000));
            worst = Math.max(worst, performance.now() - started);
          }
          return worst;
        }"""
    )
    # 0.1 s where this was written; growing with the square, it would be minutes.
    assert took_ms < 5000


def test_reasoning_is_folded(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    will_answer(page, stream({"reasoning_content": "Let me think."}, {"content": "Four."}))
    ask(page, "2 + 2?")
    answer = await_end(page)
    assert answer.locator(".prose").inner_text() == "Four."
    assert not answer.get_by_text("Let me think.").is_visible()
    answer.locator("summary").click()
    assert answer.get_by_text("Let me think.").is_visible()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ('{"error": {"message": "64 requests are running. Try again in 1 s."}}', 503, "Try again in 1 s."),
        (stream({"content": "Once"}, reason=None, done=False), 200, "The answer broke off."),
        (stream({"content": "Once"}, reason=None, done=False) + 'data: {"error": {"message": "It died."}}\n\n', 200,
         "It died."),
    ],
)  # fmt: skip
def test_error_is_shown_and_can_be_tried_again(
    server: str, open_page: OpenPage, body: str, status: int, says: str
) -> None:
    page = open_page(server)
    will_answer(page, body, status)
    ask(page, "Hello")
    assert says in page.get_by_role("alert").filter(visible=True).inner_text()
    will_answer(page, stream({"content": "Here."}))
    page.get_by_role("button", name="Try again").click()
    page.locator(".answer .prose", has_text="Here.").wait_for()


def test_conversation_that_is_too_long_can_be_begun_anew(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    ask(page, "word " * 3000)
    assert "2,048" in page.get_by_role("alert").filter(visible=True).inner_text().replace("2048", "2,048")
    page.get_by_role("alert").get_by_role("button", name="New chat").click()
    assert page.locator("#welcome").is_visible()
    assert page.locator(".message").count() == 0


def test_key_is_asked_for_and_kept_in_the_tab_alone(open_page: OpenPage) -> None:
    with serving(LOCALLLM_API_KEY="secret") as url:
        page = open_page(url)
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That key was not accepted.").wait_for()
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#model:not([disabled])")
        assert page.locator("#model").input_value() == "small"
        assert page.evaluate("Object.values(localStorage)") == []
        assert "secret" in page.evaluate("Object.values(sessionStorage)")
        page.reload()
        page.wait_for_selector("#model:not([disabled])")


def test_unreachable_server_says_what_to_do(open_page: OpenPage) -> None:
    with serving() as url:
        page = open_page(url)
        page.wait_for_selector("#model:not([disabled])")
    ask(page, "Hello")
    assert "localllm serve" in page.get_by_role("alert").filter(visible=True).inner_text()


def test_everything_can_be_done_by_keyboard(server: str, open_page: OpenPage) -> None:
    page = open_page(server)
    page.wait_for_selector("#model:not([disabled])")
    will_answer(page, stream({"content": "Yes."}))
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    await_end(page)
    assert page.locator(".bubble").inner_text() == "one\ntwo"
    page.locator("body").press("Tab")
    names = set()
    for _ in range(12):
        names.add(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
        page.keyboard.press("Tab")
    assert {"New chat", "Settings", "Copy", "Regenerate"} <= names


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(server: str, open_page: OpenPage, scheme: str) -> None:
    page = open_page(server, viewport={"width": 360, "height": 640}, color_scheme=scheme)
    will_answer(page, stream({"content": "```\n" + "wide " * 60 + "\n```\n\n" + "long" * 60}))
    ask(page, "w" * 200)
    await_end(page)
    page.click("#tune")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#send").bounding_box()["x"] < 360


def test_reference_tries_a_call(server: str, open_page: OpenPage) -> None:
    page = open_page(f"{server}/docs#post-tokenize")
    call = page.locator("#post-tokenize")
    call.get_by_role("button", name="Send").click()
    call.get_by_text("200 ·").wait_for()
    assert "tokens" in json.loads(call.locator(".result").inner_text())
    assert page.locator(".call").count() >= 8


FETCH = """async url => {
  try {
    return (await fetch(url)).status;
  } catch (error) {
    return error.name;
  }
}"""


@contextmanager
def foreign_page() -> Iterator[str]:
    """The address of a page that is not ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Another</title>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_page_of_another_origin_is_refused_unless_it_is_listed(server: str, open_page: OpenPage) -> None:
    with foreign_page() as foreign, serving("--cors-origin", foreign) as friendly:
        page = open_page(foreign)
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        assert page.evaluate(FETCH, f"{friendly}/v1/models") == 200
        assert page.evaluate(FETCH, f"{server}/v1/models") == "TypeError"
    assert any("blocked by CORS policy" in message for message in messages)


def test_name_that_is_not_ours_is_refused(server: str) -> None:
    """A page whose name is made to point here (DNS rebinding) sends its own name."""
    port = server.rpartition(":")[2]
    refused = httpx.get(f"{server}/v1/models", headers={"host": f"evil.example:{port}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")


def test_rebound_name_is_refused_to_a_browser(server: str, chromium: Any) -> None:
    port = server.rpartition(":")[2]
    arguments = [*ARGUMENTS, "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    browser = chromium.browser_type.launch(executable_path=chromium_path(), args=arguments)
    try:
        response = browser.new_page().goto(f"http://evil.example:{port}/")
        assert (response.status, response.json()["error"]["code"]) == (403, "host_not_allowed")
    finally:
        browser.close()
