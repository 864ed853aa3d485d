"""Which quantization is meant where none is named."""

from __future__ import annotations

ORDER = (
    *("Q4_K_M", "MXFP4", "MXFP4_MOE", "Q4_K_L", "Q4_K_XL", "Q4_K_S", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "Q4", "NVFP4"),
    *("Q5_K_M", "Q5_K_L", "Q5_K_XL", "Q5_K_S", "Q5_0", "Q5_1", "Q5", "Q6_K", "Q6_K_L", "Q6_K_XL", "Q6"),
    *("Q8_0", "Q8_K_XL", "Q8"),
    *("Q3_K_L", "Q3_K_XL", "Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS", "IQ3_XXS", "Q3"),
    *("BF16", "F16", "F32"),
)
"""From the best on. 4 bits first: above, files grow faster than quality; below, quality falls faster than size. Then
what is larger, then 3 bits, then what was not quantized at all; then names that say nothing, then 2 bits and fewer."""


def place_of(quantization: str | None) -> int:
    """Return where a quantization is in the order, from 0; None is a name that says nothing."""
    if quantization in ORDER:
        return ORDER.index(quantization)
    return len(ORDER) + (quantization is not None)
