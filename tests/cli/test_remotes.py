"""`localllm remote`, and run, chat, bench and eval of a remote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.cli.reference import reference
from localllm.remotes import Remote, Remotes
from tests.cli.conftest import Cli
from tests.remotes.fixtures import lab, server
from tests.remotes.scripted import Scripted, delta, log_prob, refuses, says

__all__ = ["lab", "server"]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, with nothing scripted but the server."""
    return Cli(capsys, monkeypatch)


def test_a_remote_is_added_listed_and_removed(cli: Cli) -> None:
    added = cli("remote", "add", "lab", "10.0.0.5:8000/v1", "--key", "sk-secret", "--model", "m")
    assert added.code == 0 and "http://10.0.0.5:8000" in added.err and "unencrypted" in added.err
    listed, as_json = cli("remote", "list"), cli("remote", "list", "--json")
    assert listed.out.splitlines()[1].split() == ["@lab", "http://10.0.0.5:8000", "m", "kept"]
    assert json.loads(as_json.out) == [
        {"name": "lab", "url": "http://10.0.0.5:8000", "model": "m", "key": "kept", "silence_s": 60.0}
    ]
    assert "sk-secret" not in added.err + listed.out + as_json.out
    assert cli("remote", "rm", "lab").code == 0
    assert json.loads(cli("remote", "list", "--json").out) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "la b", "http://x"), 6, "no name for a remote"),
        (("add", "lab", "nonsense://x"), 6, "not a server's address"),
        (("add", "lab", "http://x", "--key", "a", "--key-env", "B"), 6, "exclude each other"),
        (("add", "lab", "http://x", "--key", "a\nb"), 6, "printable"),
        (("rm", "nowhere"), 4, "No remote is called 'nowhere'"),
        (("check", "nowhere"), 4, "No remote is called 'nowhere'"),
    ],
)
def test_bad_input_is_refused(cli: Cli, arguments: tuple[str, ...], code: int, words: str) -> None:
    result = cli("remote", *arguments)
    assert result.code == code and words in result.err
    assert Remotes().all() == {}


def test_the_reference_shows_the_commands_of_a_verb() -> None:
    text = reference()
    assert "## localllm remote\n" in text and "Usage: localllm remote add [OPTIONS] NAME URL" in text


def test_check_tells_what_it_is_and_has_and_how_fast(cli: Cli, lab: Remote, server: Scripted) -> None:
    server.serves("org/model", owner="vllm", max_model_len=8192)
    server.pages["/version"] = {"version": "0.11.0"}
    result = cli("remote", "check", "lab")
    assert result.code == 0
    assert "@lab/org/model, context 8,192" in result.out and "vLLM 0.11.0" in result.out and "3 tokens" in result.out
    found = json.loads(cli("remote", "check", "@lab", "--json").out)
    assert (found["engine"], found["version"], found["model"]) == ("vLLM", "0.11.0", "org/model")
    assert found["ttft_s"] > 0 and found["models"] == [{"id": "org/model", "n_ctx": 8192}]


def test_run_answers(cli: Cli, lab: Remote, server: Scripted) -> None:
    result = cli("run", "@lab", "Hi")
    assert (result.code, result.out) == (0, "Hello.\n")
    assert set(server.chats[0]) == {"model", "messages", "stream", "stream_options"}
    found = json.loads(cli("run", "@lab", "Hi", "--json").out)
    assert (found["text"], found["usage"]["completion_tokens"]) == ("Hello.", 3)


def test_run_takes_the_prompt_from_a_pipe(cli: Cli, lab: Remote, server: Scripted) -> None:
    assert cli("run", "@lab", stdin="Hi there\n").out == "Hello.\n"
    assert server.chats[0]["messages"] == [{"role": "user", "content": "Hi there"}]


def test_what_is_chosen_is_sent(cli: Cli, lab: Remote, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_TOP_P", "0.5")
    monkeypatch.setenv("LOCALLLM_N_CTX", "512")
    assert cli("run", "@lab", "Hi", "--temperature", "0.3", "--system", "Be brief.").code == 0
    sent = server.chats[0]
    assert (sent["temperature"], sent["top_p"]) == (0.3, 0.5) and "top_k" not in sent and "seed" not in sent
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "@lab", "Hi", "--n-ctx", "512"), "--n-ctx is not for a remote"),
        (("run", "@lab", "Hi", "--draft-model", "smollm2"), "--draft-model is not for a remote"),
        (("run", "@lab", "Hi", "--lora", "x.gguf"), "--lora is not for a remote"),
        (("run", "@lab", "Hi", "--top-k", "5"), "top_k cannot be asked of"),
        (("bench", "@lab", "--types", "Q4_K_M"), "--types is not for a remote"),
        (("bench", "@lab", "Q4_K_M"), "A type is not for a remote"),
        (("bench", "@lab", "--no-speed"), "--no-speed is not for a remote"),
        (("bench", "@lab", "--clients", "0"), "--clients is '0'"),
        (("bench", "@lab", "--max-tokens", "1"), "--max-tokens is 1"),
        (("bench", "x.gguf", "--clients", "2"), "--clients is for remotes"),
        (("eval", "@lab", "--kv-type", "q8_0"), "--kv-type is not for a remote"),
        (("eval", "@lab", "--threads", "2"), "--threads is not for a remote"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    cli: Cli, lab: Remote, server: Scripted, arguments: tuple[str, ...], words: str
) -> None:
    result = cli(*arguments)
    assert result.code == 6 and words in result.err
    assert server.chats == []


