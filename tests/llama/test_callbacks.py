"""Aborting a decode, and looking at the tensors of a running graph."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from localllm.llama import AbortFlag, Batch, Context, ContextParams, EndGraph, EvalCallback, Model, TensorView
from localllm.llama.context import DECODE_ABORTED, DECODE_OK
from tests.llama.conftest import MakeContext
from tests.llama.running import PROMPT, feed
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A model that takes a second or more for a prompt of 1,024 tokens."""
    path = tmp_path_factory.mktemp("slow") / "slow.gguf"
    write_tiny_model(path, n_layer=6, n_embd=512, n_head=8, n_head_kv=4, n_ff=2048, n_ctx=2048)
    with Model(path) as model:
        yield model


def long_batch(n: int) -> Batch:
    batch = Batch(n)
    batch.add_run([i % 250 for i in range(n)], 0, 0, last_wants_logits=True)
    return batch


def test_flag_set_from_another_thread_ends_the_decode(slow_model: Model) -> None:
    flag = AbortFlag()
    params = ContextParams(n_ctx=2048, n_batch=1024, n_ubatch=128, n_threads=1)
    with Context(slow_model, params, abort_flag=flag) as context:
        batch = long_batch(1024)
        started = time.perf_counter()
        assert context.decode(batch) == DECODE_OK
        whole_s = time.perf_counter() - started
        context.memory.clear()
        timer = threading.Timer(whole_s * 0.3, flag.set)
        timer.start()
        started = time.perf_counter()
        assert context.decode(batch) == DECODE_ABORTED
        assert time.perf_counter() - started < whole_s * 0.8
        timer.join()
        # Whole micro-batches stay; nothing of the unfinished one does.
        assert (context.memory.last_position(0) + 1) % 128 == 0
        assert context.memory.last_position(0) < 1023
        flag.clear()
        context.memory.clear()
        assert context.decode(batch) == DECODE_OK


def test_flag_that_is_not_set_never_aborts(make_context: MakeContext) -> None:
    flag = AbortFlag()
    context = make_context(abort_flag=flag)
    for _ in range(50):
        feed(context)
        context.memory.clear()
    assert not flag.is_set


def test_flag_set_before_the_decode_aborts_it_and_nothing_is_kept(make_context: MakeContext) -> None:
    flag = AbortFlag()
    context = make_context(abort_flag=flag)
    flag.set()
    assert flag.is_set
    assert context.decode(long_batch(50)) == DECODE_ABORTED
    assert context.memory.last_position(0) == -1
    flag.clear()
    np.testing.assert_array_equal(feed(context), feed(make_context()))


def test_callback_sees_named_tensors_and_reads_them(make_context: MakeContext) -> None:
    seen: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}

    def take(tensor: TensorView) -> None:
        seen[tensor.name] = (tensor.shape, tensor.read_f32())

    callback = EvalCallback(lambda t: t.name.startswith(("ffn_inp-", "result_output")), take)
    logits = feed(make_context(eval_callback=callback))
    assert {"ffn_inp-0", "ffn_inp-1", "result_output"} <= set(seen)
    shape, values = seen["ffn_inp-0"]
    assert shape == (64, len(PROMPT), 1, 1)
    assert values.shape == (1, 1, len(PROMPT), 64) and values.dtype == np.float32
    np.testing.assert_array_equal(seen["result_output"][1].reshape(-1), logits)


def test_watching_changes_nothing(make_context: MakeContext) -> None:
    watched = feed(make_context(eval_callback=EvalCallback(lambda t: True, lambda t: None)))
    np.testing.assert_allclose(watched, feed(make_context()), atol=1e-5)


def test_inputs_of_a_matrix_product_are_the_weight_and_the_activations(make_context: MakeContext) -> None:
    inputs: dict[str, np.ndarray] = {}

    def reads_weight(tensor: TensorView) -> bool:
        weight = tensor.source(0)
        return weight is not None and weight.name.endswith("ffn_up.weight") and tensor.source(1) is not None

    def take(tensor: TensorView) -> None:
        weight, activations = tensor.source(0), tensor.source(1)
        assert weight is not None and activations is not None
        assert weight.shape[:2] == (64, 128) and weight.type_id == 0
        inputs[weight.name] = activations.read_f32()[0, 0]

    feed(make_context(eval_callback=EvalCallback(reads_weight, take)))
    assert set(inputs) == {"blk.0.ffn_up.weight", "blk.1.ffn_up.weight"}
    # The last layer works only on the tokens whose logits are wanted.
    assert inputs["blk.0.ffn_up.weight"].shape == (len(PROMPT), 64)
    assert inputs["blk.1.ffn_up.weight"].shape == (1, 64)
    for x in inputs.values():
        # The input of a feed-forward layer is RMS-normalised, and the tiny model's norm weights are ones.
        np.testing.assert_allclose(np.sqrt((x**2).mean(axis=1)), 1.0, atol=1e-3)


