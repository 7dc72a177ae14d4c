"""Transformation of a kernel's source into a host function on a timeline.

Statements of the kernel language become attribute accesses on the timeline:

    delay_mu(d)     ->  timeline.now = d + timeline.now
    at_mu(t)        ->  timeline.now = t
    now_mu()        ->  timeline.now
    with parallel   ->  the cursor goes back to the start of the block before each direct child statement,
                        and to the latest end after the last one; a compound child (if, for, while, with)
                        is one statement, and what is inside it is sequential
    with sequential ->  its statements

A loop that only pulses outputs and runs the entangler may leave out passes in which nothing happens
(`repetition`).

`delay` rounds to machine units as the compiler does (and `Core.seconds_to_mu` does not). `int32(x)` and
`int64(x)` become Python ints (`int32` wraps around), since numpy scalars would slow the timeline down by an
order of magnitude. All other arithmetic is Python's: 32-bit overflow of kernels is not reproduced here.

A function is compiled once with its own file name and line numbers, so tracebacks and breakpoints are right.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import threading
from collections.abc import Callable
from operator import index
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy
from artiq.language import core as language

from sim_devices.engines.host.repetition import passes_ahead, run_loop, skip_passes
from sim_devices.engines.host.timeline import Timeline

_TIMELINE, _INDEX, _ROUND, _INT, _WRAP = "_timeline_", "_index_", "_round_", "_int_", "_wrap_"
_AHEAD, _SKIP = "_ahead_", "_skip_"
_MISSING = object()
_PRELUDE = {"int32": numpy.int32, "int64": numpy.int64}
"""Names that the compiler knows without an import."""


def _wrap_int32(value: Any = 0) -> int:
    return ((int(value) + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _now(context: ast.expr_context) -> ast.Attribute:
    return ast.Attribute(_load(_TIMELINE), "now", context)


class _Rewriter(ast.NodeTransformer):
    """Rewrites the body of one kernel; names are resolved as the function itself would resolve them."""

    def __init__(self, function: FunctionType, ref_period: float) -> None:
        code = function.__code__
        self.locals = set(code.co_varnames) | set(code.co_cellvars)
        self.names = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
        self.ref_period = ref_period
        owner = function.__qualname__.rpartition(".")[0].rpartition(".")[2].lstrip("_")
        self.owner = owner if owner != "<locals>" else ""
        self.num_blocks = 0

    def resolve(self, node: ast.AST) -> Any:
        """The object that a name or a dotted name means at compile time, or `_MISSING`."""
        if isinstance(node, ast.Name) and node.id not in self.locals:
            if node.id in self.names:
                return self.names[node.id]
            return _PRELUDE.get(node.id) or getattr(builtins, node.id, _MISSING)
        if isinstance(node, ast.Attribute):
            module = self.resolve(node.value)
            if isinstance(module, ModuleType):
                return getattr(module, node.attr, _MISSING)
        return _MISSING

    def constant(self, node: ast.expr) -> Any:
        """The value of an expression of numbers and units, or None."""
        value: Any
        if isinstance(node, ast.Constant):
            value = node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            value = self.resolve(node)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            left, right = self.constant(node.left), self.constant(node.right)
            if left is None or right is None:
                return None
            expression = ast.Expression(ast.BinOp(ast.Constant(left), node.op, ast.Constant(right)))
            value = eval(compile(ast.fix_missing_locations(expression), "<constant>", "eval"))
        else:
            return None
        return value if type(value) in (int, float) else None

    def mangled(self, name: str) -> str:
        if self.owner and name.startswith("__") and not name.endswith("__"):
            return f"_{self.owner}{name}"
        return name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.mangled(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = self.mangled(node.attr)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if not (isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords):
            return self.generic_visit(node)
        primitive = self.resolve(call.func)
        if primitive not in (language.delay_mu, language.delay, language.at_mu):
            return self.generic_visit(node)
        value = self.machine_units(call.args[0], in_seconds=primitive is language.delay)
        if primitive is not language.at_mu:
            # the argument first: it may move the cursor itself
            value = ast.BinOp(value, ast.Add(), _now(ast.Load()))
        return ast.copy_location(ast.Assign([_now(ast.Store())], value), node)

    def machine_units(self, argument: ast.expr, in_seconds: bool) -> ast.expr:
        value = self.constant(argument)
        if in_seconds:
            if value is not None:
                return ast.Constant(round(value / self.ref_period))
            quotient = ast.BinOp(self.visit(argument), ast.Div(), ast.Constant(self.ref_period))
            return ast.Call(_load(_ROUND), [quotient], [])
        if type(value) is int:
            return ast.Constant(value)
        visited = self.visit(argument)
        if isinstance(visited, ast.Attribute) and visited.attr == "now":
            return visited
        return ast.Call(_load(_INDEX), [visited], [])

    def visit_Call(self, node: ast.Call) -> ast.AST:
        target = self.resolve(node.func)
        self.generic_visit(node)
        if target is language.now_mu:
            return ast.copy_location(_now(ast.Load()), node)
        if target is numpy.int64:
            node.func = ast.copy_location(_load(_INT), node)
        elif target is numpy.int32:
            node.func = ast.copy_location(_load(_WRAP), node)
        return node

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.AST]:
        manager = self.resolve(node.items[0].context_expr) if len(node.items) == 1 else _MISSING
        if manager is language.sequential:
            return self.statements(node.body)
        if manager is not language.parallel and manager is not language.interleave:
            return self.generic_visit(node)
        self.num_blocks += 1
        start, end = f"_start_{self.num_blocks}_", f"_end_{self.num_blocks}_"
        both: list[ast.expr] = [ast.Name(start, ast.Store()), ast.Name(end, ast.Store())]
        block: list[ast.AST] = [ast.Assign(both, _now(ast.Load()))]
        for position, child in enumerate(node.body):
            if position:
                block.append(ast.Assign([_now(ast.Store())], _load(start)))
            block += self.statements([child])
            longer = ast.Compare(_now(ast.Load()), [ast.Gt()], [_load(end)])
            extend = ast.Assign([ast.Name(end, ast.Store())], _now(ast.Load()))
            block.append(ast.If(longer, [extend], []))
        block.append(ast.Assign([_now(ast.Store())], _load(end)))
        for statement in block:
            if not hasattr(statement, "lineno"):
                ast.copy_location(statement, node)
        return block

    def visit_While(self, node: ast.While) -> ast.AST:
        loop = run_loop(node, self.resolve)
        self.generic_visit(node)
        if loop is not None:
            before, after = loop.skipping(_TIMELINE, _AHEAD, _SKIP)
            for part in (part for statement in (*before, *after) for part in ast.walk(statement)):
                ast.copy_location(part, node)
            node.body = [*before, *node.body, *after]
        return node

    def statements(self, body: list[ast.stmt]) -> list[ast.AST]:
        result: list[ast.AST] = []
        for statement in body:
            visited = self.visit(statement)
            result += visited if isinstance(visited, list) else [visited]
        return result


def _definition(function: FunctionType) -> ast.FunctionDef:
    """The function's definition, every node at its place in the file."""
    try:
        lines, first_line = inspect.getsourcelines(function)
    except OSError as error:
        raise ValueError(f"kernel {function.__qualname__}: its source is not available") from error
    source = "".join(lines)
    # a wrapper instead of a dedent: columns and multi-line strings stay as they are
    if source[:1].isspace():
        tree = ast.parse("if 1:\n" + source)
        ast.increment_lineno(tree, first_line - 2)
        definition = tree.body[0].body[0]  # type: ignore[attr-defined]
    else:
        tree = ast.parse(source)
        ast.increment_lineno(tree, first_line - 1)
        definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise ValueError(f"kernel {function.__qualname__} is not an ordinary function")
    return definition


