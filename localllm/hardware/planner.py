"""Decides how a model is loaded: how many layers go to the GPU, how large the context is, or that it does not
fit.

The planner is pure: the same shape, devices, options and free memory give the same plan. What the caller
asked for is obeyed or refused; what they left open is chosen so that more free memory never gives less (with
several GPUs the context only: llama.cpp splits layers by free memory, and a new device may be given more than
it can hold).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from localllm.errors import NotEnoughMemory, RequestError
from localllm.hardware.cpu import n_compute_threads
from localllm.hardware.estimate import N_CTX_STEP, ModelShape, padded_n_ctx
from localllm.hardware.kv_choice import is_auto, key_notes, plan_with_best_kv
from localllm.hardware.kv_types import KV_TYPES, kv_type
from localllm.hardware.options import N_CTX_LIMIT, check_kv_types, check_options
from localllm.hardware.placement import Footprint, Machine, Placement, offload_devices, shares_ram
from localllm.hardware.repack import repacked_types
from localllm.hardware.sizes import format_bytes
from localllm.hardware.types import (
    N_DRAFT_BATCH,
    Device,
    LoadOptions,
    LoadPlan,
    n_branch_ids,
    n_output_rows,
    n_sequence_ids,
)

N_CTX_PER_SLOT = 4096
N_CTX_LEAST_WANTED = 8192
N_CTX_MOST_WANTED = 16384
N_CTX_FLOOR = 2048
"""A context of this many cells may take more than its share of the memory."""

KV_SHARE = 4
"""A chosen context takes at most one part in this many of all free memory."""


def plan_load(
    shape: ModelShape,
    path: str | Path,
    devices: Sequence[Device],
    options: LoadOptions,
    ram_free_bytes: int,
    *,
    n_cores: int | None = None,
    draft_shape: ModelShape | None = None,
    cpu_features: Collection[str] = (),
    compute_factor: float = 1.0,
) -> LoadPlan:
    """Decide everything needed to load the model at `path`.

    Args:
        shape: the model's sizes, its adapters included.
        path: the model file; it is not opened.
        devices: what ggml can compute on, with free bytes.
        options: what the caller asked for.
        ram_free_bytes: see `available_ram_bytes`.
        n_cores: threads to use where the options name none; None asks this machine.
        draft_shape: the sizes of a draft model that is loaded beside it, with as many cells. It goes to the GPU where
            all of the model does.
        cpu_features: see `repacked_types`.
        compute_factor: what compute buffers took of models of this kind before, to what was foretold.

    Returns:
        A plan whose estimate, margins added, is within the free memory.

    Raises:
        RequestError: a value is out of range, or a KV type cannot hold this model.
        NotEnoughMemory: what was asked for does not fit; the hint has values that do.
    """
    machine = Machine(offload_devices(devices), ram_free_bytes, options.max_memory_bytes)
    corrections = _Corrections(repacked_types(cpu_features, machine.devices), compute_factor)

    def plan(decided: LoadOptions) -> LoadPlan:
        return _plan(shape, str(path), machine, decided, n_cores, draft_shape, corrections)

    return plan_with_best_kv(shape, options, plan) if is_auto(options) else plan(options)


class _Corrections(NamedTuple):
    """What else decides the bytes of a model; see `Placement`."""

    repacked: frozenset[str]
    compute_factor: float


def _plan(
    shape: ModelShape,
    path: str,
    machine: Machine,
    options: LoadOptions,
    n_cores: int | None,
    draft_shape: ModelShape | None,
    corrections: _Corrections,
) -> LoadPlan:
    """Plan with the KV types that the options name."""
    check_options(options, shape)
    # What cannot be rolled back has no branches, and no drafts.
    keeps_states = any(shape.state_bytes)
    n_seq_max = n_sequence_ids(options.n_slots) + (0 if keeps_states else n_branch_ids(options.n_slots))
    placement = Placement(
        shape,
        machine,
        kv_type(options.kv_type_k),
        kv_type(options.kv_type_v),
        min(options.n_ubatch, options.n_batch),
        n_seq_max,
        n_seq_max if keeps_states else n_output_rows(options.n_slots),
        repacked=corrections.repacked,
        compute_factor=corrections.compute_factor,
    )
    if draft_shape is not None:
        check_kv_types(options.kv_type_k, options.kv_type_v, draft_shape)
        n_ubatch = max(N_DRAFT_BATCH, options.n_slots)
        draft = replace(
            placement, shape=draft_shape, n_ubatch=n_ubatch, n_seq_max=options.n_slots, n_output_rows=options.n_slots
        )
        placement = replace(placement, draft=draft)
    search = _Search(placement, options)
    n_gpu_layers, n_cells = search.choose(path)
    n_ctx = min(n_cells, options.n_ctx or n_cells, shape.n_ctx_train) if shape.is_encoder else n_cells
    n_batch = n_ctx if shape.is_encoder else min(options.n_batch, n_ctx)
    n_ubatch = n_ctx if shape.is_encoder else min(options.n_ubatch, n_batch)
    footprint = placement.footprint(n_gpu_layers, n_cells)
    return LoadPlan(
        path=path,
        n_ctx=n_ctx,
        n_slots=options.n_slots,
        n_gpu_layers=n_gpu_layers,
        kv_type_k=options.kv_type_k,
        kv_type_v=options.kv_type_v,
        n_batch=n_batch,
        n_ubatch=n_ubatch,
        n_threads=options.n_threads or n_cores or n_compute_threads(),
        estimate=footprint.estimate,
        ram_bytes=footprint.ram_bytes,
        device_bytes=footprint.device_bytes if n_gpu_layers else (),
        device_layers=placement.device_layers(n_gpu_layers) if n_gpu_layers else (),
        kept_bytes=machine.kept_bytes(footprint),
        devices=machine.devices if n_gpu_layers else (),
        notes=_encoder_notes(search, n_ctx)
        if shape.is_encoder
        else (*_notes(search, n_gpu_layers, n_ctx, n_batch, n_ubatch), *key_notes(shape, options.kv_type_k)),
        spec=options.spec,
        shares_texts=options.shares_texts,
        n_draft_gpu_layers=placement.n_draft_gpu_layers(n_gpu_layers),
    )


def wanted_n_ctx(shape: ModelShape, n_slots: int) -> int:
    """Return the cells to use when nobody said and memory is no matter.

    The pool is shared, so a slot's cells are what it uses, not a reservation: 4096 each, 8192 for one alone,
    and 16384 at most, since clearing the cache at load and every state saved from it take time too. Never
    more than all slots together could use: one sequence ends at n_ctx_train. An encoder computes a text at once, and
    keeps nothing.
    """
    if shape.is_encoder:
        return padded_n_ctx(min(shape.n_ctx_train, N_CTX_MOST_WANTED))
    pool = min(max(N_CTX_PER_SLOT * n_slots, N_CTX_LEAST_WANTED), N_CTX_MOST_WANTED)
    return padded_n_ctx(min(pool, shape.n_ctx_train * n_slots) if shape.n_ctx_train else pool)


@dataclass(frozen=True)
class _Search:
    """Finds the largest candidate that fits."""

    placement: Placement
    options: LoadOptions

    @property
    def wanted_n_ctx(self) -> int:
        shape = self.placement.shape
        if self.options.n_ctx is None:
            wanted = wanted_n_ctx(shape, self.options.n_slots)
            return min(wanted, padded_n_ctx(self.options.max_n_ctx)) if self.options.max_n_ctx else wanted
        return padded_n_ctx(min(self.options.n_ctx, shape.n_ctx_train) if shape.is_encoder else self.options.n_ctx)

    def choose(self, path: str) -> tuple[int, int]:
        """Return (n_gpu_layers, n_ctx).

        Layers first, at the context asked for or a modest one (8192): a layer on the GPU is worth more than a
        longer context. Only when all layers are there may the context grow beyond it.
        """
        wanted = self.wanted_n_ctx
        if self.options.n_ctx is not None:
            n_gpu_layers = self.n_gpu_layers(wanted)
            if not self._fits(n_gpu_layers, wanted):
                raise self._refusal(path, n_gpu_layers, wanted)
            return n_gpu_layers, wanted
        base = min(wanted, N_CTX_LEAST_WANTED)
        n_gpu_layers = self.n_gpu_layers(base)
        is_free = self.options.gpu_layers != "auto" or n_gpu_layers == self.placement.n_gpu_layers_max
        n_ctx = _largest_n_ctx(wanted if is_free else base, lambda n: self._fits_share(n_gpu_layers, n))
        if not n_ctx:
            raise self._refusal(path, n_gpu_layers, min(base, N_CTX_FLOOR))
        return n_gpu_layers, n_ctx

    def n_gpu_layers(self, n_ctx: int) -> int:
        """Return the layers asked for, or the most whose devices can hold them beside `n_ctx` cells."""
        most = self.placement.n_gpu_layers_max
        asked = self.options.gpu_layers
        if asked == "auto":
            fits = self.placement.machine.fits_devices
            limit = self.options.max_gpu_layers
            allowed = most if limit is None else min(limit, most)
            return next(n for n in range(allowed, -1, -1) if not n or fits(self.placement.footprint(n, n_ctx)))
        if asked and not most:
            raise RequestError(
                f"gpu_layers is {asked}, and no GPU can be used here.",
                hint="Leave gpu_layers out, or install a llama-cpp-python built for your GPU.",
            )
        return most if asked == "all" else min(int(asked), most)

    def _fits(self, n_gpu_layers: int, n_ctx: int) -> bool:
        return self.placement.machine.fits(self.placement.footprint(n_gpu_layers, n_ctx))

    def _fits_share(self, n_gpu_layers: int, n_ctx: int) -> bool:
        footprint = self.placement.footprint(n_gpu_layers, n_ctx)
        machine = self.placement.machine
        own = sum(
            free
            for device, free in zip(machine.devices, machine.device_free_bytes, strict=True)
            if not shares_ram(device)
        )
        allowed = n_ctx <= N_CTX_FLOOR or footprint.estimate.kv_bytes * KV_SHARE <= machine.ram_free_bytes + own
        return allowed and machine.fits(footprint)

    def fits_with_own_layers(self, n_ctx: int) -> bool:
        """Return whether `n_ctx` cells would fit if they were asked for."""
        return self._fits(self.n_gpu_layers(n_ctx), n_ctx)

    def _refusal(self, path: str, n_gpu_layers: int, n_ctx: int) -> NotEnoughMemory:
        footprint = self.placement.footprint(n_gpu_layers, n_ctx)
        return NotEnoughMemory(
            _shortage(self.placement.machine, footprint),
            hint=f"Try {' or '.join(self._ways_out(path, n_ctx))}.",
        )

    def _ways_out(self, path: str, n_ctx: int) -> list[str]:
        """Return changes that would each make it fit, the nearest to what was asked first."""
        ways = []
        if self.options.gpu_layers != "auto" and replace(
            self, options=_with_auto_layers(self.options)
        ).fits_with_own_layers(n_ctx):
            ways.append("--gpu-layers auto")
        if _can_be_q8_0(self.placement) and self._as_q8_0().fits_with_own_layers(n_ctx):
            ways.append("--kv-type q8_0")
        fitting = _largest_n_ctx(min(n_ctx, N_CTX_LIMIT) - 1, self.fits_with_own_layers)
        if fitting:
            ways.append(f"--n-ctx {fitting}")
        elif self.placement.draft is not None and self._alone().fits_with_own_layers(n_ctx):
            ways.append("it without --draft-model")
        elif not ways:
            is_small = re.search(r"(?i)q[1-4]", Path(path).name)
            ways.append("a smaller model" if is_small else "a smaller file of this model (Q4_K_M)")
        return ways

    def _as_q8_0(self) -> _Search:
        q8_0, draft = KV_TYPES["q8_0"], self.placement.draft
        draft = None if draft is None else replace(draft, kv_type_k=q8_0, kv_type_v=q8_0)
        return replace(self, placement=replace(self.placement, kv_type_k=q8_0, kv_type_v=q8_0, draft=draft))

    def _alone(self) -> _Search:
        return replace(self, placement=replace(self.placement, draft=None))


def _with_auto_layers(options: LoadOptions) -> LoadOptions:
    return replace(options, gpu_layers="auto")


def _can_be_q8_0(placement: Placement) -> bool:
    if placement.kv_type_k.is_quantized or placement.kv_type_v.is_quantized:
        return False
    try:
        check_kv_types("q8_0", "q8_0", placement.shape)
        if placement.draft is not None:
            check_kv_types("q8_0", "q8_0", placement.draft.shape)
    except RequestError:
        return False
    return True


def _largest_n_ctx(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest multiple of 256 up to `limit` that fits, or 0; what fits must fit with less, too."""
    low, high = 0, limit // N_CTX_STEP
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle * N_CTX_STEP):
            low = middle
        else:
            high = middle - 1
    return low * N_CTX_STEP


