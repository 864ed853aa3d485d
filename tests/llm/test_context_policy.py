"""What a caller says of the context policy reaches the engine; conversations keep their system prompt."""

from __future__ import annotations

import pytest

from localllm.engine import GenerationRequest
from localllm.errors import RequestError
from localllm.llm import LLM
from tests.scripted_backend import ScriptedBackend

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Be kind."}]


def asked(backend: ScriptedBackend) -> GenerationRequest:
    return backend.calls[-1].request


def test_error_is_the_default_policy() -> None:
    backend = ScriptedBackend()
    LLM(backend).ask("Hello?")
    assert (asked(backend).context_policy, asked(backend).n_sink, asked(backend).n_keep) == ("error", 4, None)


def test_options_reach_the_engine() -> None:
    backend = ScriptedBackend()
    LLM(backend).ask("Hello?", context_policy="sinks", n_sink=7)
    assert (asked(backend).context_policy, asked(backend).n_sink) == ("sinks", 7)


@pytest.mark.parametrize(
    ("talk", "head"),
    [
        (TALK, "<system>Be brief.<user>"),
        (TALK[1:], "<user>"),
        (TALK[:1], "<system>Be brief.<assistant>"),
        ([*TALK, {"role": "assistant", "content": "Yes."}, *TALK[1:]], "<system>Be brief.<user>"),
    ],
)
def test_shift_keeps_a_conversation_up_to_what_was_first_said(talk: list[dict[str, str]], head: str) -> None:
    backend = ScriptedBackend()
    LLM(backend).ask(talk, context_policy="shift")
    n_keep = asked(backend).n_keep
    assert n_keep == len(head) and backend.calls[-1].prompt_text.startswith(head)


def test_n_keep_of_the_caller_counts_and_a_text_has_no_head_of_its_own() -> None:
    backend = ScriptedBackend()
    llm = LLM(backend)
    llm.ask(TALK, context_policy="shift", n_keep=3)
    assert asked(backend).n_keep == 3
    list(llm.generate("Once", context_policy="shift"))
    assert asked(backend).n_keep is None


def test_defaults_hold_where_a_call_does_not_say() -> None:
    backend = ScriptedBackend()
    llm = LLM(backend, {"context_policy": "sinks", "n_sink": 9})
    llm.ask("Hello?")
    assert (asked(backend).context_policy, asked(backend).n_sink) == ("sinks", 9)
    list(llm.generate("Once", context_policy="error"))
    assert asked(backend).context_policy == "error"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_policy": "slide"}, "error, shift, sinks"),
        ({"context_policy": None}, "context_policy is None"),
        ({"n_sink": -1}, "n_sink is -1"),
        ({"n_keep": -2}, "n_keep is -2"),
    ],
)
def test_values_that_are_not_allowed_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        LLM(ScriptedBackend()).ask("Hello?", **options)  # type: ignore[arg-type]
