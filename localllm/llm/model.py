"""A loaded model, as Python code uses it: messages in, text out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, Unpack

from localllm.engine.events import Event
from localllm.engine.stats import EngineStats
from localllm.errors import RequestError
from localllm.hardware.types import LoadOptions, SpecMode
from localllm.hub.refs import remote_ref
from localllm.llm.adapters import Adapter, adapter_spec
from localllm.llm.events import ChatEvent, Done, Progress, TextDelta, TokenChoice
from localllm.llm.options import GenerateOptions, GenerationSpec, parse_options, parse_text_options
from localllm.llm.prompt import Prompt, Prompter
from localllm.llm.stream import Generation
from localllm.runtime.backend import Backend, ModelInfo

if TYPE_CHECKING:
    from localllm.llm.embedding import EmbeddingResult, Inputs, RerankResult
    from localllm.llm.infill import InfillPrompt, Snippet

Messages = str | Sequence[Mapping[str, Any]]
"""A conversation: dicts of `role` and `content`, or a string that stands for one user message."""

# Windows does not interrupt a thread that waits for a lock, so Ctrl-C is noticed between waits.
_WAIT_S = 0.1 if os.name == "nt" else None


class AnswerTokens(NamedTuple):
    """A conversation in tokens."""

    head: tuple[int, ...]
    """Up to the answer."""
    answer: tuple[int, ...]


class LLM:
    """A loaded model; `localllm.load` makes one. All methods may be called from any thread.

    Use it as a context manager, or call `close`: a model holds its memory until then.

    Args:
        backend: closed with it.
        defaults: the options of calls that do not say.
    """

    def __init__(self, backend: Backend, defaults: GenerateOptions | None = None) -> None:
        self._backend = backend
        self._defaults = defaults or {}
        self._prompter = Prompter(backend)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def info(self) -> ModelInfo:
        """What was loaded, and how."""
        return self._backend.info

    @property
    def is_alive(self) -> bool:
        """Whether it can still answer: not closed, and its worker process has not ended."""
        return self._backend.is_alive

    def chat(self, messages: Messages, **options: Unpack[GenerateOptions]) -> Generator[ChatEvent, None, None]:
        """Answer a conversation. Leaving the iterator early cancels the request.

        Args:
            messages: dicts of `role` and `content`, or a string for one user message.
            options: see GenerateOptions.

        Returns:
            Progress events while the prompt is read, then ReasoningDelta, TextDelta and ToolCallDelta events, and one
            Done per completion.

        Raises:
            RequestError: here, for bad messages and options; from the iterator, ContextLengthExceeded for a prompt
                that is too long.
            EngineError: from the iterator, where the engine fails.
        """
        spec = parse_options({**self._defaults, **options})
        return self._stream(self._prompter.of_chat(messages, spec), spec)

    def generate(self, prompt_text: str, **options: Unpack[GenerateOptions]) -> Generator[ChatEvent, None, None]:
        """Continue a text, without a chat template. As `chat` in everything else, but for options of conversations."""
        spec = parse_text_options({**self._defaults, **options})
        return self._stream(self._prompter.of_text(prompt_text, spec), spec)

    def ask(self, messages: Messages, **options: Unpack[GenerateOptions]) -> Done:
        """Answer a conversation and return its end, with all of the text in it.

        Raises:
            RequestError: as `chat`; also for `n` above 1, which has several ends.
            EngineError: the engine failed.
        """
        if options.get("n", 1) != 1:
            raise RequestError("ask returns one completion.", hint="Use chat, whose events carry an index.")
        return next(event for event in self.chat(messages, **options) if isinstance(event, Done))

    def achat(self, messages: Messages, **options: Unpack[GenerateOptions]) -> AsyncGenerator[ChatEvent, None]:
        """`chat` for asyncio; nothing in it blocks the loop. Cancelling the task cancels the request.

        The first event is a Progress of nothing read, as soon as the request was accepted.
        """
        spec = parse_options({**self._defaults, **options})
        return self._astream(lambda: [self._prompter.of_chat(messages, spec)], spec)

    def agenerate(
        self, *prompts: str | Sequence[int], **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[ChatEvent, None]:
        """`generate` for asyncio, of one prompt or several at once, each a text or token ids.

        Completion i of prompt p has the index p * n + i.
        """
        spec = parse_text_options({**self._defaults, **options})
        return self._astream(lambda: [self._prompter.of_text(prompt, spec) for prompt in prompts], spec)

    def count_chat(self, messages: Messages, **options: Unpack[GenerateOptions]) -> int:
        """Return how many tokens the prompt of a conversation has, its tools and the template's own text included.

        Raises:
            RequestError: as `chat`.
        """
        return len(self._prompter.of_chat(messages, parse_options(options)).tokens)

    async def ascore(
        self, messages: Sequence[Mapping[str, Any]], *, n_top: int = 10, **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[TokenChoice, None]:
        """Tell how likely the model finds an answer that is there already, token by token.

        It is said once more for that, without a choice, and takes as long as writing it did.

        Args:
            messages: a conversation whose last message is the assistant's.
            n_top: how many of the likeliest tokens to tell beside each, 20 at most.
            options: those that the prompt depends on, such as `tools` and `thinking`.

        Raises:
            RequestError: as `chat`.
            EngineError: the engine failed.
        """
        from localllm.llm.scoring import forced

        given = {**self._defaults, **options}
        prompt, spec = await asyncio.to_thread(forced, self._prompter, messages, n_top, given)
        async with aclosing(self._astream(lambda: [prompt], spec)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    for choice in event.logprobs:
                        yield choice

    def answer_tokens(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[GenerateOptions]) -> AnswerTokens:
        """Return a conversation in tokens, up to its last message, the assistant's, and that message's text.

        Raises:
            RequestError: as `chat`, or the template changes the text.
        """
        spec = parse_options({**self._defaults, **options, "continue_final_message": True})
        return AnswerTokens(*map(tuple, self._prompter.of_answer(messages, spec)))

    def embed(
        self, inputs: Inputs, *, dimensions: int | None = None, normalize: bool = True, pooling: str | None = None
    ) -> EmbeddingResult:
        """Return a vector for each text; texts of like meaning get vectors of like direction.

        Any model can, by the mean of its last layer; one that was trained for it does much better.

        Args:
            inputs: texts, or token ids as they are; a string is one text.
            dimensions: only the first so many numbers, for models that were trained for it (Matryoshka).
            normalize: bring each vector to length 1.
            pooling: "mean", "cls" or "last"; None is the model's own.

        Raises:
            RequestError: the model does not embed, or an input is empty; ContextLengthExceeded where one is too long.
            EngineError: the engine failed.
        """
        from localllm.llm import embedding

        embedding.check_dimensions(dimensions, self.info.n_embd)
        call = embedding.VectorCall(self._backend, embedding.embed_request(inputs, pooling))
        return embedding.embedding_result(call.wait(), dimensions, normalize)

    async def aembed(
        self, inputs: Inputs, *, dimensions: int | None = None, normalize: bool = True, pooling: str | None = None
    ) -> EmbeddingResult:
        """`embed` for asyncio; nothing in it blocks the loop. Cancelling the task cancels the request."""
        from localllm.llm import embedding

        embedding.check_dimensions(dimensions, self.info.n_embd)
        call = embedding.VectorCall(self._backend, embedding.embed_request(inputs, pooling))
        return embedding.embedding_result(await call.wait_async(), dimensions, normalize)

    def rerank(self, query: str, documents: Sequence[str]) -> RerankResult:
        """Return a score for each document: how well it answers the query.

        Raises:
            RequestError: the model is no reranker, or a text is empty; ContextLengthExceeded where one is too long.
            EngineError: the engine failed.
        """
        from localllm.llm import embedding

        call = embedding.VectorCall(self._backend, embedding.rank_request(query, documents))
        return embedding.rerank_result(call.wait())

    async def arerank(self, query: str, documents: Sequence[str]) -> RerankResult:
        """`rerank` for asyncio; cancelling the task cancels the request."""
        from localllm.llm import embedding

        call = embedding.VectorCall(self._backend, embedding.rank_request(query, documents))
        return embedding.rerank_result(await call.wait_async())

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Return the token ids of `text`.

        Args:
            text: any text.
            add_special: put the tokens around it that the model was trained with, such as BOS.
            parse_special: let text like "<|im_end|>" become its control token.
        """
        return self._backend.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids; control tokens appear as the vocabulary spells them.

        Bytes that are no UTF-8, such as half a character at the end, become "\N{REPLACEMENT CHARACTER}".

        Raises:
            RequestError: an id is not in the vocabulary.
        """
        return self._backend.detokenize(tokens).decode("utf-8", "replace")

    def infill_prompt(
        self, prefix: str, suffix: str, *, extra: Sequence[Snippet] = (), max_prompt_tokens: int | None = None
    ) -> InfillPrompt:
        """Return the prompt whose continuation, by `generate`, is what belongs between two texts.

        Args:
            prefix: the text left of the gap.
            suffix: the text right of it.
            extra: other texts that help, such as pieces of other files; the most helpful last.
            max_prompt_tokens: what does not fit is left out: first of `extra` from its beginning, then what is far from
                the gap. None: nothing is.

        Raises:
            RequestError: the model was not trained for this, or there is no room even for the control tokens.
        """
        from localllm.llm.infill import infill_prompt

        return infill_prompt(self._backend, prefix, suffix, extra, max_prompt_tokens)

    def stats(self) -> EngineStats:
        """Return a snapshot of the engine's counters."""
        return self._backend.stats()

    def close(self) -> None:
        """End all requests and give all memory back. Closing twice is harmless."""
        self._backend.close()

    def _stream(self, prompt: Prompt, spec: GenerationSpec) -> Generator[ChatEvent, None, None]:
        queue: SimpleQueue[tuple[int, Event]] = SimpleQueue()
        run = Generation(self._backend, [prompt], spec, lambda i, event: queue.put((i, event)))
        try:
            run.start()
            while not run.is_finished:
                try:
                    index, event = queue.get(timeout=_WAIT_S)
                except Empty:
                    continue
                yield from run.accept(index, event)
        finally:
            run.cancel()

    async def _astream(
        self, make: Callable[[], Sequence[Prompt]], spec: GenerationSpec
    ) -> AsyncGenerator[ChatEvent, None]:
        queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(index: int, event: Event) -> None:
            # The loop may have been closed under a request that was left behind.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, (index, event))

        run = Generation(self._backend, await asyncio.to_thread(make), spec, deliver)
        try:
            await asyncio.to_thread(run.start)
            for index, n_prompt in enumerate(run.prompt_lengths):
                yield Progress(0, n_prompt, 0, index)
            while not run.is_finished:
                index, event = await queue.get()
                for chat_event in run.accept(index, event):
                    yield chat_event
        finally:
            run.cancel()


