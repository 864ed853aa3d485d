"""Templates that mean harm: each ends as a TemplateError, soon, in bounded memory."""

from __future__ import annotations

import resource
import sys
import threading
import time
from typing import Any

import pytest

from localllm.chat.sandbox.renderer import SandboxedTemplate
from localllm.errors import TemplateError

_BIG = "{% set ns = namespace(s='x' * 1000) %}"
_MILLION = "{% set s = 'x' * 1000000 %}"
_LONG_LIST = "{% set r = range(100000)|list %}"

HOSTILE = {
    "nested_range": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "nested_list_without_calls": _LONG_LIST
    + "{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
    "filtered_loops": _LONG_LIST + "{% for a in r %}{% for b in r if false %}{% endfor %}{% endfor %}",
    "macro_recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro_tree": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive_loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "self_block": "{% block a %}{{ self.a() }}{% endblock %}",
    "repeat": "{{ 'x' * 10**10 }}",
    "repeat_from_the_left": "{{ 10**10 * 'x' }}",
    "repeat_list": "{{ ([0] * 10**9)|length }}",
    "percent_width": "{{ '%999999999d' % 1 }}",
    "percent_star": "{{ '%*d' % (999999999, 1) }}",
    "percent_precision": "{{ '%.999999999f' % 1.0 }}",
    "percent_nested_name": "{{ '%((a))999999999d' % {'(a)': 1} }}",
    "percent_repeats": _MILLION + "{{ ('%(a)s' * 800) % {'a': s} }}",
    "percent_filter": "{{ '%999999999d'|format(1) }}",
    "format_width": "{{ '{:>9999999999}'.format(1) }}",
    "format_nested_width": "{{ '{:{w}}'.format(1, w=999999999) }}",
    "format_map_width": "{{ '{a:>999999999}'.format_map({'a': 1}) }}",
    "format_by_item": "{{ 'x{:>999999999}'['format'](1) }}",
    "format_repeats": _MILLION + "{{ ('{0}' * 1000).format(s) }}",
    "center_filter": "{{ 'x'|center(10**9) }}",
    "center_method": "{{ 'x'.center(10**9) }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "expandtabs": "{{ '\\t'.expandtabs(10**9) }}",
    "indent_width": "{{ 'x\\ny'|indent(10**9) }}",
    "indent_lines": "{{ ('\\n' * 10**6)|indent(9999) }}",
    "indent_text": _MILLION + "{{ ('\\n' * 1000)|indent(s) }}",
    "power": "{{ (10**(10**8)) > 1 }}",
    "power_tower": "{{ 9**(9**(9**9)) }}",
    "squares": "{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "huge_int_text": "{{ ('f' * 1000000)|int(base=16) > 1 }}",
    "round": "{{ 1.5|round(10**9, 'ceil') }}",
    "range": "{{ range(10**9)|length }}",
    "lipsum": "{{ lipsum(n=1000000) }}",
    "batch_fill": "{{ [1]|batch(10**9, 'x')|list|length }}",
    "slice_count": "{{ [1]|slice(10**9)|list|length }}",
    "join_big": _MILLION + "{{ range(10000)|join(s)|length }}",
    "join_method": _MILLION + "{{ s.join(['a'] * 10000)|length }}",
    "replace_grows": _MILLION + "{{ s|replace('x', s)|length }}",
    "replace_method": _MILLION + "{{ s.replace('x', s)|length }}",
    "replace_empty": _MILLION + "{{ s.replace('', s)|length }}",
    "doubling_plus": _BIG + "{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubling_tilde": _BIG + "{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubling_block": _BIG
    + "{% for i in range(99) %}{% set b %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = b %}{% endfor %}",
    "doubling_macro": _BIG + "{% macro d(s) %}{{ s }}{{ s }}{% endmacro %}"
    "{% for i in range(99) %}{% set ns.s = d(ns.s) %}{% endfor %}",
    "doubling_format": _BIG + "{% for i in range(99) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
    "doubling_list": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "long_output": _MILLION + "{% for i in range(99999) %}{{ s }}{% endfor %}",
    "long_block": _MILLION + "{% set b %}{% for i in range(99999) %}{{ s }}{% endfor %}{% endset %}",
    "many_copies": _MILLION + "".join(f"{{% set a{i} = s[1:] %}}" for i in range(2000)),
    "laughs_printed": "{% set ns = namespace(x=['ha']) %}"
    "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "laughs_compared": "{% set ns = namespace(x=['a'], y=['a']) %}"
    "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
    "{{ ns.x == ns.y }}",
    "laughs_by_dict": "{% set ns = namespace(x='a') %}"
    "{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
    "laughs_by_dict_call": "{% set ns = namespace(x='a') %}"
    "{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x|string }}",
    "laughs_by_varargs": "{% set ns = namespace(x=1) %}{% macro m() %}{% set ns.x = varargs %}{% endmacro %}"
    "{% for i in range(60) %}{{ m(ns.x, ns.x) }}{% endfor %}{{ ns.x }}",
    "laughs_by_kwargs": "{% set ns = namespace(x=1) %}{% macro m() %}{% set ns.x = kwargs %}{% endmacro %}"
    "{% for i in range(60) %}{{ m(a=ns.x, b=ns.x) }}{% endfor %}{{ ns.x }}",
    "laughs_by_batch": "{% set ns = namespace(x=[1]) %}"
    "{% for i in range(60) %}{% set ns.x = [ns.x]|batch(2, ns.x)|list %}{% endfor %}{{ ns.x }}",
    "laughs_by_items": "{% set ns = namespace(x={'a': 1}) %}"
    "{% for i in range(60) %}{% set ns.x = {'a': ns.x.items(), 'b': ns.x.items()} %}{% endfor %}{{ ns.x }}",
    "laughs_by_map_default": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = [none, none]|map('default', ns.x, true)|list %}{% endfor %}{{ ns.x }}",
    "laughs_hashed": "{% set ns = namespace(x=(1, 2)) %}"
    "{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1}|length }}",
    "deep_tuple_hashed": "{% set ns = namespace(x=(1,)) %}"
    "{% for i in range(99999) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1}|length }}",
    "deep_list_json": "{% set ns = namespace(x=[1]) %}"
    "{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson(indent=16) }}",
    "json_separator": _MILLION + "{{ ([1] * 100000)|tojson(separators=(s, s)) }}",
    "json_indent": _MILLION + "{{ ([1] * 100000)|tojson(indent=s) }}",
    "sum_of_lists": "{{ ([[1] * 100] * 9999)|sum(start=[])|length }}{{ [[1] * 999999] * 99|sum(start=[]) }}",
    "sort_long_equal_strings": _MILLION + "{{ ([s ~ 'a', s ~ 'b'] * 100000)|sort|length }}",
    "strip_many": "{{ ('x' * 20000000).strip('y' * 20000000) }}",
    "trim_many": "{{ ('x' * 20000000)|trim('y' * 20000000) }}",
    "rfind": "{{ ('x' * 20000000).rfind('y' ~ 'x' * 10000000) }}",
    "split_many": "{{ ('a ' * 10000000).split()|length }}",
    "list_of_text": "{{ ('x' * 20000000)|list|length }}",
    "strftime_width": "{{ strftime_now('%999999999d') }}",
    "strftime_long": "{{ strftime_now('%A' * 10000000) }}",
    "to_bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "encode": "{{ 'x'.encode('utf-32') }}",
    "translate": "{{ 'xx'.translate({120: 'x' * 1000000}) }}",
    "fromkeys": "{{ dict.fromkeys(range(99999)) }}",
    "generator_chain": "{% set ns = namespace(g=range(9)) %}"
    "{% for i in range(99999) %}{% set ns.g = ns.g|map('upper') %}{% endfor %}"
    "{% for i in range(99999) %}{% set ns.g = ns.g|select %}{% endfor %}{{ raise_exception('survived') }}",
}

