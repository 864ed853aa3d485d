"""One template, compiled once and rendered many times; whatever goes wrong is a TemplateError."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from types import TracebackType
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError

from localllm.chat.sandbox.environment import MeteredEnvironment, RefusedByTemplate
from localllm.chat.sandbox.meter import Limits, Meter, OutOfBounds
from localllm.errors import TemplateError

MAX_SOURCE_CHARS = 512 << 10
_MAX_REASON_CHARS = 300
_HINT = "Use another model file, or do without the template (localllm run --raw)."
_COMPILING = Limits(cpu_s=5.0)


@functools.cache
def _environment() -> MeteredEnvironment:
    return MeteredEnvironment()


class SandboxedTemplate:
    """A compiled template that nobody vouches for. May be rendered from several threads at once.

    Args:
        source: Jinja, as Transformers runs it.
        limits: what each rendering may spend.

    Raises:
        TemplateError: the source is too long or not a template; the message has the line.
    """

    def __init__(self, source: str, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(
                f"The chat template has {len(source)} characters, {MAX_SOURCE_CHARS} allowed.", hint=_HINT
            )
        with _as_template_error(), Meter(_COMPILING):
            environment = _environment()
            self._template = environment.from_string(environment.parse(source))

    def render(self, variables: Mapping[str, Any]) -> str:
        """Return the text for `variables`, which are plain values: strings, numbers, lists, dicts.

        Raises:
            TemplateError: the template failed, refused, spent too much, or tried what it may not.
        """
        with _as_template_error(self._template), Meter(self._limits):
            pieces: list[str] = []
            n_chars = 0
            for piece in self._template.root_render_func(self._template.new_context(dict(variables))):
                n_chars += len(piece)
                if n_chars > self._limits.output_chars:
                    raise OutOfBounds(f"its output is longer than {self._limits.output_chars} characters")
                pieces.append(piece)
        return "".join(pieces)


@contextmanager
def _as_template_error(template: jinja2.Template | None = None) -> Iterator[None]:
    try:
        yield
    except OutOfBounds as error:
        raise TemplateError(f"The chat template was stopped: {error}.", hint=_HINT) from error
    except RefusedByTemplate as error:
        raise TemplateError(
            f"The chat template refuses this conversation: {error}",
            hint="Change the order or the roles of the messages.",
        ) from None
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"The chat template is not valid, line {error.lineno}: {_reason(error)}", hint=_HINT
        ) from None
    except SecurityError as error:
        raise TemplateError(f"The chat template tried something it may not: {_reason(error)}", hint=_HINT) from None
    except Exception as error:
        where = _line(error.__traceback__, template)
        raise TemplateError(
            f"The chat template failed{where}: {type(error).__name__}: {_reason(error)}", hint=_HINT
        ) from None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _MAX_REASON_CHARS else f"{text[:_MAX_REASON_CHARS]}…"


def _line(traceback: TracebackType | None, template: jinja2.Template | None) -> str:
    """Return where in the template it happened, as ", line 3", or ""."""
    if template is None:
        return ""
    line = 0
    for frame, python_line in walk_tb(traceback):
        if id(frame.f_globals.get("__jinja_template__")) == id(template):
            line = template.get_corresponding_lineno(python_line)
    return f", line {line}" if line else ""
