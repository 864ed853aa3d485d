"""Jinja2's immutable sandbox, made safe for templates that come with a model file from anywhere.

Jinja's own sandbox keeps a template away from Python's internals. This one also allows only listed filters,
attributes and statements, and has every operation pay a meter, since `'x' * 10**10` needs no internals.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from localllm.chat.sandbox import operations
from localllm.chat.sandbox.filters import FILTERS
from localllm.chat.sandbox.meter import meter

_REFUSED_NODES = (
    nodes.Extends,
    nodes.FromImport,
    nodes.Import,
    nodes.Include,
    nodes.EvalContextModifier,
    nodes.ScopedEvalContextModifier,
)
_CONTAINER_METHODS = frozenset({"copy", "count", "get", "index", "items", "keys", "values"})
_OPAQUE_TYPES = (
    type,
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    bytes,
    float,
    int,
    range,
)
_DATE_FORMAT = re.compile(r"(?:[^%\d]|\d(?!\d{2})|%[-#A-Za-z%])*")
_MAX_DATE_FORMAT_CHARS = 256
_MAX_RAISED_CHARS = 500


class RefusedByTemplate(Exception):
    """The template called `raise_exception`: it cannot render this conversation."""


def _raise_exception(message: Any = "") -> None:
    raise RefusedByTemplate(str(message)[:_MAX_RAISED_CHARS])


def _strftime_now(date_format: str) -> str:
    """Return the local time; padding widths, which the C library would honour, are refused."""
    if len(date_format) > _MAX_DATE_FORMAT_CHARS or not _DATE_FORMAT.fullmatch(date_format):
        raise jinja2.TemplateRuntimeError("strftime_now got a date format that it does not know")
    return datetime.now().strftime(date_format)


class _OpaqueNamespace(Namespace):
    """A namespace that prints as a word: printing nested ones would escape the meter."""

    def __repr__(self) -> str:
        return "<namespace>"


class _GenerationTag(Extension):
    """`{% generation %}`, which marks what a trainer learns from; here it marks nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _MeteredCode(CodeGenerator):
    """Code in which every value made by syntax alone passes the meter."""

    def _keep(self, write: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.keep(")
        write(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat_all((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._keep(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._keep(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "load":
            self._keep(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.arg, nodes.Slice):
            self._keep(super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """The environment that templates are compiled and rendered in. One serves all templates and threads."""

    code_generator_class = _MeteredCode
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=[LoopControlExtension, _GenerationTag],
        )
        self.filters = dict(FILTERS)
        del self.globals["lipsum"]
        self.globals["namespace"] = _OpaqueNamespace
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def parse(self, source: str, name: str | None = None, filename: str | None = None) -> nodes.Template:
        tree = super().parse(source, name, filename)
        refused = next(iter(tree.find_all(_REFUSED_NODES)), None)
        if refused is not None:
            raise jinja2.TemplateSyntaxError(
                f"{type(refused).__name__} is not available in chat templates", refused.lineno
            )
        return tree

    @staticmethod
    def keep(value: Any) -> Any:
        """Pay for a value that the template just made."""
        return meter().keep(value)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Join the output of a block; Jinja's own hook."""
        return operations.join("", parts)

    @staticmethod
    def concat_all(parts: Iterable[Any]) -> str:
        """The operator `~`."""
        return operations.join("", [str(part) for part in parts])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in operations.STR_METHODS
        if isinstance(obj, list | tuple | dict):
            return attr in _CONTAINER_METHODS
        if isinstance(obj, _OPAQUE_TYPES):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a bounded `format` or `format_map`, if `value` is that method of a string."""
        if not isinstance(value, types.BuiltinMethodType) or value.__name__ not in ("format", "format_map"):
            return None
        template = value.__self__
        if not isinstance(template, str):
            return None

        def format_map(values: Mapping[str, Any]) -> str:
            return meter().keep(operations.BoundedFormatter(self).vformat(template, (), values))

        def format_args(*args: Any, **kwargs: Any) -> str:
            return meter().keep(operations.BoundedFormatter(self).vformat(template, args, kwargs))

        return format_map if value.__name__ == "format_map" else format_args

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return operations.binary(operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and isinstance(__obj, types.BuiltinMethodType):
            return operations.STR_METHODS[__obj.__name__](owner, *args, **kwargs)
        if isinstance(__obj, Macro):
            meter().keep(args)
            meter().keep(kwargs)
        with meter().deeper():
            result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(owner, dict) and not isinstance(result, str | list | tuple | dict):
            return meter().keep(list(result)) if __obj.__name__ in ("items", "keys", "values") else result
        return meter().keep(result) if isinstance(result, list | tuple | dict) else result
