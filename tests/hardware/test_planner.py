from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localllm.errors import NotEnoughMemory, RequestError
from localllm.hardware import Device, LoadOptions, LoadPlan, plan_load
from localllm.hardware.planner import wanted_n_ctx
from tests.hardware.shapes import BGE_M3, GIB, LLAMA_8B, QWEN25_1_5B, SMOLLM2, Shape

CPU = Device("CPU", "a processor", "cpu", 64 * GIB, 60 * GIB)


def gpu(free_gib: float, *, name: str = "CUDA0", kind: Any = "gpu", total_gib: float = 24) -> Device:
    return Device(name, "a card", kind, int(total_gib * GIB), int(free_gib * GIB))


def plan(
    shape: Shape = LLAMA_8B, *, ram_gib: float = 16, devices: tuple[Device, ...] = (CPU,), **options: Any
) -> LoadPlan:
    return plan_load(shape, "model.Q8_0.gguf", devices, LoadOptions(**options), int(ram_gib * GIB), n_cores=4)


def refusal(**arguments: Any) -> NotEnoughMemory:
    with pytest.raises(NotEnoughMemory) as caught:
        plan(**arguments)
    assert caught.value.hint is not None
    return caught.value


def test_plenty_of_memory_gives_the_wanted_context() -> None:
    got = plan(ram_gib=64)
    assert (got.n_ctx, got.n_gpu_layers, got.n_threads, got.notes) == (16384, 0, 4, ())


@pytest.mark.parametrize(
    ("n_ctx_train", "n_slots", "n_ctx"),
    [
        (131072, 1, 8192),
        (131072, 2, 8192),
        (131072, 3, 12288),
        (131072, 4, 16384),
        (131072, 256, 16384),
        (2048, 1, 2048),
        (2048, 4, 8192),
        (100, 1, 256),
        (0, 1, 8192),
    ],
)
def test_wanted_context_follows_slots_and_training(n_ctx_train: int, n_slots: int, n_ctx: int) -> None:
    assert wanted_n_ctx(replace(LLAMA_8B, n_ctx_train=n_ctx_train), n_slots) == n_ctx


def test_tight_memory_shrinks_a_chosen_context_and_says_so() -> None:
    got = plan(ram_gib=7)
    assert 2048 <= got.n_ctx < 16384
    assert any("not 16384" in note for note in got.notes)


def test_explicit_context_may_take_more_than_its_share() -> None:
    assert plan(ram_gib=12, n_ctx=32768, n_slots=1).n_ctx == 32768


def test_explicit_context_is_rounded_up_aloud() -> None:
    got = plan(n_ctx=1000)
    assert got.n_ctx == 1024
    assert got.notes == ("n_ctx is 1024: llama.cpp rounds 1000 up to a multiple of 256.",)


def test_context_beyond_training_is_noted() -> None:
    assert any("trained on 8192" in note for note in plan(SMOLLM2, n_ctx=16384, n_slots=1).notes)


def test_batches_follow_a_small_context() -> None:
    got = plan(n_ctx=256)
    assert (got.n_batch, got.n_ubatch, got.notes) == (256, 256, ())
    assert any("n_batch is 256" in note for note in plan(n_ctx=256, n_batch=1024).notes)


def test_refusal_says_needed_free_and_a_context_that_fits() -> None:
    error = refusal(n_ctx=131072)
    assert error.message == "Needs 22.0 GiB, 16.0 GiB free."
    assert error.hint == "Try --kv-type q8_0 or --n-ctx 82176."
    assert plan(n_ctx=82176).n_ctx == 82176
    assert plan(n_ctx=131072, kv_type_k="q8_0", kv_type_v="q8_0").n_ctx == 131072
    refusal(n_ctx=82176 + 256)


def test_absurd_context_is_refused_at_once() -> None:
    start = time.perf_counter()
    error = refusal(n_ctx=100_000_000)
    assert time.perf_counter() - start < 0.5
    assert "--n-ctx 82176" in str(error.hint)


def test_weights_that_do_not_fit_ask_for_a_smaller_file() -> None:
    error = refusal(ram_gib=4)
    assert error.hint == "Try a smaller file of this model (Q4_K_M)."
    with pytest.raises(NotEnoughMemory) as caught:
        plan_load(LLAMA_8B, "m.Q4_K_M.gguf", (), LoadOptions(), 4 * GIB, n_cores=1)
    assert caught.value.hint == "Try a smaller model."


