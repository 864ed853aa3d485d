"""Point 7: n, logit_bias, seed, stop, penalties, and fields without a meaning here."""

from __future__ import annotations

from collections import Counter
from typing import Any

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import BIASED_TOKEN, COUNT, FORCED_TOKEN, HELLO, only
from localllm.conformance.target import Target

_WILD: Json = {"temperature": 1.8, "max_tokens": 16}
_LOTTERY: Json = {
    "temperature": 2.0,
    "max_tokens": 3,
    "logit_bias": {str(token): 100 for token in range(BIASED_TOKEN, BIASED_TOKEN + 64)},
}
"""Each token is drawn from 64 that no other can beat."""
_STORY = "Write a story."
_PHRASE = "alpha beta gamma delta"


@check(7)
async def n_gives_n_choices(target: Target) -> None:
    """n gives so many choices, numbered, and the usage counts all of them."""
    answer = await target.chat(COUNT, n=3, max_tokens=4)
    expect_equal("the indexes", [choice["index"] for choice in answer["choices"]], [0, 1, 2])
    expect_equal("completion_tokens", answer["usage"]["completion_tokens"], 12)


@check(7)
async def n_choices_differ(target: Target) -> None:
    """The choices are drawn one by one: at a high temperature they are not all the same."""
    answer = await target.chat(_STORY, n=4, **_WILD)
    texts = {choice["message"]["content"] for choice in answer["choices"]}
    expect(len(texts) > 1, "different texts", texts)


@check(7)
async def n_streamed(target: Target) -> None:
    """In a stream each choice has its own role, text and finish reason."""
    stream = await target.stream(COUNT, n=2, max_tokens=4)
    for index in (0, 1):
        roles = [delta["role"] for delta in stream.deltas(index) if "role" in delta]
        expect_equal(f"the roles of choice {index}", roles, ["assistant"])
        expect(bool(stream.content(index)), f"a text of choice {index}", stream.deltas(index))
        expect_equal(f"the end of choice {index}", stream.finish_reason(index), "length")


@check(7)
async def n_0_is_refused(target: Target) -> None:
    """n 0 is HTTP 400."""
    answer = await target.post_chat(HELLO, n=0)
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")


@check(7)
async def logit_bias_forces(target: Target) -> None:
    """A logit_bias of 100 makes a token come every time."""
    answer = await target.chat(HELLO, logprobs=True, max_tokens=6, **FORCED_TOKEN)
    tokens = [token["token"] for token in answer["choices"][0]["logprobs"]["content"]]
    expect(len(tokens) == 6 and len(set(tokens)) == 1, "one token six times", tokens)


@check(7)
async def logit_bias_forbids(target: Target) -> None:
    """A logit_bias of -100 keeps a token from coming."""
    first = (await target.chat(COUNT, logprobs=True, max_tokens=1))["choices"][0]["logprobs"]["content"][0]
    ids = await target.tokens(first["token"])
    fields = {"logit_bias": {str(token): -100 for token in ids}, "max_tokens": 1, "logprobs": True}
    second = (await target.chat(COUNT, **fields))["choices"][0]["logprobs"]["content"][0]
    expect(first["token"] != second["token"], f"another token than {first['token']!r}", second["token"])


async def _expect_one_text(target: Target, seed: int) -> None:
    """Raise Unmet unless most of five draws are the same.

    They are three draws of 64 tokens each, so chance does not repeat them. One may stray: where a prompt was partly
    cached, sums are rounded in another order.
    """
    texts = [await target.text(HELLO, seed=seed, **_LOTTERY) for _ in range(5)]
    [(_, n_same)] = Counter(texts).most_common(1)
    expect(n_same >= 3, "the same text again and again", texts)


@check(7)
async def seed_repeats(target: Target) -> None:
    """The same seed gives the same text."""
    await _expect_one_text(target, 1234)


@check(7)
async def seed_0_is_a_seed(target: Target) -> None:
    """0 is a seed like any other."""
    await _expect_one_text(target, 0)


@check(7)
async def seeds_differ(target: Target) -> None:
    """Different seeds give different texts."""
    texts = {await target.text(HELLO, seed=seed, **_LOTTERY) for seed in range(4)}
    expect(len(texts) > 1, "different texts for seeds 0 to 3", texts)


@check(7)
async def draws_without_a_seed_differ(target: Target) -> None:
    """Requests without a seed give different texts."""
    texts = {await target.text(HELLO, **_LOTTERY) for _ in range(4)}
    expect(len(texts) > 1, "different texts", texts)