def test_run_keeps_what_came_before_the_end_of_the_server(cli: Cli, lab: Remote, server: Scripted) -> None:
    server.act = lambda handler: (handler.begin(), handler.send(delta(content="Once upon")))[0]
    result = cli("run", "@lab", "Hi")
    assert result.code == 9 and result.out.startswith("Once upon")
    assert "lab closed the stream without an end, after 9 characters" in result.err


def test_run_keeps_half_an_answer_as_json(cli: Cli, lab: Remote, server: Scripted) -> None:
    server.act = lambda handler: (handler.begin(), handler.send(delta(content="Once upon")))[0]
    result = cli("run", "@lab", "Hi", "--json")
    found = json.loads(result.out)
    assert (result.code, found["text"], found["finish_reason"]) == (9, "Once upon", "error")
    assert found["error"] in result.err


def test_run_says_that_a_server_has_stopped(cli: Cli, lab: Remote, server: Scripted) -> None:
    server.hangs_after("Once upon")
    result = cli("run", "@lab", "Hi")
    assert result.code == 9 and "lab has not answered for 0.3 s, after 9 characters" in result.err


def test_chat_remembers_and_keeps_half_an_answer(cli: Cli, lab: Remote, server: Scripted) -> None:
    answers = iter(
        [says("One."), lambda handler: (handler.begin(), handler.send(delta(content="Half")))[0], says("Two.")]
    )
    server.act = lambda handler: next(answers)(handler)
    result = cli("chat", "@lab", stdin="first\nsecond\n/stats\nthird\n")
    assert result.code == 0 and "after 4 characters" in result.err and "whose counters are there" in result.err
    said = [message["content"] for message in server.chats[-1]["messages"]]
    assert said == ["first", "One.", "second", "Half", "third"]


def test_a_refused_question_leaves_no_trace_in_chat(cli: Cli, lab: Remote, server: Scripted) -> None:
    answers = iter([refuses(400, {"error": {"message": "no"}}), says("Two.")])
    server.act = lambda handler: next(answers)(handler)
    assert "lab refused: no" in cli("chat", "@lab", stdin="first\nsecond\n").err
    assert [message["content"] for message in server.chats[-1]["messages"]] == ["second"]


def test_bench_measures_clients_at_once(cli: Cli, lab: Remote, server: Scripted) -> None:
    result = cli("bench", "@lab", "--clients", "1,3", "--json", "-")
    assert result.code == 0
    levels = json.loads(result.out)["levels"]
    assert [(one["clients"], one["n_answers"], one["completion_tokens"]) for one in levels] == [(1, 2, 6), (3, 6, 18)]
    prompts = [body["messages"][0]["content"] for body in server.chats]
    assert len(set(prompts)) == len(prompts) == 1 + 2 + 6
    assert all(one["tok_s"] > 0 and one["ttft_s"] > 0 for one in levels)


def test_bench_counts_failures(cli: Cli, lab: Remote, server: Scripted) -> None:
    answers = iter([says("warm"), refuses(500, {"error": "boom"}), says("one")])
    server.act = lambda handler: next(answers)(handler)
    result = cli("bench", "@lab", "--clients", "1")
    assert result.code == 0 and result.out.split()[-2:] == ["1", "1"] and "boom" in result.err


def test_bench_of_a_dead_server_fails(cli: Cli, lab: Remote, server: Scripted) -> None:
    answers = iter([says("warm"), *[refuses(500, {"error": "boom"})] * 2])
    server.act = lambda handler: next(answers)(handler)
    assert cli("bench", "@lab", "--clients", "1").code == 9


def expected_perplexity(text: str, n_ctx: int, n_chunks: int) -> float:
    """The perplexity of the scripted model, straight from its definition."""
    from math import exp

    tokens = [1, *text.encode()]
    values = []
    for chunk in range(n_chunks):
        piece = [1, *tokens[chunk * n_ctx + 1 : (chunk + 1) * n_ctx]]
        values += [log_prob(place, piece[place]) for place in range(n_ctx // 2 + 1, n_ctx)]
    return exp(-sum(values) / len(values))


@pytest.mark.parametrize(("owner", "way", "n_requests"), [("vllm", "echo", 2), ("llamacpp", "forced", 30)])
def test_eval_finds_the_perplexity_in_both_ways(
    cli: Cli, lab: Remote, server: Scripted, tmp_path: Path, owner: str, way: str, n_requests: int
) -> None:
    server.serves("m", owner=owner)
    text = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while."
    (tmp_path / "text.txt").write_text(text)
    result = cli("eval", "@lab", "--text", str(tmp_path / "text.txt"), "--n-ctx", "32", "--chunks", "2", "--json", "-")
    assert result.code == 0
    found = json.loads(result.out)
    assert (found["way"], found["n_scored"], found["n_requests"]) == (way, 30, n_requests)
    assert found["perplexity"]["value"] == pytest.approx(expected_perplexity(text, 32, 2))
    assert found["perplexity"]["standard_error"] > 0


@pytest.mark.parametrize("owner", ["somebody", "llamacpp"])
def test_eval_says_which_servers_can(cli: Cli, lab: Remote, server: Scripted, owner: str) -> None:
    server.serves("m", owner=owner)
    server.has_echo = server.has_bias = False
    result = cli("eval", "@lab", "--chunks", "1")
    assert result.code == 6 and "does not tell the log-probabilities" in result.err and "vLLM, SGLang" in result.err