def test_no_free_memory_is_refused() -> None:
    refusal(ram_gib=0)


def test_all_layers_go_to_a_gpu_that_holds_them() -> None:
    got = plan(devices=(CPU, gpu(20)))
    assert (got.n_gpu_layers, got.n_ctx, got.notes) == (33, 16384, ())
    assert [device.name for device in got.devices] == ["CUDA0"]


def test_a_small_gpu_takes_what_fits_and_says_so() -> None:
    got = plan(devices=(gpu(4, total_gib=6),))
    assert 0 < got.n_gpu_layers < 33 and got.n_ctx == 8192
    assert any("of 33 layers" in note for note in got.notes)


def test_all_or_a_count_of_layers_is_obeyed_or_refused() -> None:
    assert plan(devices=(gpu(20),), gpu_layers=7).n_gpu_layers == 7
    assert plan(devices=(gpu(20),), gpu_layers=0).n_gpu_layers == 0
    error = refusal(devices=(gpu(4),), gpu_layers="all")
    assert error.message.startswith("Needs ") and "on CUDA0, 4.0 GiB free" in error.message
    assert "--gpu-layers auto" in str(error.hint)
    refusal(devices=(gpu(4),), gpu_layers=30)


def test_more_layers_than_there_are_means_all() -> None:
    got = plan(devices=(gpu(20),), gpu_layers=99)
    assert got.n_gpu_layers == 33 and got.notes == ("gpu_layers is 33: the model has no more.",)


@pytest.mark.parametrize("gpu_layers", [1, "all"])
def test_layers_without_a_gpu_are_refused(gpu_layers: Any) -> None:
    with pytest.raises(RequestError, match="no GPU"):
        plan(gpu_layers=gpu_layers)


def test_integrated_gpus_are_used_only_where_there_is_no_other() -> None:
    both = (gpu(20, name="Vulkan1", kind="igpu"), gpu(20))
    assert [device.name for device in plan(devices=both).devices] == ["CUDA0"]
    assert [device.name for device in plan(devices=both[:1]).devices] == ["Vulkan1"]


def test_an_integrated_gpu_adds_no_memory() -> None:
    refusal(ram_gib=4, devices=(gpu(20, kind="igpu"),))
    refusal(ram_gib=4, devices=(gpu(20, name="MTL0"),))
    assert plan(ram_gib=4, devices=(gpu(20),)).n_gpu_layers == 33


def test_a_device_that_reports_no_memory_uses_the_hosts() -> None:
    silent = gpu(0, total_gib=0)
    assert plan(ram_gib=16, devices=(silent,)).n_gpu_layers == 33
    refusal(ram_gib=4, devices=(silent,))


def test_two_gpus_share_by_free_memory() -> None:
    got = plan(devices=(gpu(4, name="CUDA0"), gpu(8, name="CUDA1")))
    assert got.n_gpu_layers == 33


def test_quantized_kv_takes_less() -> None:
    wide, narrow = plan(n_ctx=8192), plan(n_ctx=8192, kv_type_k="q8_0", kv_type_v="q8_0")
    assert narrow.estimate.kv_bytes * 32 == wide.estimate.kv_bytes * 17


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_ctx": 0}, "n_ctx is 0"),
        ({"n_ctx": 2**31}, "n_ctx"),
        ({"n_threads": -1}, "threads is -1"),
        ({"n_slots": 0}, "n_slots"),
        ({"n_slots": 257}, "from 1 to 256"),
        ({"n_batch": 0}, "n_batch"),
        ({"n_ubatch": -5}, "n_ubatch"),
        ({"n_batch": 3}, "4 slots"),
        ({"gpu_layers": -1}, "gpu_layers"),
        ({"gpu_layers": "some"}, "gpu_layers"),
        ({"kv_type_k": "f8"}, "f8"),
        ({"kv_type_v": "f8"}, "f8"),
    ],
)
def test_absurd_options_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        plan(**options)


def test_quantized_kv_that_cannot_hold_the_heads_is_refused() -> None:
    odd = replace(LLAMA_8B, head_dim_k=80, head_dim_v=80)
    with pytest.raises(RequestError, match="K cannot"):
        plan(odd, kv_type_k="q8_0")
    with pytest.raises(RequestError, match="V cannot"):
        plan(odd, kv_type_v="q4_0")
    with pytest.raises(RequestError, match="flash attention"):
        plan(replace(LLAMA_8B, architecture="grok"), kv_type_v="q8_0")