HOSTILE |= {
    "wide_characters": "{{ ('😀' * 30000000)|length }}",
    "characters_walked": _MILLION + "{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "sort_many": "{% set r = range(100000)|map('string')|list %}"
    "{% for i in r %}{% set x = r|sort|sort(reverse=true) %}{% endfor %}",
    "compare_long": "{% set a = 'x' * 20000000 %}{% set b = a ~ 'y' %}"
    "{% for i in range(99999) %}{% if b < a ~ 'z' %}{% endif %}{% endfor %}",
    "find_in_long": "{% set a = 'ab' * 9999999 %}{% for i in range(99999) %}{% if 'ba' * 99 ~ 'c' in a %}"
    "{% endif %}{% endfor %}",
    "star_arguments": _LONG_LIST + "{% macro m() %}{{ varargs|length }}{% endmacro %}"
    "{% for i in r %}{{ m(*r) }}{{ dict(a=r).a|length }}{% endfor %}",
    "printed_namespaces": "{% set ns = namespace(x=1) %}"
    "{% for i in range(40) %}{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}"
    "{{ ns.x }}{{ raise_exception('survived') }}",
    "json_of_long_lists": _LONG_LIST + "{% for i in r %}{% set x = r|tojson(indent=16) %}{% endfor %}",
    "mapped_joins": _LONG_LIST + "{% for i in r %}{% set x = r|map('string')|join(',') %}{% endfor %}",
    "escapes": "{% set a = '&' * 20000000 %}{{ a|e|length }}",
    "live_variables": "{% set ns = namespace() %}" + "".join(f"{{% set a{i} = 'x' * 30000000 %}}" for i in range(50)),
    "joiner_of_long_text": "{% set j = joiner('x' * 20000000) %}{% for i in range(99999) %}{{ j() }}{% endfor %}",
}

