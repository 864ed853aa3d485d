"""The file types that one chooses from, and a word on each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TypeChoice:
    """A file type as one chooses it."""

    name: str
    bpw: float
    """Bits per weight of its base type."""
    words: str


TYPE_CHOICES = (
    TypeChoice("Q4_K_M", 4.5, "little loss; the usual one"),
    TypeChoice("Q8_0", 8.5, "as good as 16 bits"),
    TypeChoice("Q6_K", 6.5625, "hardly any loss"),
    TypeChoice("Q5_K_M", 5.5, "very little loss"),
    TypeChoice("Q5_K_S", 5.5, "very little loss"),
    TypeChoice("Q4_K_S", 4.5, "little loss"),
    TypeChoice("IQ4_XS", 4.25, "little loss, smallest 4-bit"),
    TypeChoice("Q3_K_L", 3.4375, "some loss"),
    TypeChoice("Q3_K_M", 3.4375, "some loss"),
    TypeChoice("Q3_K_S", 3.4375, "more loss"),
    TypeChoice("Q2_K", 2.625, "much loss"),
    TypeChoice("Q2_K_S", 2.625, "most loss; not with rtn"),
    TypeChoice("Q5_1", 6.0, "blocks of 32, fit any rows"),
    TypeChoice("Q5_0", 5.5, "blocks of 32, fit any rows"),
    TypeChoice("Q4_1", 5.0, "blocks of 32, fit any rows"),
    TypeChoice("IQ4_NL", 4.5, "blocks of 32, fit any rows"),
    TypeChoice("Q4_0", 4.5, "blocks of 32, fit any rows"),
    TypeChoice("BF16", 16.0, "converted, no loss"),
    TypeChoice("F16", 16.0, "converted, no loss"),
)
METHODS = (
    ("gptq", "gptq: makes up for errors"),
    ("rtn", "rtn: to nearest, fastest"),
    ("awq", "awq: scales channels"),
    ("awq+gptq", "awq+gptq: the closest, longest"),
)
"""How weights are rounded, and a word on each."""
NEEDS_CALIBRATION = ("Q2_K_S",)
"""Types that are garbage without."""