def test_sliding_window_heads_are_checked_too() -> None:
    class Windowed(Shape):
        @property
        def kv_width_k(self) -> list[int]:
            return [8 * 40, *[8 * 128] * 31]

    with pytest.raises(RequestError, match=r"K cannot be kept as q8_0: .* have 40"):
        plan(Windowed(), kv_type_k="q8_0")


def test_latent_attention_takes_one_type_only() -> None:
    class Latent(Shape):
        @property
        def kv_width_v(self) -> list[int]:
            return [0] * 32

    with pytest.raises(RequestError, match="computes both from one vector"):
        plan(Latent(), kv_type_k="q8_0")
    assert plan(Latent(), kv_type_k="q8_0", kv_type_v="q8_0").kv_type_v == "q8_0"


AUTO = {"kv_type_k": "auto", "kv_type_v": "auto"}


def test_auto_kv_is_f16_where_there_is_room() -> None:
    got = plan(ram_gib=64, **AUTO)
    assert (got.kv_type_k, got.kv_type_v, got.notes) == ("f16", "f16", ())
    assert got == plan(ram_gib=64)


def test_auto_kv_is_q8_0_where_the_context_grows_by_it_and_says_so() -> None:
    wide, got = plan(ram_gib=7), plan(ram_gib=7, **AUTO)
    assert (got.kv_type_k, got.kv_type_v) == ("q8_0", "q8_0")
    assert got.n_ctx > wide.n_ctx
    note = got.notes[-1]
    assert f"KV cache is q8_0, so that n_ctx is {got.n_ctx} and not {wide.n_ctx}." in note and "Answers change" in note


def test_auto_kv_is_q8_0_where_f16_does_not_fit() -> None:
    refusal(n_ctx=131072, ram_gib=16)
    got = plan(n_ctx=131072, ram_gib=16, **AUTO)
    assert (got.n_ctx, got.kv_type_k) == (131072, "q8_0") and "f16 would not fit" in got.notes[-1]


def test_auto_kv_puts_more_layers_on_the_gpu() -> None:
    devices = (gpu(4),)
    wide, got = plan(devices=devices, n_ctx=8192), plan(devices=devices, n_ctx=8192, **AUTO)
    assert got.n_gpu_layers > wide.n_gpu_layers
    assert any(f"{got.n_gpu_layers} layers are on the GPU and not {wide.n_gpu_layers}" in note for note in got.notes)


def test_auto_kv_keeps_the_side_that_was_named() -> None:
    got = plan(n_ctx=131072, ram_gib=17, kv_type_k="auto", kv_type_v="q4_0")
    assert (got.kv_type_k, got.kv_type_v) in {("f16", "q4_0"), ("q8_0", "q4_0")}
    assert plan(ram_gib=64, kv_type_k="auto", kv_type_v="q4_0").kv_type_k == "f16"


def test_auto_kv_of_a_model_that_cannot_have_q8_0_is_f16() -> None:
    odd = replace(LLAMA_8B, head_dim_k=80, head_dim_v=80)
    got = plan(odd, ram_gib=7, **AUTO)
    assert got.kv_type_k == "f16" and "have 80" in got.notes[-1]


def test_auto_kv_that_fits_in_no_way_is_refused() -> None:
    assert "--n-ctx" in str(refusal(n_ctx=10**6, **AUTO).hint)


def test_a_refusal_does_not_offer_what_the_model_cannot_do() -> None:
    odd = replace(LLAMA_8B, head_dim_k=80, head_dim_v=80)
    assert "q8_0" not in str(refusal(shape=odd, n_ctx=131072 * 2).hint)


def test_same_arguments_give_the_same_plan() -> None:
    assert plan(devices=(gpu(5),)) == plan(devices=(gpu(5),))


def test_encoder_reads_a_whole_text_in_one_batch_and_keeps_nothing() -> None:
    got = plan(BGE_M3, ram_gib=64)
    assert (got.n_ctx, got.n_batch, got.n_ubatch) == (8192, 8192, 8192)
    assert got.estimate.kv_bytes == 0 and got.notes == ()


def test_encoder_counts_a_row_of_logits_for_every_token() -> None:
    assert plan(BGE_M3, ram_gib=64).estimate.compute_bytes > 8192 * BGE_M3.n_vocab * 4


