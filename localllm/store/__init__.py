"""What models are on this disk."""

from localllm.store.resolve import demo_model, resolve

__all__ = ["demo_model", "resolve"]