def test_weights_can_be_read_as_they_are_in_the_file(make_context: MakeContext, tiny_path: Path) -> None:
    import gguf

    found: list[np.ndarray] = []

    def take(tensor: TensorView) -> None:
        weight = tensor.source(0)
        assert weight is not None
        found.append(weight.read_f32()[0, 0])

    def wants(tensor: TensorView) -> bool:
        weight = tensor.source(0)
        return weight is not None and weight.name == "blk.0.attn_k.weight"

    feed(make_context(eval_callback=EvalCallback(wants, take)))
    tensor = next(t for t in gguf.GGUFReader(tiny_path).tensors if t.name == "blk.0.attn_k.weight")
    np.testing.assert_array_equal(found[0], tensor.data)


def test_operations_are_named_and_reshaped_values_share_a_place(make_context: MakeContext) -> None:
    ops: dict[str, str] = {}
    places: dict[str, object] = {}

    def look(tensor: TensorView) -> bool:
        ops[tensor.name] = tensor.op
        weight, x = tensor.source(0), tensor.source(1)
        if tensor.op == "MUL_MAT" and weight is not None and x is not None:
            assert weight.op == "NONE" or not weight.name.endswith(".weight")
            places[weight.name] = x.place
        return False

    feed(make_context(eval_callback=EvalCallback(look, lambda t: None)))
    assert ops["ffn_inp-0"] == "ADD" and ops["result_output"] == "MUL_MAT"
    q, k, v, up, gate = (
        places[f"blk.0.{name}.weight"] for name in ("attn_q", "attn_k", "attn_v", "ffn_up", "ffn_gate")
    )
    assert q == k == v != up == gate
    assert q != places["blk.1.attn_q.weight"]


def test_views_with_gaps_are_read_as_ggml_strides_them(make_context: MakeContext) -> None:
    """A view of the query heads, permuted for attention, holds the values of what it looks at."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def permuted(tensor: TensorView) -> bool:
        return tensor.op == "PERMUTE" and tensor.type_id == 0

    def take(tensor: TensorView) -> None:
        source = tensor.source(0)
        assert source is not None
        found[tensor.name] = tensor.read_f32(), source.read_f32()

    feed(make_context(eval_callback=EvalCallback(permuted, take)))
    assert found
    for view, whole in found.values():
        assert view.shape != whole.shape
        np.testing.assert_array_equal(np.sort(view, axis=None), np.sort(whole, axis=None))
        np.testing.assert_array_equal(view[0].swapaxes(0, 1), whole[0])


def test_graph_ends_where_the_callback_says_and_the_context_goes_on(make_context: MakeContext) -> None:
    seen: list[str] = []
    ends = True

    def take(tensor: TensorView) -> None:
        seen.append(tensor.name)
        if ends and tensor.name == "ffn_inp-0":
            raise EndGraph

    context = make_context(eval_callback=EvalCallback(lambda t: t.name.startswith("ffn_inp-"), take))
    feed(context)
    assert seen == ["ffn_inp-0"]
    context.memory.clear()
    ends = False
    np.testing.assert_array_equal(feed(context), feed(make_context()))
    assert seen == ["ffn_inp-0", "ffn_inp-0", "ffn_inp-1"]


def test_reading_what_is_not_plain_f32_is_an_error(make_context: MakeContext) -> None:
    problems: set[str] = set()

    def take(tensor: TensorView) -> None:
        for view in (tensor, tensor.source(0), tensor.source(1)):
            if view is not None:
                try:
                    view.read_f32()
                except ValueError as error:
                    problems.add("type" if "ggml type" in str(error) else "gaps")

    feed(make_context(eval_callback=EvalCallback(lambda t: True, take)))
    assert "type" in problems


def test_ctrl_c_ends_the_decode_and_is_not_lost(slow_model: Model) -> None:
    """Sent from outside, while callbacks begin and end all the time."""
    batch = long_batch(256)
    n_seen = 0

    def take(_: TensorView) -> None:
        nonlocal n_seen
        n_seen += 1

    def decode_on_and_on() -> None:
        for _ in range(1000):
            context.memory.clear()
            context.decode(batch)

    params = ContextParams(n_ctx=256, n_batch=256, n_threads=1)
    with Context(slow_model, params, eval_callback=EvalCallback(lambda t: True, take)) as context:
        for _ in range(3):
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                decode_on_and_on()
            timer.join()
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        context.memory.clear()
        before = n_seen
        assert context.decode(batch) == DECODE_OK and n_seen > before + 50, "the next decode goes to its end"


@pytest.mark.parametrize("where", ["wants", "take"])
def test_exception_in_a_callback_is_raised_by_the_decode(make_context: MakeContext, where: str) -> None:
    def fail(tensor: TensorView) -> bool:
        raise KeyError(tensor.name)

    wants, take = (fail, lambda t: None) if where == "wants" else (lambda t: t.name == "ffn_inp-0", fail)
    context = make_context(eval_callback=EvalCallback(wants, take))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(KeyError):
            feed(context)
        context.memory.clear()
