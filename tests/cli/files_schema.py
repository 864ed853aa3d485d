"""The JSON of `localllm bench` and of `localllm quantize --report`, which scripts rely on."""

from __future__ import annotations

from typing import Any

NUMBER, COUNT = {"type": "number"}, {"type": "integer", "minimum": 0}
ESTIMATE = {"type": "object", "required": ["value", "standard_error"], "additionalProperties": NUMBER}
RATE = {"type": "object", "required": ["median", "low", "high"], "additionalProperties": NUMBER}
SPEED = {
    "type": "object",
    "properties": {"prompt": RATE, "generation": RATE, "n_prompt": COUNT, "n_generated": COUNT, "n_rounds": COUNT},
    "required": ["prompt", "generation", "n_prompt", "n_generated", "n_rounds"],
    "additionalProperties": False,
}
DIVERGENCE = {
    "type": "object",
    "properties": dict.fromkeys(("kl", "same_top", "delta_p_mean", "log_perplexity_ratio"), ESTIMATE)
    | dict.fromkeys(("median", "p90", "p95", "p99", "p999", "max", "delta_p_rms"), NUMBER),
    "minProperties": 11,
    "additionalProperties": False,
}
FILE = {
    "type": "object",
    "properties": {
        "file": {"type": "string"},
        "type": {"type": "string"},
        "n_bytes": COUNT,
        "n_params": COUNT,
        "bpw": NUMBER,
        "n_scored": COUNT,
        "perplexity": ESTIMATE,
        "divergence": {"anyOf": [{"type": "null"}, DIVERGENCE]},
        "speed": {"anyOf": [{"type": "null"}, SPEED]},
        "made_in_s": {"type": ["number", "null"]},
    },
    "minProperties": 10,
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "version": {"type": "string"},
        "llama_cpp": {"type": "string"},
        "texts": {"type": "array", "items": {"type": "string"}},
        "text_sha256": {"type": "string", "minLength": 64},
        "n_ctx": COUNT,
        "n_chunks": COUNT,
        "n_threads": COUNT,
        "n_gpu_layers": COUNT,
        "method": {"type": ["string", "null"]},
        "elapsed_s": {"type": ["number", "null"]},
        "peak_bytes": {"type": ["integer", "null"]},
        "files": {"type": "array", "items": FILE, "minItems": 1},
    },
    "minProperties": 12,
    "additionalProperties": False,
}
