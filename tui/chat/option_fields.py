"""The options of a conversation as people write them: words and numbers, checked before they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localllm.errors import RequestError

_TRUTH = {"on": True, "off": False}


@dataclass(frozen=True)
class OptionField:
    """How one option is written.

    Args:
        name: as GenerateOptions calls it.
        label: as people call it.
        kind: "number", "integer", "choice" or "switch".
        none_word: the word for None, where None is a value.
        choices: of a choice.
    """

    name: str
    label: str
    kind: str
    none_word: str | None = None
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            RequestError: it is not allowed; the message says what is.
        """
        value = self._value(text.strip())
        from localllm.llm.options import parse_options

        parse_options({self.name: value})
        return value

    def shown(self, value: Any) -> str:
        """Return the text of a value, which `parse` reads."""
        if value is None:
            return self.none_word or "the model's own"
        if isinstance(value, bool):
            return "on" if value else "off"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def _value(self, text: str) -> Any:
        if self.none_word is not None and text == self.none_word:
            return None
        try:
            match self.kind:
                case "number":
                    return float(text)
                case "integer":
                    return int(text)
                case "switch":
                    return _TRUTH[text.lower()]
        except (ValueError, KeyError):
            raise RequestError(f"{self.label}: {self._allowed()}.") from None
        if text not in self.choices:
            raise RequestError(f"{self.label}: {self._allowed()}.")
        return text

    def _allowed(self) -> str:
        what = {"number": "a number", "integer": "a whole number", "switch": "on or off"}.get(self.kind)
        what = what or f"one of {', '.join(self.choices)}"
        return f"{what}, or {self.none_word}" if self.none_word else what


FIELDS = (
    OptionField("temperature", "Temperature", "number"),
    OptionField("top_p", "Top p", "number"),
    OptionField("top_k", "Top k", "integer"),
    OptionField("min_p", "Min p", "number"),
    OptionField("seed", "Seed", "integer", "random"),
    OptionField("max_tokens", "Tokens at most", "integer", "none"),
    OptionField("context_policy", "Full context", "choice", None, ("error", "shift", "sinks")),
    OptionField("n_sink", "Sink tokens", "integer"),
    OptionField("thinking", "Thinking", "switch"),
    OptionField("reasoning_budget", "Thinking at most", "integer", "none"),
    OptionField("spec", "Drafts", "choice", None, ("auto", "off", "ngram", "lookahead", "draft")),
)