def _shortage(machine: Machine, footprint: Footprint) -> str:
    """Return "Needs 21.4 GiB, 16.0 GiB free." for the memory that is short, the margin counted as needed."""
    for device, need, margin, free in zip(
        machine.devices,
        footprint.device_bytes,
        machine.device_margins_bytes,
        machine.device_free_bytes,
        strict=True,
    ):
        if need and need + margin > free:
            return f"Needs {format_bytes(need + margin)} on {device.name}, {format_bytes(free)} free."
    if not machine.fits_limit(footprint):
        total = format_bytes(footprint.estimate.total_bytes)
        return f"Needs {total}; a model may take {format_bytes(machine.max_bytes or 0)} here (--max-memory)."
    need = footprint.ram_bytes + machine.ram_margin_bytes
    return f"Needs {format_bytes(need)}, {format_bytes(machine.ram_free_bytes)} free."


def _encoder_notes(search: _Search, n_ctx: int) -> tuple[str, ...]:
    """Return a line where texts must be shorter than was asked for, or than the model could read."""
    asked, most = search.options.n_ctx, search.placement.shape.n_ctx_train
    if asked is not None and asked > n_ctx:
        return (f"n_ctx is {n_ctx}: this model reads no more at once.",)
    if asked is None and n_ctx < most:
        return (f"n_ctx is {n_ctx}, of the {most} that the model can read: that is what fits the free memory.",)
    return ()