ESCAPES = {
    "class_of_string": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class_by_attr_filter": "{{ ''|attr('__class__') }}",
    "class_by_item": "{{ ''['__class__']['__mro__'] }}",
    "class_by_map": "{{ ['']|map(attribute='__class__')|list|first|attr('mro') }}{{ x.y }}",
    "class_by_format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "class_by_format_map": "{{ '{a.__class__.__mro__}'.format_map({'a': 1}) }}",
    "format_taken_by_map": "{{ ['{0.__class__.x}']|map(attribute='format')|first()([]) }}",
    "globals_of_function": "{{ raise_exception.__globals__['os'] }}",
    "globals_of_cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "globals_of_joiner": "{{ joiner().__init__.__globals__.os }}",
    "globals_of_namespace": "{{ namespace.__init__.__globals__['__builtins__'] }}",
    "globals_of_macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "context_of_self": "{{ self._TemplateReference__context.environment }}",
    "context_of_self_by_item": "{{ self['_TemplateReference__context'].environment }}",
    "loop_internals": "{% for x in [1] %}{{ loop._iterable.__class__.__base__ }}{% endfor %}",
    "undefined_internals": "{{ nothing._fail_with_undefined_error.__globals__ }}",
    "type_mro": "{{ dict.mro() }}",
    "mutation": "{% set x = [1] %}{{ x.append(2) }}",
    "message_mutation": "{{ messages.clear() }}",
    "dict_mutation": "{{ messages[0].update({'role': 'x'}) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "from_import": "{% from 'os' import popen %}",
    "extends": "{% extends 'x' %}",
    "autoescape": "{% autoescape true %}{{ 'x' }}{% endautoescape %}",
    "unknown_filter": "{{ 'http://x' | urlize }}",
    "strftime_conversion": "{{ strftime_now('%\\ud800') }}",
}

INVALID = {
    "unclosed_tag": "{% if x %}",
    "unknown_tag": "{% frobnicate %}",
    "many_parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "many_nots": "{{ " + "not " * 20000 + "1 }}",
    "many_minuses": "{{ " + "-" * 20000 + "1 }}",
    "many_loops": "{% for a in [1] %}" * 100 + "{% endfor %}" * 100,
    "many_ifs": "{% if 1 %}" * 400 + "{% endif %}" * 400 + "{{ x.y.z }}",
    "many_pluses": "{{ " + "1+" * 20000 + "1 }}{{ x.y.z }}",
    "long_number": "{{ " + "9" * 10000 + " }}",
    "too_long": " " * 600_000,
    "folded_constant": "{{ 'x'|center(10**9)|length }}",
}


