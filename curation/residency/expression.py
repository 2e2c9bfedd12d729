"""Row rules' boolean expressions: read by DuckDB's parser, checked node by node, written anew from what was checked."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import duckdb

from curation.errors import PackRefused

MAX_EXPRESSION_CHARS: Final = 2_000

# No file, no network, no extension fetched, no Python variable seen as a table, and nothing of this can be switched back on.
LOCKED: Final[dict[str, str | bool]] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",  # rows of home never spill beside whatever folder the process was started in
    "lock_configuration": True,
}

_COMPARISONS: Final[Mapping[str, str]] = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_CONJUNCTIONS: Final[Mapping[str, str]] = {"CONJUNCTION_AND": " AND ", "CONJUNCTION_OR": " OR "}
_FUNCTIONS: Final[Mapping[str, int]] = {"abs": 1, "isfinite": 1, "length": 1, "lower": 1, "trim": 1}
_LITERALS: Final = ("INTEGER", "NUMERIC", "STRING", "BOOLEAN")
# Parts of a SELECT beside its list; a bare expression fills none of them.
_EMPTY_CLAUSES: Final = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")


@functools.lru_cache(maxsize=256)
def compile_expression(text: str, inputs: tuple[str, ...], *, subject: str) -> str:
    """SQL over quoted column names that means what `text` says, built from the checked syntax tree alone.

    Args:
        text: boolean expression of comparisons, AND, OR, NOT, BETWEEN, IN, IS [NOT] NULL, literals and a few scalar functions.
        inputs: the only columns it may name.
        subject: who asks, for the refusal.

    Raises:
        PackRefused: the text does not parse, is longer than 2,000 characters, or holds any other kind of node, function or column.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        raise _refused(f"expression has {len(text)} characters, more than {MAX_EXPRESSION_CHARS}", subject)
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        answer = connection.execute("SELECT json_serialize_sql(?)", ["SELECT (" + text + ") FROM declared"]).fetchall()  # noqa: S608 - parsed, never run
    tree = json.loads(answer[0][0])
    if tree["error"]:
        raise _refused(f"expression is not readable: {tree['error_message']}", subject)
    if len(tree["statements"]) != 1 or tree["statements"][0]["node"]["type"] != "SELECT_NODE":
        raise _refused("expression is more than one boolean expression", subject)
    node = tree["statements"][0]["node"]
    table = node["from_table"]
    is_bare = len(node["select_list"]) == 1 and not any(node.get(clause) for clause in _EMPTY_CLAUSES) and not node["cte_map"]["map"]
    if not is_bare or table.get("table_name") != "declared" or table["type"] != "BASE_TABLE" or table["alias"] or table["sample"]:
        raise _refused("expression brings SQL clauses of its own", subject)
    return _Writer(inputs, subject).write(node["select_list"][0])


def _refused(problem: str, subject: str) -> PackRefused:
    return PackRefused(problem, subject=subject, fix="use comparisons, and, or, not, between, in, is null over the rule's declared inputs")


class _Writer:
    """Writes one checked node after another; a node class without a method here is refused."""

    def __init__(self, inputs: Sequence[str], subject: str) -> None:
        self._inputs = inputs
        self._subject = subject
        self._methods: Mapping[str, Callable[[Any], str]] = {
            "COLUMN_REF": self._column,
            "CONSTANT": self._constant,
            "COMPARISON": self._comparison,
            "CONJUNCTION": self._conjunction,
            "OPERATOR": self._operator,
            "BETWEEN": self._between,
            "FUNCTION": self._function,
        }

    def write(self, node: Any) -> str:
        method = self._methods.get(node["class"])
        if method is None or node["alias"]:
            raise _refused(f"expression holds a {node['class']} node", self._subject)
        return method(node)

    def _column(self, node: Any) -> str:
        names = node["column_names"]
        if len(names) != 1 or names[0] not in self._inputs:
            raise _refused(f"expression names column {'.'.join(names)}, which is not among its inputs {list(self._inputs)}", self._subject)
        return f'"{names[0]}"'

    def _constant(self, node: Any) -> str:
        kind, text = node["literal"]["kind"], str(node["literal"]["text"])
        if kind not in _LITERALS:
            raise _refused(f"expression holds a literal of kind {kind}", self._subject)
        if kind == "STRING":
            return "'" + text.replace("'", "''") + "'"
        if kind == "BOOLEAN":
            return "TRUE" if text == "true" else "FALSE"
        if kind == "NUMERIC" and not math.isfinite(float(text)):
            raise _refused(f"expression holds the number {text}", self._subject)
        return repr(float(text)) if kind == "NUMERIC" else str(int(text))

    def _comparison(self, node: Any) -> str:
        sign = _COMPARISONS.get(node["type"])
        if sign is None:
            raise _refused(f"expression holds a {node['type']} comparison, which lets unknown values pass", self._subject)
        return f"({self.write(node['left'])} {sign} {self.write(node['right'])})"

    def _conjunction(self, node: Any) -> str:
        return "(" + _CONJUNCTIONS[node["type"]].join(self.write(child) for child in node["children"]) + ")"

    def _operator(self, node: Any) -> str:
        parts = [self.write(child) for child in node["children"]]
        if node["type"] == "OPERATOR_NOT":
            return f"(NOT {parts[0]})"
        if node["type"] == "OPERATOR_IS_NULL":
            return f"({parts[0]} IS NULL)"
        if node["type"] == "OPERATOR_IS_NOT_NULL":
            return f"({parts[0]} IS NOT NULL)"
        if node["type"] == "COMPARE_IN":
            return f"({parts[0]} IN ({', '.join(parts[1:])}))"
        raise _refused(f"expression holds operator {node['type']}", self._subject)

    def _between(self, node: Any) -> str:
        return f"({self.write(node['input'])} BETWEEN {self.write(node['lower'])} AND {self.write(node['upper'])})"

    def _function(self, node: Any) -> str:
        name, arguments = node["function_name"], node["arguments"]
        is_plain = not (node["filter"] or node["distinct"] or node["schema"] or node["catalog"] or node["order_bys"]["orders"])
        if _FUNCTIONS.get(name) != len(arguments) or not is_plain or any(argument["name"] for argument in arguments):
            raise _refused(f"expression calls {name}, or calls it with other arguments than it takes", self._subject)
        return f"{name}({', '.join(self.write(argument['expression']) for argument in arguments)})"