# Python 3.11 counts the depth of a syntax tree in one variable for all threads, and gives a SystemError where
# two compile at once, as the nodes of a test do.
_COMPILING = threading.Lock()


@functools.cache
def translated(function: FunctionType, ref_period: float) -> CodeType:
    """Code defining `factory(timeline, ..., free variables) -> function`."""
    with _COMPILING:
        return _translate(function, ref_period)


def _translate(function: FunctionType, ref_period: float) -> CodeType:
    definition = _definition(function)
    rewriter = _Rewriter(function, ref_period)
    definition.decorator_list = []
    definition.returns = None
    arguments = definition.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [None if node is None else ast.Constant(None) for node in arguments.kw_defaults]
    definition.body = rewriter.statements(definition.body)  # type: ignore[assignment]
    parameters = [_TIMELINE, _INDEX, _ROUND, _INT, _WRAP, _AHEAD, _SKIP, *function.__code__.co_freevars]
    module = ast.parse(f"def _factory_({', '.join(parameters)}):\n    return {definition.name}")
    factory = module.body[0]
    assert isinstance(factory, ast.FunctionDef)
    for node in ast.walk(factory):
        ast.copy_location(node, definition)
    factory.body.insert(0, definition)
    return compile(ast.fix_missing_locations(module), function.__code__.co_filename, "exec")


def on_timeline(function: FunctionType, timeline: Timeline) -> Callable[..., Any]:
    """The host function that does on `timeline` what the kernel `function` says."""
    scope: dict[str, Any] = {}
    exec(translated(function, timeline.ref_period), function.__globals__, scope)
    free = [cell.cell_contents for cell in function.__closure__ or ()]
    transformed: Any = scope["_factory_"](
        timeline, index, round, int, _wrap_int32, passes_ahead, skip_passes, *free
    )
    transformed.__defaults__ = function.__defaults__
    transformed.__kwdefaults__ = function.__kwdefaults__
    transformed.__qualname__ = function.__qualname__
    transformed.__doc__ = function.__doc__
    result: Callable[..., Any] = transformed
    return result