def _render(source: str) -> str:
    return SandboxedTemplate(source).render({"messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.parametrize("name", [*HOSTILE, *ESCAPES, *INVALID])
def test_hostile_template_is_stopped_in_time_and_memory(name: str) -> None:
    source = (HOSTILE | ESCAPES | INVALID)[name]
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.thread_time()
    with pytest.raises(TemplateError) as caught:
        _render(source)
    assert time.thread_time() - started < 3.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 700 << 10
    assert caught.value.hint
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("prelude", [_BIG, _MILLION, _LONG_LIST, "{% set s = 'x' * 20000000 %}"])
def test_what_hostile_templates_begin_with_is_allowed(prelude: str) -> None:
    assert _render(prelude) == ""


def test_trace_function_is_restored() -> None:
    def tracer(*_: Any) -> None:
        return None

    outer = sys.gettrace()
    sys.settrace(tracer)
    try:
        _render("{{ 1 }}")
        with pytest.raises(TemplateError):
            _render(HOSTILE["nested_range"])
        kept = sys.gettrace()
    finally:
        sys.settrace(outer)
    assert kept is tracer


def test_one_template_renders_on_many_threads_at_once() -> None:
    template = SandboxedTemplate("{% for i in range(2000) %}{{ n ~ ' ' }}{% endfor %}")
    results: dict[int, str] = {}

    def render(n: int) -> None:
        results[n] = template.render({"n": n})

    threads = [threading.Thread(target=render, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"{n} " * 2000 for n in range(4)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ {'b': '<é>', 'a': [1, none]}|tojson }}", '{"b": "<é>", "a": [1, null]}'),
        ("{{ {'b': 1}|tojson(indent=2) }}", '{\n  "b": 1\n}'),
        ("{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        (
            "{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        ("{{ ['b', 'a']|sort|join(', ')|upper }}", "A, B"),
        ("{{ [{'r': 1}, {'r': 2}]|selectattr('r', 'equalto', 2)|map(attribute='r')|list }}", "[2]"),
        ("{{ [{'r': 1}, {'r': 2}]|map(attribute='r')|sum }}", "3"),
        ("{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}", "b"),
        ("{{ 'abc'[1:]|length }}{{ 'abc'.startswith('a') }}{{ ' x '|trim }}", "2Truex"),
        (
            "{{ '%s has %d' % ('a', 3) }}{{ '{:>4}'.format(1) }}{{ '{a}'.format_map({'a': 2}) }}",
            "a has 3   12",
        ),
        (
            "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}|items|list }}",
            "a1[('a', 1)]",
        ),
        ("{{ 'a\\nb'|indent(2) }}{{ 1.25|round(1) }}{{ '7'|int + 1 }}", "a\n  b1.28"),
        ("{{ [1, 2, 3]|batch(2)|list }}{{ 'ab'|reverse }}{{ [3, 1]|min }}", "[[1, 2], [3]]ba1"),
        ("{{ x is defined }}{{ x }}{{ none }}{{ x|default('d') }}", "FalseNoned"),
        ("{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% call m(1) %}c{% endcall %}", "<1c>"),
        ("{{ strftime_now('%Y')|length }}{{ strftime_now('%d %b %Y')|length }}", "411"),
        ("{%- if true %}\n    x\n    {%- endif %}", "    x"),
    ],
)
def test_harmless_template_renders_as_in_transformers(source: str, expected: str) -> None:
    assert SandboxedTemplate(source).render({}) == expected


def test_failure_names_the_line() -> None:
    with pytest.raises(TemplateError, match="line 3"):
        SandboxedTemplate("a\nb\n{{ x.y.z }}\n").render({})
    with pytest.raises(TemplateError, match="line 2"):
        SandboxedTemplate("a\n{% if %}")