def load(
    ref: str | None = None,
    *,
    n_ctx: int | None = None,
    gpu_layers: int | Literal["auto", "all"] = "auto",
    n_threads: int | None = None,
    kv_type: str = "f16",
    kv_type_v: str | None = None,
    n_slots: int = 4,
    spec: SpecMode = "auto",
    shares_texts: bool = False,
    draft_model: str | None = None,
    adapters: Sequence[Adapter] = (),
    kv_store_bytes: int = 0,
    rpc: Sequence[str] = (),
    in_process: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> LLM:
    """Load a model, or reach one that an engine on another machine has.

    Args:
        ref: a path, or a name that the store knows; None is the demo model. "@lab" and "@lab/model" are of a remote
            (`localllm remote add`): it was loaded there, so that options of loading are refused.
        n_ctx: tokens of context; None is what the model was trained with, as far as memory allows.
        gpu_layers: how many layers go to the GPU; "auto" is as many as fit.
        n_threads: CPU threads; None is one for each performance core.
        kv_type: ggml type of the cached keys, such as "f16" or "q8_0"; "auto" is f16, or q8_0 where memory is short.
        kv_type_v: that of the cached values; None is `kv_type`.
        n_slots: how many requests are answered at once.
        spec: whether tokens are drafted and checked several at once, where a request does not say: "auto" where it is
            expected to pay, "off", or always: "ngram" wherever the text repeats, "lookahead" guessed by the model
            itself, "draft" by the draft model. Drafts do not change what comes out; without a seed, not its
            distribution.
        shares_texts: whether n-gram lookup also looks at what earlier requests said.
        draft_model: a small model with the same vocabulary that drafts tokens; a path or a name.
        adapters: LoRA adapters to load, in GGUF form: a path each, or a path and a scale. All are applied where a
            request does not choose among them with the option `lora`, by id, which is their place here.
        kv_store_bytes: disk for the states of prompts, which then outlive the process; all models together. 0 is none.
        rpc: "host:port" of llama.cpp RPC servers, whose devices are used beside those here; needs a llama.cpp with the
            RPC backend.
        in_process: hold llama.cpp in this process, where a crash of it ends the process; with `rpc` it never is.
        on_progress: called with the loaded share, 0.0 to 1.0, on a thread of the backend's.

    Raises:
        ModelError: there is no such model or adapter, or it cannot be loaded.
        NotEnoughMemory: it does not fit.
        ServerError: the remote, or an RPC server, does not answer, or refuses.
    """
    given = dict(locals())
    if remote := remote_ref(ref):
        from localllm.llm.remote import open_remote

        _refuse_given(str(remote), given)
        return open_remote(remote)
    from localllm.runtime import open_backend
    from localllm.store import resolve

    options = LoadOptions(
        n_ctx=n_ctx,
        gpu_layers=gpu_layers,
        n_slots=n_slots,
        n_threads=n_threads,
        kv_type_k=kv_type,
        kv_type_v=kv_type if kv_type_v is None else kv_type_v,
        adapters=tuple(adapter_spec(adapter) for adapter in adapters),
        spec=spec,
        shares_texts=shares_texts,
        kv_store_bytes=kv_store_bytes,
        rpc=tuple(rpc),
        draft_model=None if draft_model is None else resolve(draft_model),
    )
    return LLM(open_backend(resolve(ref), options, in_process=in_process, on_progress=on_progress))


def _refuse_given(ref: str, given: Mapping[str, Any]) -> None:
    """Refuse what `load` was given beyond its defaults; where the model lives and who watches does not matter."""
    defaults: Mapping[str, Any] = load.__kwdefaults__ or {}
    for name, default in defaults.items():
        if name not in ("in_process", "on_progress") and given[name] != default:
            raise RequestError(f"{name} is not for a remote: {ref} was loaded there.", hint=f"Leave {name} out.")
