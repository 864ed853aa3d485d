"""Speculation of llama.cpp's own server on the tasks of speculation.py, in turns with ours.

Its kinds of n-gram lookup have its default settings: what follows the last n-gram of 12 tokens (simple), of the same
with a map (map-k), and a cache of short n-grams (cache). Speeds are the decode speeds that each side reports.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

from intervals import ratio_interval
from ours import Settings as PeerSettings
from peer import Peer
from spec_answers import Settings, start
from spec_tasks import TASKS, chat_prompt

from localllm.engine import Engine
from localllm.llama import Model

PEER_KINDS = ("none", "ngram-simple", "ngram-map-k", "ngram-cache")


def run_peer(settings: Settings, model: Model) -> dict[str, Any]:
    """Print and return the ratios of speeds: ours over the peer's, for each task and each of its kinds."""
    plan = settings.plan
    alike = PeerSettings(
        settings.model,
        plan.n_ctx,
        1,
        settings.n_threads,
        settings.kv_type,
        plan.n_batch,
        plan.n_ubatch,
        0,
        worker=False,
    )
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        engine = stack.enter_context(closing(Engine(model, plan)))
        peers = {kind: stack.enter_context(Peer(alike, reuse=True, spec=kind)) for kind in PEER_KINDS}
        for name, text in TASKS.items():
            prompt = chat_prompt(model.vocab, text)
            start(engine, prompt, 1, "off").wait()
            n_tokens = len(start(engine, prompt, settings.n_tokens, "off").wait().tokens)
            speeds: dict[str, list[float]] = {kind: [] for kind in ("ours", *PEER_KINDS)}
            accepted: dict[str, int] = {}
            for _ in range(settings.n_pairs):
                speeds["ours"].append(start(engine, prompt, n_tokens, settings.spec, ignore_eos=True).wait().tok_s)
                for kind, peer in peers.items():
                    timings = peer.run(prompt, n_tokens).final["timings"]
                    speeds[kind].append(float(timings["predicted_per_second"]))
                    accepted[kind] = int(timings.get("draft_n_accepted", 0))
            print(f"  {name:9s} {n_tokens:4d} tokens, ours over the peer's:")
            found[name] = {"speeds": speeds, "accepted": accepted}
            for kind in PEER_KINDS:
                ratio = ratio_interval([a / b for a, b in zip(speeds["ours"], speeds[kind], strict=True)])
                print(f"    {kind:12s} {ratio}; it accepted {accepted[kind]}")
                found[name][kind] = ratio.as_dict()
    return found
