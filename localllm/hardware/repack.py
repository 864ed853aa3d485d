"""Which weights llama.cpp's CPU backend copies into an order of its own when it loads them.

Their originals stay mapped but are not read again, so the system may drop those pages: the copies are what a model
needs, and both are what llama.cpp counts as allocated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from localllm.gguf.weights import Matrix
from localllm.hardware.types import Device

_BY_FEATURE: dict[str, frozenset[str]] = {
    "AVX2": frozenset({"q4_0", "q4_K", "iq4_nl", "mxfp4"}),
    "AVX512": frozenset({"q2_K"}),
    "DOTPROD": frozenset({"q1_0", "q4_0", "q8_0", "q4_K", "q5_K", "q6_K", "iq4_nl", "mxfp4"}),
    "VXE": frozenset({"q4_0"}),
}
"""Source: ggml-cpu/repack.cpp, `ggml_repack_get_optimal_repack_type`, of the pinned llama.cpp."""


def repacked_types(cpu_features: Collection[str], devices: Sequence[Device]) -> frozenset[str]:
    """Return the tensor types that are repacked.

    Args:
        cpu_features: what llama.cpp was built with and uses, as it prints them: "AVX2", "REPACK".
        devices: those that layers could be offloaded to. Most have buffers of their own in RAM, which weights go to
            before they would be repacked; Metal has none.
    """
    has_host_buffers = any(not device.name.startswith(("MTL", "Metal")) for device in devices)
    if "REPACK" not in cpu_features or has_host_buffers:
        return frozenset()
    return frozenset().union(*(types for feature, types in _BY_FEATURE.items() if feature in cpu_features))


def is_repacked(matrix: Matrix, types: Collection[str]) -> bool:
    """Return whether a matrix is repacked where these types are; groups of eight rows are woven into one."""
    return matrix.type in types and matrix.n_out % 8 == 0
