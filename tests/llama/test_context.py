"""Decoding, KV memory, saved sequences, embeddings and control vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from localllm.errors import LocalLLMError, ModelLoadFailed, RequestError
from localllm.llama import Batch, Context, KVMemory, Model
from localllm.llama.context import DECODE_NO_ROOM
from tests.llama.conftest import MakeContext
from tests.llama.running import PROMPT, feed, feed_singly


def test_batch_refuses_more_than_it_holds() -> None:
    batch = Batch(3)
    assert batch.add(1, 0, 0, wants_logits=False) == 0
    assert batch.add_run([2, 3], 1, 0, last_wants_logits=True) == 2
    with pytest.raises(ValueError, match="batch"):
        batch.add(4, 3, 0, wants_logits=True)
    with pytest.raises(ValueError, match="batch"):
        batch.add_run([4, 5], 3, 0, last_wants_logits=True)
    assert (batch.n_tokens, batch.n_outputs) == (3, 1)


def test_empty_run_is_refused_and_changes_nothing() -> None:
    batch = Batch(3)
    batch.add(1, 0, 0, wants_logits=True)
    with pytest.raises(ValueError, match="0 more tokens"):
        batch.add_run([], 1, 0, last_wants_logits=False)
    assert batch.n_outputs == 1


def test_cleared_batch_remembers_no_outputs() -> None:
    batch = Batch(4)
    batch.add_run([1, 2, 3], 0, 0, last_wants_logits=True)
    batch.clear()
    batch.add_run([1, 2, 3, 4], 0, 0, last_wants_logits=False)
    assert batch.n_outputs == 0


def test_one_batch_and_single_steps_agree(make_context: MakeContext) -> None:
    at_once = feed(make_context())
    singly = feed_singly(make_context())
    np.testing.assert_allclose(at_once, singly, atol=0.02)
    assert at_once.argmax() == singly.argmax()


def test_sequences_of_a_batch_do_not_see_each_other(make_context: MakeContext) -> None:
    alone = feed(make_context())
    context = make_context()
    batch = Batch(32)
    batch.add_run([5, 6, 7, 8], 0, 1, last_wants_logits=True)
    index = batch.add_run(PROMPT, 0, 0, last_wants_logits=True)
    assert context.decode(batch) == 0
    np.testing.assert_allclose(context.logits(index), alone, atol=0.02)


def test_same_run_gives_the_same_bits(make_context: MakeContext) -> None:
    np.testing.assert_array_equal(feed(make_context()), feed(make_context()))


def test_logits_are_llama_cpps_own_memory(context: Context) -> None:
    feed(context)
    context.logits(len(PROMPT) - 1)[7] = 99.0
    assert context.logits(len(PROMPT) - 1)[7] == 99.0


def test_token_without_logits_is_an_error(context: Context) -> None:
    feed(context)
    with pytest.raises(ValueError, match="no logits"):
        context.logits(0)


def test_more_outputs_than_set_aside_are_refused(make_context: MakeContext) -> None:
    context = make_context(n_seq_max=2, n_outputs_max=3)
    batch = Batch(8)
    for pos in range(4):
        batch.add(pos, pos, 0, wants_logits=True)
    with pytest.raises(ValueError, match="4 tokens want logits"):
        context.decode(batch)
    batch.clear()
    for pos in range(3):
        batch.add(pos, pos, 0, wants_logits=True)
    assert context.decode(batch) == 0


def test_token_of_several_sequences_takes_one_cell_that_each_of_them_sees(make_context: MakeContext) -> None:
    context, twin = make_context(n_seq_max=3), make_context(n_seq_max=3)
    batch = Batch(8)
    first = batch.add_shared(5, 0, [0, 2], wants_logits=True)
    batch.add(6, 1, 2, wants_logits=True)
    assert context.decode(batch) == 0
    assert [context.memory.last_position(seq_id) for seq_id in range(3)] == [0, -1, 1]
    alone = Batch(8)
    alone.add_run([5, 6], 0, 0, last_wants_logits=True)
    assert twin.decode(alone) == 0
    np.testing.assert_allclose(context.logits(first + 1), twin.logits(1), atol=1e-2)


def test_cleared_batch_remembers_no_sequences_of_shared_tokens(make_context: MakeContext) -> None:
    context = make_context(n_seq_max=3)
    batch = Batch(4)
    batch.add_shared(5, 0, [0, 1, 2], wants_logits=True)
    batch.clear()
    batch.add(5, 0, 1, wants_logits=True)
    assert context.decode(batch) == 0
    assert [context.memory.last_position(seq_id) for seq_id in range(3)] == [-1, 0, -1]
    with pytest.raises(ValueError, match="no sequence"):
        batch.add_shared(5, 1, [], wants_logits=True)


def test_no_room_changes_nothing(make_context: MakeContext) -> None:
    context, twin = make_context(n_ctx=256), make_context(n_ctx=256)
    long = [i % 250 for i in range(250)]
    feed(context, long)
    feed(twin, long)
    batch = Batch(20)
    batch.add_run(list(range(20)), 250, 0, last_wants_logits=True)
    assert context.decode(batch) == DECODE_NO_ROOM
    assert context.memory.last_position(0) == 249
    np.testing.assert_array_equal(feed(context, [3], pos=250), feed(twin, [3], pos=250))


def test_tokens_outside_the_vocabulary_are_a_negative_code(context: Context) -> None:
    batch = Batch(1)
    batch.add(1 << 20, 0, 0, wants_logits=True)
    assert context.decode(batch) < 0


def test_cut_sequence_continues_as_if_never_longer(make_context: MakeContext) -> None:
    context, fresh = make_context(), make_context()
    feed(context, [*PROMPT, 1, 2, 3])
    assert context.memory.remove(0, len(PROMPT), -1)
    assert context.memory.last_position(0) == len(PROMPT) - 1
    feed(fresh)
    np.testing.assert_allclose(feed(context, [9], pos=len(PROMPT)), feed(fresh, [9], pos=len(PROMPT)), atol=0.02)


def test_copied_sequence_continues_like_its_source(make_context: MakeContext) -> None:
    context = make_context()
    feed(context)
    context.memory.copy(0, 1, 0, len(PROMPT))
    assert context.memory.last_position(1) == len(PROMPT) - 1
    np.testing.assert_array_equal(feed(context, [9], pos=6, seq_id=1), feed(context, [9], pos=6, seq_id=0))
    context.memory.keep(1)
    assert (context.memory.last_position(0), context.memory.first_position(1)) == (-1, 0)
    context.memory.clear()
    assert context.memory.last_position(1) == -1


def test_shift_moves_positions(context: Context) -> None:
    feed(context)
    assert context.memory.can_shift
    assert context.memory.remove(0, 0, 2)
    context.memory.shift(0, 2, -1, -2)
    assert (context.memory.first_position(0), context.memory.last_position(0)) == (0, len(PROMPT) - 3)
    feed(context, [9], pos=len(PROMPT) - 2)


def test_shifting_a_sequence_that_shares_cells_moves_the_other_too(context: Context) -> None:
    feed(context)
    context.memory.copy(0, 1)
    context.memory.shift(0, 0, -1, 10)
    assert context.memory.first_position(1) == 10


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_restored_sequence_continues_bit_for_bit(make_context: MakeContext, kv_type: str) -> None:
    context = make_context(kv_type_k=kv_type, kv_type_v=kv_type)
    feed(context)
    saved = context.save_sequence(0)
    straight = feed(context, [9], pos=len(PROMPT))
    context.memory.clear()
    assert context.restore_sequence(0, saved)
    np.testing.assert_array_equal(feed(context, [9], pos=len(PROMPT)), straight)
    context.memory.clear()
    assert context.restore_sequence(2, saved)
    assert context.memory.last_position(2) == len(PROMPT) - 1
    np.testing.assert_array_equal(feed(context, [9], pos=len(PROMPT), seq_id=2), straight)


def test_restore_crosses_contexts_of_the_same_layout(make_context: MakeContext) -> None:
    first, second = make_context(), make_context(n_ctx=512)
    feed(first)
    assert second.restore_sequence(0, first.save_sequence(0))
    np.testing.assert_allclose(feed(second, [9], pos=6), feed(first, [9], pos=6), atol=1e-4)


def test_restore_refuses_another_type_a_short_copy_and_too_little_room(make_context: MakeContext) -> None:
    context, quantized = make_context(), make_context(kv_type_k="q8_0", kv_type_v="q8_0")
    feed(context, [i % 250 for i in range(200)])
    saved = context.save_sequence(0)
    assert not quantized.restore_sequence(0, saved)
    assert not context.restore_sequence(1, saved[:-1])
    assert not context.restore_sequence(1, saved[: saved.size // 2])
    assert not context.restore_sequence(1, saved)
    assert context.memory.last_position(1) == -1
    assert context.memory.last_position(0) == 199


def test_restore_refuses_another_model(make_context: MakeContext, tmp_path: Path) -> None:
    from tests.tiny_model import write_tiny_model

    context = make_context()
    feed(context)
    with Model(write_tiny_model(tmp_path / "m.gguf", n_layer=3)) as other:
        deeper = make_context(of=other)
        assert not deeper.restore_sequence(0, context.save_sequence(0))
        deeper.close()


def test_sequence_file_brings_cells_and_tokens_back(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context()
    feed(context)
    path = tmp_path / "sequence.bin"
    assert context.save_sequence_file(path, 0, PROMPT) == path.stat().st_size
    straight = feed(context, [9], pos=len(PROMPT))
    context.memory.clear()
    assert context.load_sequence_file(path, 3) == list(PROMPT)
    np.testing.assert_array_equal(feed(context, [9], pos=len(PROMPT), seq_id=3), straight)


def test_sequence_file_that_cannot_be_used(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context()
    with pytest.raises(LocalLLMError, match="Cannot write"):
        context.save_sequence_file(tmp_path / "no" / "folder", 0, PROMPT)
    path = tmp_path / "garbage"
    path.write_bytes(b"garbage" * 100)
    assert context.load_sequence_file(path, 0) is None
    assert context.load_sequence_file(tmp_path / "none", 0) is None


def test_threads_can_change(context: Context) -> None:
    before = feed(context)
    context.set_n_threads(2)
    assert context.n_threads == 2
    context.memory.clear()
    np.testing.assert_allclose(feed(context), before, atol=1e-3)


def test_embeddings_of_a_generative_model(make_context: MakeContext) -> None:
    context = make_context(embeddings=True)
    feed(context)
    assert context.embedding(len(PROMPT) - 1).shape == (64,)
    with pytest.raises(ValueError, match="no embedding"):
        context.pooled_embedding(0)


def test_pooled_embedding_is_the_mean(make_context: MakeContext) -> None:
    each = make_context(embeddings=True, pooling="none")
    pooled = make_context(embeddings=True, pooling="mean")
    for context in (each, pooled):
        batch = Batch(16)
        for pos, token in enumerate(PROMPT):
            batch.add(token, pos, 0, wants_logits=True)
        assert context.decode(batch) == 0
    mean = np.mean([each.embedding(i) for i in range(len(PROMPT))], axis=0)
    np.testing.assert_allclose(pooled.pooled_embedding(0), mean, atol=1e-4)


def test_no_embeddings_unless_asked_for(context: Context) -> None:
    feed(context)
    with pytest.raises(ValueError, match="no embedding"):
        context.embedding(len(PROMPT) - 1)


def test_control_vector_changes_logits_until_it_is_taken_off(make_context: MakeContext) -> None:
    context = make_context()
    plain = feed(context)
    vector = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    logits = []
    for value in (vector, None):
        context.set_control_vector(value)
        context.memory.clear()
        logits.append(feed(context))
    assert np.abs(logits[0] - plain).max() > 0.1
    np.testing.assert_array_equal(logits[1], plain)


def test_control_vector_of_another_shape_is_refused(context: Context) -> None:
    with pytest.raises(ValueError, match="control vector of shape"):
        context.set_control_vector(np.zeros((2, 64), dtype=np.float32))


USES: dict[str, Callable[[Context, KVMemory], object]] = {
    "decode": lambda c, m: feed(c),
    "logits": lambda c, m: c.logits(0),
    "n_ctx": lambda c, m: c.n_ctx,
    "save": lambda c, m: c.save_sequence(0),
    "memory": lambda c, m: m.last_position(0),
    "remove": lambda c, m: m.remove(0),
    "can_shift": lambda c, m: m.can_shift,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_use_after_close_raises(context: Context, use: Callable[[Context, KVMemory], object]) -> None:
    context.close()
    context.close()
    with pytest.raises(RuntimeError, match="closed"):
        use(context, context.memory)


def test_impossible_contexts_are_refused_with_a_reason(make_context: MakeContext) -> None:
    with pytest.raises(ModelLoadFailed, match=r"context of 256 tokens: .+"):
        make_context(n_seq_max=1000)
    with pytest.raises(RequestError, match="not a KV type"):
        make_context(kv_type_k="q2_k")
