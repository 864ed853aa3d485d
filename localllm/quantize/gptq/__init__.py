"""GPTQ inside ggml's block types: weights and the second moments of their inputs in, blocks out; arrays only.

factor = factorize(SecondMoments(total, n_tokens))
coded = encode_with_feedback("q4_K", weights, factor)
"""

from localllm.quantize.gptq.feedback import DEFAULT_EFFORT, Effort, encode_with_feedback
from localllm.quantize.gptq.hessian import Conditioning, Factor, SecondMoments, factorize, proxy_loss

__all__ = [
    "DEFAULT_EFFORT",
    "Conditioning",
    "Effort",
    "Factor",
    "SecondMoments",
    "encode_with_feedback",
    "factorize",
    "proxy_loss",
]
