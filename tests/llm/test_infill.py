"""Prompts of fill-in-the-middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.errors import RequestError
from localllm.hardware.types import LoadOptions
from localllm.llm import LLM
from localllm.llm.infill import Snippet
from localllm.runtime import open_backend
from localllm.runtime.backend import FimTokens
from tests.scripted_backend import ScriptedBackend
from tests.tiny_model import vocabulary, write_tiny_model

PRE, SUF, MID, REP, SEP = range(1001, 1006)
PLAIN = FimTokens(pre=PRE, suf=SUF, mid=MID)
WITH_FILES = FimTokens(pre=PRE, suf=SUF, mid=MID, rep=REP, sep=SEP)


def model(fim: FimTokens | None = PLAIN, **info: object) -> LLM:
    return LLM(ScriptedBackend(fim=fim, **info))


def spelled(tokens: list[int]) -> str:
    """Return tokens of bytes as text, control tokens as <n>."""
    return "".join(chr(token) if token < 256 else f"<{token - 1000}>" for token in tokens)


def test_prefix_suffix_middle() -> None:
    prompt = model().infill_prompt("ab", "cd")
    assert spelled(prompt.tokens) == "<1>ab<2>cd<3>" and prompt.n_dropped == 0
    assert spelled(model().infill_prompt("", "").tokens) == "<1><2><3>"


def test_a_model_that_wants_bos_gets_it_first() -> None:
    assert spelled(model(add_bos=True, bos_text="^").infill_prompt("a", "b").tokens) == "^<1>a<2>b<3>"


def test_other_texts_are_files_of_a_repository_where_the_model_knows_such() -> None:
    extra = [Snippet("x = 1", "x.py"), Snippet("y")]
    found = spelled(model(WITH_FILES).infill_prompt("a", "b", extra=extra).tokens)
    assert found == "<4>repository\n<5>x.py\nx = 1\n<5>snippet\ny\n<5>edited\n<1>a<2>b<3>"
    assert spelled(model(WITH_FILES).infill_prompt("a", "b").tokens) == "<1>a<2>b<3>"
    assert spelled(model().infill_prompt("a", "b", extra=extra).tokens) == "x.py:\nx = 1\n\nsnippet:\ny\n\n<1>a<2>b<3>"


def test_the_last_texts_are_kept_as_far_as_they_fit() -> None:
    extra = [Snippet("1" * 20), Snippet("2" * 20), Snippet("3" * 20)]
    everything = model().infill_prompt("ab", "cd", extra=extra)
    prompt = model().infill_prompt("ab", "cd", extra=extra, max_prompt_tokens=len(everything.tokens) - 1)
    text = spelled(prompt.tokens)
    assert "1" * 20 not in text and "2" * 20 in text and "3" * 20 in text and prompt.n_dropped == 20
    assert text.endswith("<1>ab<2>cd<3>")


def test_what_is_near_the_gap_is_kept() -> None:
    prompt = model().infill_prompt("abcdefgh", "ijklmnop", extra=[Snippet("x")], max_prompt_tokens=11)
    assert spelled(prompt.tokens) == "<1>cdefgh<2>ij<3>" and prompt.n_dropped == 9


@given(
    st.text("abc", max_size=40), st.text("def", max_size=40), st.lists(st.text("gh", max_size=20)), st.integers(3, 90),
    st.sampled_from([PLAIN, WITH_FILES]),
)  # fmt: skip
def test_a_prompt_fits_and_every_token_is_in_it_or_counted(
    prefix: str, suffix: str, texts: list[str], room: int, fim: FimTokens
) -> None:
    extra = [Snippet(text) for text in texts]
    prompt = model(fim).infill_prompt(prefix, suffix, extra=extra, max_prompt_tokens=room)
    assert len(prompt.tokens) <= room
    kept = sum(chr(token) in "abc" for token in prompt.tokens[prompt.tokens.index(PRE) : prompt.tokens.index(SUF)])
    assert prefix.endswith(spelled(prompt.tokens)[spelled(prompt.tokens).index("<1>") + 3 :][:kept])
    assert prompt.n_dropped <= len(prefix) + len(suffix) + sum(map(len, texts))
    if kept < len(prefix):
        assert prompt.n_dropped >= len(prefix) - kept + sum(map(len, texts))


def test_a_model_without_the_tokens_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="scripted cannot fill gaps"):
        model(None).infill_prompt("a", "b")


def test_no_room_for_a_gap_is_an_error() -> None:
    with pytest.raises(RequestError, match="no room"):
        model().infill_prompt("a", "b", max_prompt_tokens=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    names = {"pre": "Ġt", "suf": "he", "mid": "in"}
    extra = {f"tokenizer.ggml.fim_{name}_token_id": vocabulary().index(text) for name, text in names.items()}
    path: Path = write_tiny_model(tmp_path_factory.mktemp("fim") / "m.gguf", extra=extra)
    with LLM(open_backend(path, LoadOptions(), in_process=False)) as llm:
        yield llm


def test_a_models_own_tokens_reach_the_prompt(tiny: LLM) -> None:
    pre, suf, mid = (vocabulary().index(text) for text in ("Ġt", "he", "in"))
    assert tiny.info.fim == FimTokens(pre=pre, suf=suf, mid=mid)
    tokens = tiny.infill_prompt("a<|im_end|>", "b").tokens
    assert tokens[0] == pre and tokens[-1] == mid and tokens[tokens.index(suf) + 1 : -1] == tiny.tokenize("b")
    assert vocabulary().index("<|im_end|>") not in tokens
    assert list(tiny.generate(tokens, max_tokens=2))[-1].text is not None  # type: ignore[arg-type, union-attr]