def test_encoder_gets_the_longest_texts_that_fit() -> None:
    got = plan(BGE_M3, ram_gib=6)
    assert 1024 <= got.n_ctx < 8192
    assert got.notes == (
        f"n_ctx is {got.n_ctx}, of the 8192 that the model can read: that is what fits the free memory.",
    )
    assert plan(BGE_M3, ram_gib=7).n_ctx > got.n_ctx


@pytest.mark.parametrize(("asked", "n_ctx", "n_notes"), [(100, 100, 0), (8192, 8192, 0), (9000, 8192, 1)])
def test_encoder_reads_what_was_asked_for_but_no_more_than_it_can(asked: int, n_ctx: int, n_notes: int) -> None:
    got = plan(BGE_M3, ram_gib=64, n_ctx=asked)
    assert (got.n_ctx, got.n_ubatch, len(got.notes)) == (n_ctx, n_ctx, n_notes)


def test_encoder_that_cannot_read_so_much_here_is_refused_with_what_it_can() -> None:
    error = refusal(shape=BGE_M3, ram_gib=6, n_ctx=8192)
    assert "--n-ctx" in str(error.hint)


def test_kv_type_is_no_matter_to_an_encoder() -> None:
    assert plan(replace(BGE_M3, head_dim_k=40, head_dim_v=40), ram_gib=64, kv_type_k="q8_0").n_ctx == 8192


@pytest.mark.parametrize(("kv_type_k", "is_noted"), [("q8_0", False), ("f16", False), ("q5_1", True), ("q4_0", True)])
def test_coarse_keys_of_models_whose_keys_are_biased_are_noted(kv_type_k: str, is_noted: bool) -> None:
    notes = plan(QWEN25_1_5B, ram_gib=64, kv_type_k=kv_type_k, kv_type_v="q4_0").notes
    assert any(f"do not bear {kv_type_k}" in note for note in notes) == is_noted
    assert not any("do not bear" in note for note in plan(ram_gib=64, kv_type_k=kv_type_k).notes)


def beside(shape: Shape = LLAMA_8B, *, ram_gib: float = 16, devices: tuple[Device, ...] = (CPU,), **o: Any) -> LoadPlan:
    """Plan with SmolLM2 as the draft model."""
    options = LoadOptions(draft_model=Path("draft.gguf"), **o)
    return plan_load(shape, "m.Q8_0.gguf", devices, options, int(ram_gib * GIB), n_cores=4, draft_shape=SMOLLM2)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_draft_model_adds_its_weights_and_as_many_cells(kv_type: str) -> None:
    options = {"n_ctx": 4096, "kv_type_k": kv_type, "kv_type_v": kv_type}
    both, one, other = beside(**options).estimate, plan(**options).estimate, plan(SMOLLM2, **options).estimate
    assert both.weights_bytes == one.weights_bytes + other.weights_bytes
    assert both.kv_bytes == one.kv_bytes + other.kv_bytes
    assert both.compute_bytes > one.compute_bytes


def test_model_that_fits_alone_and_not_with_a_draft_model_is_refused_with_both_ways_out() -> None:
    n_ctx, ram_gib = 8192, plan(n_ctx=8192).estimate.total_bytes / GIB / 0.9 + 0.05
    plan(n_ctx=n_ctx, ram_gib=ram_gib)
    with pytest.raises(NotEnoughMemory) as caught:
        beside(n_ctx=n_ctx, ram_gib=ram_gib)
    assert "--n-ctx" in (caught.value.hint or "")
    with pytest.raises(NotEnoughMemory, match="Needs") as caught:
        beside(n_ctx=256, ram_gib=plan(n_ctx=256).estimate.total_bytes / GIB / 0.9 + 0.01)
    assert "without --draft-model" in (caught.value.hint or "")


def test_draft_model_is_on_the_gpu_where_all_of_the_model_is() -> None:
    assert beside(devices=(CPU, gpu(20)), ram_gib=32).n_draft_gpu_layers == SMOLLM2.n_layer + 1
    some = beside(devices=(CPU, gpu(3, total_gib=8)), ram_gib=32)
    assert 0 < some.n_gpu_layers < LLAMA_8B.n_layer and some.n_draft_gpu_layers == 0


def test_more_memory_gives_no_less_context_beside_a_draft_model() -> None:
    contexts = [beside(ram_gib=ram / 4).n_ctx for ram in range(27, 60)]
    assert contexts == sorted(contexts)


def test_draft_mode_needs_a_draft_model() -> None:
    with pytest.raises(RequestError, match="no draft model is named"):
        plan(spec="draft")