def _notes(search: _Search, n_gpu_layers: int, n_ctx: int, n_batch: int, n_ubatch: int) -> tuple[str, ...]:
    """Return a line for each value that is not what was asked for, or that more memory would raise."""
    options, shape, most = search.options, search.placement.shape, search.placement.n_gpu_layers_max
    notes = []
    if options.n_ctx is not None and options.n_ctx != n_ctx:
        notes.append(f"n_ctx is {n_ctx}: llama.cpp rounds {options.n_ctx} up to a multiple of {N_CTX_STEP}.")
    if options.n_ctx is None and n_ctx < search.wanted_n_ctx:
        notes.append(f"n_ctx is {n_ctx}, not {search.wanted_n_ctx}: that is what fits the free memory.")
    if options.n_ctx is not None and 0 < shape.n_ctx_train < n_ctx and options.n_slots == 1:
        notes.append(f"The model was trained on {shape.n_ctx_train} tokens; beyond that its answers may decay.")
    if options.gpu_layers == "auto" and n_gpu_layers < most:
        notes.append(f"{n_gpu_layers} of {most} layers are on the GPU: that is what fits its free memory.")
    if isinstance(options.gpu_layers, int) and options.gpu_layers > n_gpu_layers:
        notes.append(f"gpu_layers is {n_gpu_layers}: the model has no more.")
    # The defaults give way to a small context as a matter of course; only what was asked for is worth a line.
    if n_batch != options.n_batch != LoadOptions.n_batch:
        notes.append(f"n_batch is {n_batch}: a batch cannot be larger than n_ctx.")
    if n_ubatch != options.n_ubatch != LoadOptions.n_ubatch:
        notes.append(f"n_ubatch is {n_ubatch}: it cannot be larger than n_batch.")
    return tuple(notes)
