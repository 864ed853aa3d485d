"""A remote's answers, and everything that can be wrong with them: clear errors, and what came before is kept."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from localllm import errors
from localllm.remotes import (
    CallPiece,
    Delta,
    End,
    ReasoningPiece,
    Remote,
    RemoteClient,
    Silence,
    TextPiece,
    TokenCounts,
)
from tests.remotes.scripted import Handler, Scripted, delta, refuses, says

BODY = {"messages": [{"role": "user", "content": "Hi"}]}


def heard(client: RemoteClient) -> tuple[list[Delta], errors.LocalLLMError | None]:
    """Return what a chat says, and how it fails if it does."""
    found: list[Delta] = []
    try:
        found.extend(client.chat(BODY).deltas())
    except errors.LocalLLMError as error:
        return found, error
    return found, None


def failure(client: RemoteClient) -> errors.LocalLLMError:
    error = heard(client)[1]
    assert error is not None
    assert len(error.message.splitlines()) == 1 and error.message.isprintable()
    return error


def test_an_answer_is_text_an_end_and_counts(client: RemoteClient, server: Scripted) -> None:
    assert heard(client) == (
        [TextPiece("Hel"), TextPiece("lo"), TextPiece("."), End("stop"), TokenCounts(12, 3, 4, 1)],
        None,
    )
    assert server.chats == [{"model": "scripted", **BODY, "stream": True, "stream_options": {"include_usage": True}}]


def test_reasoning_and_calls_are_told_apart(client: RemoteClient, server: Scripted) -> None:
    begin = {"index": 0, "id": "c1", "type": "function", "function": {"name": "paint", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a":1}'}}
    server.act = lambda handler: handler.stream(
        [delta(reasoning_content="hm"), delta(reasoning="m"), delta(tool_calls=[begin]), delta(tool_calls=[more]),
         delta(reason="tool_calls")]
    )  # fmt: skip
    assert heard(client)[0] == [
        ReasoningPiece("hm"), ReasoningPiece("m"), CallPiece(0, "c1", "paint", ""), CallPiece(0, None, None, '{"a":1}'),
        End("tool_calls"),
    ]  # fmt: skip


def test_a_server_that_does_not_stream_is_understood(client: RemoteClient, server: Scripted) -> None:
    choice = {"index": 0, "message": {"content": "Hello."}, "finish_reason": "stop"}
    server.act = refuses(200, {"choices": [choice]})
    assert heard(client) == ([TextPiece("Hello."), End("stop")], None)


def test_the_key_is_sent(server: Scripted) -> None:
    server.key = "sk-right"
    assert heard(RemoteClient(Remote("lab", server.url, key="sk-right")))[1] is None
    assert {key for _, _, key in server.asked} == {"Bearer sk-right"}


@pytest.mark.parametrize(("key", "words"), [(None, "needs a key"), ("sk-wrong", "does not accept the key")])
def test_a_wrong_key_is_told_of_and_not_shown(server: Scripted, key: str | None, words: str) -> None:
    server.key = "sk-right"
    with pytest.raises(errors.ServerError, match=words) as caught:
        RemoteClient(Remote("lab", server.url, key=key)).models()
    assert "sk-wrong" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "top_k is odd"}}, errors.RequestError, "lab refused: top_k is odd"),
        (422, {"detail": [{"msg": "Field required"}]}, errors.RequestError, "Field required"),
        (400, {"error": {"code": "context_length_exceeded", "message": "x"}}, errors.ContextLengthExceeded, "too long"),
        (400, {"message": "maximum context length is 8"}, errors.ContextLengthExceeded, "maximum context"),
        (404, {"error": {"message": "The model `x` does not exist."}}, errors.ModelNotFound, "does not exist"),
        (404, b"<html>", errors.ServerError, "has no /v1/chat/completions"),
        (429, {"error": "slow down"}, errors.ServerBusy, "slow down It asks to wait 7 s"),
        (503, {"error": {"message": "Loading model"}}, errors.ServerBusy, "Loading model"),
        (500, {"error": {"message": "boom"}}, errors.ServerError, "failed \\(status 500\\): boom"),
        (502, b"<html><body>Bad gateway</body></html>", errors.ServerError, "failed \\(status 502\\)$"),
    ],
)
def test_a_refusal_is_an_error_with_the_servers_words(
    client: RemoteClient, server: Scripted, status: int, body: Any, kind: type[errors.LocalLLMError], words: str
) -> None:
    server.act = refuses(status, body, retry_after="7")
    with pytest.raises(kind, match=words) as caught:
        list(client.chat(BODY).deltas())
    assert type(caught.value) is kind


def test_a_certificate_that_nobody_vouches_for_is_told_of(server: Scripted, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", "key.pem", "-out", "cert.pem"]
    names = ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", "-x509", *made, *names], check=True, capture_output=True, cwd=tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(errors.ServerUnreachable, match="certificate"):
        RemoteClient(Remote("lab", server.url.replace("http://127.0.0.1", "https://localhost"))).models()


def test_a_redirect_is_not_followed(client: RemoteClient, server: Scripted) -> None:
    server.act = refuses(307, b"", location="http://elsewhere/\x1b[2J")
    error = failure(client)
    assert "http://elsewhere/" in error.message
    assert len(server.chats) == 1


def test_nobody_there(server: Scripted) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(errors.ServerUnreachable, match=url):
        RemoteClient(Remote("lab", url)).models()


@pytest.mark.parametrize("listing", [[], {"data": 5}, {"hello": 1}, b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_another_kind_of_server_is_told_of(client: RemoteClient, server: Scripted, listing: Any) -> None:
    server.listing = listing
    with pytest.raises(errors.ServerError, match="not an OpenAI-compatible server"):
        client.models()


def test_a_server_that_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remote = Remote("lab", f"http://127.0.0.1:{listener.getsockname()[1]}")
        client = RemoteClient(remote)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(errors.ServerError, match="does not speak HTTP"):
            client.models()
        thread.join()


def breaks_after_two(handler: Handler) -> None:
    handler.begin()
    handler.send(delta(content="Hel"))
    handler.send(delta(content="lo"))


def crashes_after_two(handler: Handler) -> None:
    breaks_after_two(handler)
    handler.wfile.flush()
    handler.drop()


def is_cut_in_a_chunk(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    data = b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'
    handler.wfile.write(b"%x\r\n%s\r\nff\r\nda" % (len(data), data))
    handler.close_connection = True


@pytest.mark.parametrize("act", [breaks_after_two, crashes_after_two, is_cut_in_a_chunk])
def test_what_came_before_the_end_of_the_server_is_kept(client: RemoteClient, server: Scripted, act: Any) -> None:
    server.act = act
    found, error = heard(client)
    text = "".join(one.text for one in found if isinstance(one, TextPiece))
    # A reset connection may take with it what was not yet read.
    assert "Hello".startswith(text) and (text == "Hello" or act is crashes_after_two)
    assert isinstance(error, errors.AnswerBroken)
    assert f"after {len(text)} characters" in error.message or not text


def test_a_whole_answer_that_breaks_off_is_told_of(client: RemoteClient, server: Scripted) -> None:
    server.act = refuses(200, {"choices": []}, content_length="9999")
    assert "broke off its answer after 15 of 9999 bytes" in failure(client).message


def test_silence_in_the_middle_is_noted_and_then_an_end(client: RemoteClient, server: Scripted) -> None:
    server.hangs_after("Hel", "lo")
    found, error = heard(client)
    assert [one for one in found if not isinstance(one, Silence)] == [TextPiece("Hel"), TextPiece("lo")]
    silences = [one.seconds for one in found if isinstance(one, Silence)]
    # After the first word, the patience is no longer the tenfold one.
    assert silences and max(silences) < 2.5
    assert isinstance(error, errors.ServerSilent)
    assert "not answered for 0.3 s, after 5 characters" in error.message


def test_silence_before_the_first_word_gets_more_patience(client: RemoteClient, server: Scripted) -> None:
    server.hangs_after()
    found, error = heard(client)
    assert all(isinstance(one, Silence) for one in found) and len(found) > 3
    assert isinstance(error, errors.ServerSilent) and "for 3 s" in error.message


@pytest.mark.parametrize(
    "chunk",
    ["{not json", "5", '{"choices": 5}', '{"choices": [5]}', '{"choices": [{"delta": 5}]}',
     '{"choices": [{"delta": {"content": 5}}]}', '{"choices": [{"delta": {"tool_calls": [5]}}]}',
     '{"choices": [{"index": "x", "delta": {}}]}', "\x1b]0;title\x07", "[" * 100_000],
)  # fmt: skip
def test_chunks_of_another_shape_are_told_of(client: RemoteClient, server: Scripted, chunk: str) -> None:
    server.act = lambda handler: handler.stream([delta(content="Hello"), chunk])
    found, error = heard(client)
    assert found == [TextPiece("Hello")]
    assert isinstance(error, errors.ServerError) and error.message.isprintable()
    assert "not an OpenAI-compatible server" in error.message


def test_an_error_in_the_stream_is_told_with_its_words(client: RemoteClient, server: Scripted) -> None:
    bad = {"error": {"message": "CUDA \x1b[31mout of memory", "code": 500}}
    server.act = lambda handler: handler.stream([delta(content="Hello"), bad])
    error = failure(client)
    assert "failed in the middle of its answer: CUDA \\x1b[31mout of memory" in error.message


def test_a_huge_line_is_cut_off(client: RemoteClient, server: Scripted) -> None:
    def act(handler: Handler) -> None:
        handler.begin()
        try:
            for _ in range(40):
                handler.wfile.write(b"x" * (1 << 20))
        except OSError:
            return

    server.act = act
    assert "16 MiB" in failure(client).message


def test_what_is_no_stream_is_told_of(client: RemoteClient, server: Scripted) -> None:
    server.act = refuses(200, b"<html>Welcome!</html>")
    assert "answers with text/html" in failure(client).message


def test_leaving_hangs_up(client: RemoteClient, server: Scripted) -> None:
    hung_up = server.talks_until_left()
    deltas = client.chat(BODY).deltas()
    assert isinstance(next(deltas), TextPiece)
    deltas.close()
    assert hung_up.wait(10)


def test_the_only_model_is_meant(client: RemoteClient, server: Scripted) -> None:
    server.serves("org/model", max_model_len=4096, owner="vllm")
    server.listing["data"].append({"id": "an-adapter", "owned_by": "vllm", "parent": "org/model"})
    assert (client.card.id, client.card.n_ctx, client.engine.name) == ("org/model", 4096, "vLLM")


def test_of_several_models_one_must_be_named(client: RemoteClient, server: Scripted) -> None:
    server.serves("one", "two")
    with pytest.raises(errors.ModelNotFound, match="lab has 2 models: one, two") as caught:
        _ = client.card
    assert "@lab/one" in str(caught.value.hint)


def test_a_wrong_name_says_what_there_is(server: Scripted) -> None:
    server.serves("llama-8b", "qwen-7b")
    with pytest.raises(errors.ModelNotFound, match=r"no model 'lama-8b'\. Did you mean @lab/llama-8b") as caught:
        _ = RemoteClient(Remote("lab", server.url, model="lama-8b")).card
    assert "llama-8b, qwen-7b" in str(caught.value.hint)
    assert server.chats == []


def test_a_name_that_is_not_listed_may_be_known(server: Scripted) -> None:
    server.serves("real-name", owner="llamacpp")
    server.pages["/v1/models/other%20name".replace("%20", "-")] = {"id": "real-name", "object": "model"}
    client = RemoteClient(Remote("lab", server.url, model="other-name"))
    assert (client.card.id, client.engine.name) == ("other-name", "llama-server")


def test_an_alias_is_a_name(server: Scripted) -> None:
    server.serves("real-name", owner="localllm", aliases=["gpt-4"])
    assert RemoteClient(Remote("lab", server.url, model="gpt-4")).card.id == "real-name"


def test_the_version_is_told_where_the_server_tells_it(client: RemoteClient, server: Scripted) -> None:
    server.serves("m", owner="vllm")
    assert client.version() == ""
    server.pages["/version"] = {"version": "0.11.0"}
    assert client.version() == "0.11.0"


def test_names_from_outside_are_made_harmless(client: RemoteClient, server: Scripted) -> None:
    server.serves("a\x1b[2J", "b")
    with pytest.raises(errors.ModelNotFound) as caught:
        _ = client.card
    assert caught.value.message.isprintable() and str(caught.value.hint).isprintable()


def test_an_answer_without_counts_has_none(client: RemoteClient, server: Scripted) -> None:
    server.act = says("Hello", usage=None)
    assert heard(client) == ([TextPiece("Hello"), End("stop")], None)
