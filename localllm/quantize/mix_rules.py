"""The rules of each file type: where it spends more bits than its base type has.

llama.cpp's rules, to the letter, so that files of one name are alike whoever makes them. They are experience, not
theory: V and the second feed-forward matrix hurt most, in the first and the last layers.

Source: `llama_tensor_get_type_impl` in llama-quant.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from localllm.gguf import GGUFHeader, ModelShape
from localllm.quantize.categories import Category, category, layer_of

_LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
"""Layers at which llama.cpp calls a model of this architecture 70B."""
_EXPERTS_8_OUTPUT = frozenset({"Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ4_XS"})


@dataclass(frozen=True)
class ModelFacts:
    """What the rules ask about a model."""

    architecture: str
    n_layer: int
    n_gqa: int
    """Query heads to one head of keys and values, in the first layer; 0 without attention."""
    n_expert: int
    n_attn_v: int
    """Tensors that hold V."""
    is_70b: bool
    is_tied: bool
    """The token embedding is the output layer too."""

    @classmethod
    def from_header(cls, header: GGUFHeader) -> ModelFacts:
        """Read them from a model's header.

        Raises:
            InvalidModelFile: a number is missing or impossible.
        """
        shape = ModelShape.from_header(header)
        categories = [category(tensor.name) for tensor in header.tensors]
        n_head, n_head_kv = shape.n_head[0], shape.n_head_kv[0]
        is_70b = shape.n_layer == _LAYERS_OF_70B.get(shape.architecture)
        if shape.architecture == "llama":
            is_70b = is_70b and n_head != n_head_kv and shape.n_expert != 8
        return cls(
            architecture=shape.architecture,
            n_layer=shape.n_layer,
            n_gqa=n_head // n_head_kv if n_head_kv else 0,
            n_expert=shape.n_expert,
            n_attn_v=categories.count(Category.ATTN_V),
            is_70b=is_70b,
            is_tied=Category.OUTPUT not in categories,
        )

    @property
    def is_falcon(self) -> bool:
        return self.architecture == "falcon"

    @property
    def has_8_experts(self) -> bool:
        return self.n_expert == 8


@dataclass
class Rules:
    """One file type's rules, asked about the matrices of one model in the file's order, since they count them."""

    file_type: str
    facts: ModelFacts
    has_imatrix: bool
    _n_attn_v_seen: int = field(default=0, init=False)
    _n_ffn_down_seen: int = field(default=0, init=False)

    def type_of(self, name: str, part: Category, base: str) -> str:
        """Return the type of the next matrix, which is not an output layer; `base` where no rule applies."""
        if self.facts.architecture == "glm5-next" and any(
            kept in name for kept in ("attn_q_a", "attn_q_b", "nextn.eh_proj")
        ):
            return "q8_0"
        rule = _RULES.get(part)
        return rule(self, name, base) if rule else base

    def attn_v(self, _name: str, base: str) -> str:
        index = self._n_attn_v_seen
        self._n_attn_v_seen += 1
        found = self._attn_v_type(index) or base
        if self.facts.is_70b and found in ("q3_K", "q4_K"):
            found = "q5_K"
        return "q8_0" if self.facts.has_8_experts else found

    def _attn_v_type(self, index: int) -> str | None:
        many_heads_share = self.facts.n_gqa >= 4
        match self.file_type:
            case "Q2_K":
                return "q4_K" if many_heads_share else "q3_K"
            case "Q2_K_S":
                return "q4_K" if many_heads_share else None
            case "Q3_K_M":
                return "q5_K" if index < 2 else "q4_K"
            case "Q3_K_L":
                return "q5_K"
            case "IQ4_NL" | "IQ4_XS":
                return "q5_K" if many_heads_share else None
            case "Q4_K_M" | "Q5_K_M":
                return "q6_K" if gets_more_bits(index, self.facts.n_attn_v) else None
            case "Q4_K_S":
                return "q5_K" if index < 4 else None
        return None

    def attn_k(self, _name: str, base: str) -> str:
        return "q8_0" if self.facts.has_8_experts else base

    def ffn_down(self, name: str, base: str) -> str:
        # The experts of a layer are several tensors in some files, so counting would not tell the layer.
        layer = layer_of(name) if self.facts.n_expert > 1 else self._n_ffn_down_seen
        self._n_ffn_down_seen += 1
        return self._ffn_down_type(layer) or base

    def _ffn_down_type(self, layer: int) -> str | None:
        n_layer, falcon = self.facts.n_layer, self.facts.is_falcon
        is_first_eighth, is_first_sixteenth = layer < n_layer // 8, layer < n_layer // 16
        more = gets_more_bits(layer, n_layer)
        match self.file_type:
            case "Q2_K":
                return "q3_K"
            case "Q2_K_S":
                return "q4_K" if is_first_eighth else None
            case "Q3_K_M":
                if is_first_sixteenth:
                    return "q5_K"
                return "q4_K" if more or not falcon else "q3_K"
            case "Q3_K_L":
                return "q4_K" if falcon else "q5_K"
            case "Q4_K_M" if falcon:
                return "q6_K" if is_first_sixteenth else "q5_K" if more else "q4_K"
            case "Q4_K_M" | "Q5_K_M":
                return "q6_K" if more else None
            case "IQ4_NL" | "IQ4_XS":
                return "q5_K" if is_first_eighth and not self.has_imatrix else None
            case "Q4_K_S":
                return "q5_K" if is_first_eighth and not falcon else None
            case "Q4_0" | "Q5_0" if is_first_eighth and self.has_imatrix:
                return "q4_1" if self.file_type == "Q4_0" else "q5_1"
        return None

    def attn_output(self, _name: str, base: str) -> str:
        if self.facts.is_falcon:
            return "q4_K" if self.file_type == "Q3_K_L" else base
        if self.facts.has_8_experts:
            return "q5_K" if self.file_type in _EXPERTS_8_OUTPUT else base
        return {"Q2_K": "q3_K", "Q3_K_M": "q4_K", "Q3_K_L": "q5_K"}.get(self.file_type, base)


_RULES: dict[Category, Callable[[Rules, str, str], str]] = {
    Category.ATTN_V: Rules.attn_v,
    Category.ATTN_K: Rules.attn_k,
    Category.ATTN_OUTPUT: Rules.attn_output,
    Category.FFN_DOWN: Rules.ffn_down,
}


def gets_more_bits(index: int, n: int) -> bool:
    """Tell whether a layer is in the first or last eighth, or every third between."""
    return index < n // 8 or index >= 7 * n // 8 or (index - n // 8) % 3 == 2