@check(7)
async def greedy_repeats(target: Target) -> None:
    """Temperature 0 gives the same text every time."""
    texts = {await target.text(COUNT) for _ in range(3)}
    expect(len(texts) == 1, "one text", texts)


async def _stopped(target: Target, stop: Any) -> tuple[str, str, list[str | None]]:
    """Return the text whole and streamed, and both finish reasons."""
    await target.need_schemas()
    fields = {"stop": stop, "max_tokens": 120, **only(_PHRASE)}
    whole = (await target.chat(HELLO, **fields))["choices"][0]
    stream = await target.stream(HELLO, **fields)
    return whole["message"]["content"], stream.content(), [whole["finish_reason"], stream.finish_reason()]


@check(7)
async def stop_as_text(target: Target) -> None:
    """`stop` as a string ends the answer before it, with the reason `stop`."""
    whole, streamed, reasons = await _stopped(target, "gamma")
    expect(whole.endswith("alpha beta "), "the text before the stop string", whole)
    expect(streamed.endswith("alpha beta "), "the streamed text before the stop string", streamed)
    expect_equal("the finish reasons", reasons, ["stop", "stop"])


@check(7)
async def stop_as_list(target: Target) -> None:
    """`stop` as a list ends at whichever comes first."""
    whole, streamed, _ = await _stopped(target, ["omega", "delta", "gam", "zeta"])
    expect(whole.endswith("alpha beta "), "the text before the first stop string", whole)
    expect(streamed.endswith("alpha beta "), "the streamed text before it", streamed)


@check(7)
async def stop_is_never_sent_in_part(target: Target) -> None:
    """A stop string of several tokens is not sent, not even its beginning."""
    whole, streamed, _ = await _stopped(target, "beta gamma d")
    expect(whole.endswith("alpha "), "the text before the stop string", whole)
    expect(streamed.endswith("alpha "), "the streamed text before it", streamed)


@check(7)
async def what_only_begins_a_stop_is_sent(target: Target) -> None:
    """Text that only begins like a stop string is sent after all, all of it."""
    whole, streamed, _ = await _stopped(target, "gamma epsilon")
    expect(_PHRASE in whole, "the whole text", whole)
    expect(_PHRASE in streamed, "the whole text, streamed", streamed)


@check(7)
async def stop_may_be_empty(target: Target) -> None:
    """`stop` may be null or an empty list."""
    await target.chat(HELLO, stop=None, max_tokens=2)
    await target.chat(HELLO, stop=[], max_tokens=2)


@check(7)
async def frequency_penalty(target: Target) -> None:
    """A frequency_penalty makes a token that came often give way to others."""
    bias = {"logit_bias": {str(BIASED_TOKEN): 50}, "logprobs": True, "max_tokens": 60}
    fields = {**bias, "frequency_penalty": 2.0}
    found = (await target.chat(HELLO, **fields))["choices"][0]["logprobs"]["content"]
    tokens = [token["token"] for token in found]
    expect(len(set(tokens[:4])) == 1, "the biased token at first", tokens[:4])
    expect(len(set(tokens)) > 1, "other tokens after it came 50 times", tokens[-4:])


@check(7)
async def penalties_are_accepted(target: Target) -> None:
    """Penalties from -2 to 2, and top_p, are accepted."""
    await target.ask(HELLO, presence_penalty=-2.0, frequency_penalty=2.0, top_p=0.9, max_tokens=2)
    await target.ask(HELLO, presence_penalty=2.0, frequency_penalty=-2.0, top_p=1.0, max_tokens=2)


@check(7)
async def fields_without_meaning_are_ignored(target: Target) -> None:
    """What has no meaning here is ignored: user, store, metadata, service_tier and the like."""
    await target.ask(
        HELLO,
        user="user-1",
        store=False,
        metadata={"a": "b"},
        service_tier="auto",
        prompt_cache_key="key",
        safety_identifier="id",
        modalities=["text"],
        max_tokens=2,
    )


@check(7)
async def nulls_are_as_left_out(target: Target) -> None:
    """A field that is null is as one that was left out.

    Clients in typed languages send every field they know.
    """
    names = ("n", "stop", "seed", "top_p", "logit_bias", "presence_penalty", "frequency_penalty", "user", "tools",
             "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "stream_options",
             "metadata", "store", "reasoning_effort")  # fmt: skip
    await target.chat(HELLO, max_tokens=2, **dict.fromkeys(names))


@check(7)
async def unknown_fields_are_ignored(target: Target) -> None:
    """A field that the server does not know does not fail the request."""
    await target.chat(HELLO, max_tokens=2, field_of_next_year={"a": 1})
