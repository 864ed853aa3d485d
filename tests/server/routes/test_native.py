"""llama-server's own API over HTTP, with scripted models."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from localllm.runtime.backend import FimTokens
from tests.scripted_backend import Script, ScriptedBackend
from tests.server.running import Running, serving_scripted

FIM = FimTokens(pre=1, suf=2, mid=3)


@pytest.fixture
def coder() -> ScriptedBackend:
    return ScriptedBackend("a + b", fim=FIM, n_ctx=64)


@pytest.fixture
def server(coder: ScriptedBackend) -> Iterator[Running]:
    with serving_scripted({"coder": coder, "small": ScriptedBackend("Hello!")}) as running:
        yield running


def test_a_completion_whole_and_streamed(server: Running) -> None:
    body = server.post("/completion", prompt="1 + 1 =", n_predict=3).json()
    assert (body["content"], body["stop_type"], body["tokens_evaluated"]) == ("a +", "limit", 7)
    parts = server.post("/completion", prompt="x", stream=True).text.split("\n\n")
    found = [json.loads(part.removeprefix("data: ")) for part in parts if part]
    assert "".join(part["content"] for part in found) == "a + b"
    assert found[-1]["stop"] is True and not any(part["stop"] for part in found[:-1])


def test_several_prompts(server: Running) -> None:
    answers = server.post("/completion", prompt=["x", [65, 66]]).json()
    assert [answer["tokens_evaluated"] for answer in answers] == [1, 2]


def test_a_gap_is_filled_between_its_sides(server: Running, coder: ScriptedBackend) -> None:
    body = server.post("/infill", input_prefix="ab\n", prompt="c", input_suffix="de", n_predict=8).json()
    assert body["content"] == "a + b" and body["truncated"] is False
    assert coder.calls[0].request.prompt == (1, *b"ab\nc", 2, *b"de", 3)


def test_an_editor_gets_what_there_is_in_time() -> None:
    slow = ScriptedBackend(Script("line\n", endless=True, delay_s=0.01), fim=FIM)
    with serving_scripted({"slow": slow}) as server:
        for path, ask in (("/infill", {"input_prefix": "a"}), ("/completion", {"prompt": "a"})):
            body = server.post(path, **ask, t_max_predict_ms=100).json()
            assert body["content"].startswith("line\n") and body["stop_type"] == "limit"
            assert body["tokens_predicted"] == len(body["content"]) and slow.calls[-1].cancelled.wait(10)


def test_what_does_not_fit_around_a_gap_is_left_out_and_said(server: Running, coder: ScriptedBackend) -> None:
    extra = [{"text": "z" * 30}]
    body = server.post("/infill", input_prefix="a" * 99 + "!", input_suffix="?" + "b" * 99, input_extra=extra).json()
    prompt = coder.calls[0].request.prompt
    assert len(prompt) < 64 and prompt[prompt.index(2) - 1] == ord("!") and prompt[prompt.index(2) + 1] == ord("?")
    assert body["truncated"] is True and body["tokens_dropped"] == 230 - (len(prompt) - 3)


def test_a_model_that_cannot_fill_gaps_says_so(server: Running) -> None:
    answer = server.post("/infill", model="small", input_prefix="a", input_suffix="b")
    assert answer.status_code == 400 and "fill-in-the-middle" in answer.json()["error"]["message"]


def test_props_tell_no_path_and_load_nothing(server: Running) -> None:
    props = server.http.get("/props").json()
    assert props["model_path"] == "coder.gguf" and props["default_generation_settings"]["n_ctx"] is None
    assert server.http.get("/slots").json() == []
    server.post("/completion", prompt="x")
    props = server.http.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 64 and props["is_sleeping"] is False
    assert props["default_generation_settings"]["params"]["temperature"] == 0.8
    assert server.http.get("/props", params={"model": "none"}).status_code == 404


def test_slots_tell_nothing_of_prompts(server: Running) -> None:
    server.post("/completion", prompt="a secret")
    answer = server.http.get("/slots", params={"fail_on_no_slot": 1})
    assert [slot["id"] for slot in answer.json()] == [0, 1, 2, 3] and "secret" not in answer.text
    assert not any(slot["is_processing"] for slot in answer.json())


def test_health_has_two_names_and_needs_no_key() -> None:
    from localllm.server.settings import key_digest

    with serving_scripted({"a": ScriptedBackend()}, key_digests=(key_digest("k"),)) as server:
        assert server.http.get("/v1/health").json() == {"status": "ok"} == server.http.get("/health").json()
        assert server.http.get("/props").status_code == 401
