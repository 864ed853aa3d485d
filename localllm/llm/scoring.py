"""How likely a model finds an answer that is there already, token by token.

The engine gives probabilities only of tokens that it generates, so the answer is generated once more, with no choice
left: each token is the one that the answer has. That costs what writing it cost, less what the prefix cache still holds
of the prompt; nothing is loaded, and other requests go on beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from localllm.errors import RequestError
from localllm.llm.options import GenerationSpec, parse_options
from localllm.llm.prompt import Prompt, Prompter
from localllm.runtime.backend import ReasoningLimit, TextControls

MAX_TOP = 20
_NEVER = "\N{SYMBOL FOR END OF TEXT}"


def forced(
    prompter: Prompter, messages: Sequence[Mapping[str, Any]], n_top: int, options: Mapping[str, Any]
) -> tuple[Prompt, GenerationSpec]:
    """Return the prompt and the options by which the last message is said again.

    Args:
        prompter: of the model.
        messages: the last one is the assistant's, and has text.
        n_top: how many of the likeliest tokens are wanted beside each, 20 at most.
        options: those of the conversation that its prompt depends on, such as `tools` and `thinking`.

    Raises:
        RequestError: as `LLM.chat`; also where the template does not show the message as it is.
    """
    spec = parse_options({**options, "continue_final_message": True, "logprobs": n_top, "temperature": 0.0})
    head, answer = prompter.of_answer(messages, spec)
    if not answer:
        raise RequestError("The answer is empty.", hint="Choose an answer with text.")
    limit = ReasoningLimit(n_tokens=0, start=_NEVER, end=_NEVER, ending=tuple(answer), is_open=True)
    controls = TextControls(reasoning=limit)
    return Prompt(head, controls), replace(spec, controls=controls, max_tokens=len(answer), ignore_eos=True, spec="off")
