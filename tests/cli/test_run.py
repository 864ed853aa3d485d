"""`localllm run`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from localllm.cli.run import model_and_prompt
from localllm.cli.status import chat_summary, speed_summary
from localllm.engine.events import Timings, Usage
from localllm.errors import ModelNotFound, RequestError
from localllm.hardware.types import AdapterSpec
from localllm.llm import Done
from tests.cli.conftest import Cli
from tests.scripted_backend import Script, crash


def test_answer_is_on_stdout_and_ends_with_a_line_feed(cli: Cli) -> None:
    cli.says("Hello!")
    result = cli("run", "Hi")
    assert (result.code, result.out, result.err) == (0, "Hello!\n", "")
    assert cli.backend.calls[0].prompt_text == "<user>Hi<assistant>"
    assert cli.backend.closed


def test_answer_with_a_line_feed_gets_no_second_one(cli: Cli) -> None:
    cli.says("Hello!\n")
    assert cli("run", "Hi").out == "Hello!\n"


def test_flags_reach_the_load_and_the_request(cli: Cli) -> None:
    flags = "--n-ctx 512 --threads 2 --gpu-layers all --kv-type q8_0,f16 --kv-store 1GB --spec ngram --system Brief."
    flags += " --spec-lookup shared --draft-model d.gguf --rpc 10.0.0.5:50052"
    more = "--seed 0 --temperature 0 --top-p 0.5 --top-k 7 --min-p 0.1 --max-tokens 3 --stop END --stop FIN"
    cli.says("one two")
    result = cli("run", *flags.split(), *more.split(), "m.gguf", "Hi")
    assert result.out == "one\n"
    assert cli.loads == [
        {
            "ref": "m.gguf",
            "n_ctx": 512,
            "gpu_layers": "all",
            "n_threads": 2,
            "kv_type": "q8_0",
            "kv_type_v": "f16",
            "kv_store_bytes": 1 << 30,
            "rpc": ("10.0.0.5:50052",),
            "n_slots": 1,
            "spec": "ngram",
            "shares_texts": True,
            "draft_model": "d.gguf",
            "adapters": [],
            "in_process": True,
        }
    ]
    (call,) = cli.backend.calls
    sampling = call.request.sampling
    assert (sampling.seed, sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0, 0, 0.5, 7, 0.1)
    assert (call.request.max_tokens, call.controls.stop) == (3, ("END", "FIN"))
    assert call.prompt_text == "<system>Brief.<user>Hi<assistant>"


@pytest.mark.parametrize("verb", [["run", "Hi"], ["chat"]])
def test_kv_types_of_each_side_reach_the_load(cli: Cli, verb: list[str]) -> None:
    flags = ["--kv-type", "auto", "--kv-type-v", "q5_1"]
    assert cli(*verb, *flags, stdin="" if verb == ["chat"] else None).code == 0
    assert (cli.loads[0]["kv_type"], cli.loads[0]["kv_type_v"]) == ("auto", "q5_1")


def test_what_the_plan_reduced_is_said_on_stderr(cli: Cli) -> None:
    cli.says("Hello!", plan_notes=("The KV cache is q8_0, so that n_ctx is 8192 and not 4096.",))
    result = cli("run", "Hi")
    assert (result.out, result.err) == ("Hello!\n", "The KV cache is q8_0, so that n_ctx is 8192 and not 4096.\n")


@pytest.mark.parametrize("verb", [["run", "Hi"], ["chat"]])
def test_adapters_reach_the_load(cli: Cli, verb: list[str]) -> None:
    flags = ["--lora-scaled", "b.gguf", "-0.5", "--lora", "a.gguf", "--lora", "c.gguf"]
    assert cli(*verb, *flags, stdin="" if verb == ["chat"] else None).code == 0
    assert cli.loads[0]["adapters"] == [
        AdapterSpec(Path("a.gguf")),
        AdapterSpec(Path("c.gguf")),
        AdapterSpec(Path("b.gguf"), -0.5),
    ]


def test_settings_come_from_the_environment_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_MAX_TOKENS", "2")
    assert cli("run", "Hi").out == "He\n"


def test_json_is_one_object_of_this_shape(cli: Cli) -> None:
    cli.says("Grüße")
    result = cli("run", "--json", "Hi")
    assert result.out.count("\n") == 1 and "Grüße" in result.out
    assert json.loads(result.out) == {
        "text": "Grüße",
        "finish_reason": "stop",
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 7,
            "cached_tokens": 0,
            "evicted_tokens": 0,
            "speculation": None,
            "cache": None,
        },
        "timings": {"load_s": 0.25, "ttft_s": 0.08, "prefill_tok_s": 400.0, "decode_tok_s": 152.0},
    }


@pytest.mark.parametrize("flag", ["--stats", "--verbose"])
def test_stats_are_one_line_on_stderr(cli: Cli, flag: str) -> None:
    result = cli("run", flag, "Hi")
    assert result.out == "Hello!\n"
    assert result.err == "6 tokens · 152 tok/s · first token 0.08 s · prompt 19 tokens (0 reused)\n"


def test_raw_prompt_has_no_template(cli: Cli) -> None:
    cli("run", "--raw", "Once upon")
    assert cli.backend.calls[0].prompt_text == "Once upon"
    assert cli("run", "--raw", "--system", "x", "Once").code == 6


def test_piped_text_goes_before_the_prompt_with_a_blank_line_between(cli: Cli) -> None:
    cli("run", "--raw", "Explain this.", stdin="a change\n")
    assert cli.backend.calls[0].prompt_text == "a change\n\nExplain this."


def test_piped_text_that_is_not_utf8_is_refused(cli: Cli) -> None:
    result = cli("run", "Hi", stdin=b"\xff\xfe")
    assert result.code == 6
    assert result.err.startswith("error: stdin is not UTF-8 text")


@pytest.mark.parametrize(
    ("arguments", "piped", "expected"),
    [
        (["Why?"], None, (None, "Why?")),
        (["Why?"], "text", (None, "text\n\nWhy?")),
        (["smollm2"], "text", ("smollm2", "text")),
        (["some/model.GGUF"], "text", ("some/model.GGUF", "text")),
        (["smollm2", "Why?"], None, ("smollm2", "Why?")),
        (["smollm2", "Why?"], "text", ("smollm2", "text\n\nWhy?")),
        ([], "text", (None, "text")),
    ],
)
def test_model_and_prompt_are_told_apart(
    arguments: list[str], piped: str | None, expected: tuple[str | None, str]
) -> None:
    assert model_and_prompt(arguments, piped) == expected


@pytest.mark.parametrize("arguments", [[], ["model.gguf"], ["smollm2"]])
def test_missing_prompt_is_an_error_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        model_and_prompt(arguments, None)
    assert caught.value.hint is not None and "localllm run" in caught.value.hint


def test_existing_file_alone_is_a_model_without_a_prompt(tmp_path: Path) -> None:
    model = tmp_path / "weights.bin"
    model.touch()
    assert model_and_prompt([str(model)], "text") == (str(model), "text")
    with pytest.raises(RequestError, match="no prompt"):
        model_and_prompt([str(model)], None)


def test_empty_stdin_is_no_prompt(cli: Cli) -> None:
    result = cli("run", "smollm2", stdin="\n")
    assert result.code == 6 and "no prompt" in result.err


def test_unquoted_prompt_says_so(cli: Cli) -> None:
    result = cli("run", "why", "is", "it")
    assert result.code == 2 and "quotes" in result.err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "Cannot read"), (b"{", "not JSON"), (b"\xff", "not UTF-8"), (b'{"not": {}}', "cannot be enforced")],
)
def test_bad_schema_is_refused_before_the_model_is_loaded(
    cli: Cli, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_bytes(content)
    result = cli("run", "--json-schema", str(path), "Hi")
    assert result.code == 6
    lines = result.err.splitlines()
    assert lines[0].startswith("error: ") and message in lines[0] and lines[1].startswith("hint: ")
    assert len(lines) == 2 and cli.loads == []


def test_schema_reaches_the_request(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"type": "object"}')
    cli("run", "--json-schema", str(path), "Hi")
    grammar = cli.backend.calls[0].controls.grammar
    assert grammar is not None and (grammar.kind, json.loads(grammar.text)) == ("json_schema", {"type": "object"})


def test_bad_value_is_refused_before_the_model_is_loaded(cli: Cli) -> None:
    result = cli("run", "--temperature", "hot", "Hi")
    assert result.code == 6 and result.err.startswith("error: --temperature is 'hot'")
    assert cli.loads == []


def test_load_failure_is_told(cli: Cli) -> None:
    cli.load_error = ModelNotFound("No file x.gguf.", hint="Check the path.")
    result = cli("run", "x.gguf", "Hi")
    assert (result.code, result.err) == (4, "error: No file x.gguf.\nhint: Check the path.\n")


def test_prompt_longer_than_the_context_is_told(cli: Cli) -> None:
    cli.says(n_ctx=8)
    result = cli("run", "a long question")
    assert result.code == 7 and "context 8" in result.err


def test_crash_in_the_middle_is_told_after_the_text_so_far(cli: Cli) -> None:
    cli.says(crash("par"))
    result = cli("run", "Hi")
    assert result.code == 8 and result.out.startswith("par") and "worker process ended" in result.err
    assert cli.backend.closed


def test_control_characters_reach_pipes_but_no_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.says("a\x1b[2Jb\tc")
    assert cli("run", "Hi").out == "a\x1b[2Jb\tc\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    cli.says("a\x1b[2Jb\tc")
    assert cli("run", "Hi").out == "a[2Jb\tc\n"


def test_progress_of_a_long_prompt_is_shown_at_a_terminal_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.says(Script("Yes.", n_progress=2))
    assert cli("run", "word " * 200).err == ""
    cli.says(Script("Yes.", n_progress=2))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    err = cli("run", "word " * 200).err
    assert "\r\x1b[2Kloading the model 50%" in err
    assert "\r\x1b[2Kreading the prompt 508/1017\r\x1b[2K" in err


def test_summary_says_how_many_tokens_were_forgotten() -> None:
    usage = Usage(prompt_tokens=900, completion_tokens=200, cached_tokens=0, evicted_tokens=255)
    timings = Timings(queue_s=0, ttft_s=1, prefill_s=1, decode_s=1, prefill_tok_s=1, decode_tok_s=1)
    done = Done(text="", finish_reason="stop", usage=usage, timings=timings)
    assert speed_summary(done).endswith(" · 255 tokens forgotten")
    assert "context 845/1024" in chat_summary(done, 1024) and chat_summary(done, 1024).endswith("255 tokens forgotten")
    plain = msgspec.structs.replace(done, usage=msgspec.structs.replace(usage, evicted_tokens=0))
    assert "forgotten" not in speed_summary(plain) + chat_summary(plain, 1024)
