"""Simulation of a migen module compiled to Python, about a hundred times as fast as migen's own.

Takes the fragment that migen's simulator executes, after its lowering, and writes every statement once as
Python source: combinatorial groups in the order of their dependences, then all clock domains, which tick
together. The semantics are those of `migen.sim.core.Evaluator`; tests replay a part of their stimuli in
migen's own simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from migen.fhdl.bitcontainer import value_bits_sign
from migen.fhdl.structure import (
    Case,
    Cat,
    Constant,
    If,
    Signal,
    _ArrayProxy,
    _Assign,
    _Operator,
    _Slice,
)
from migen.fhdl.tools import group_by_targets, list_inputs, list_targets
from migen.sim.core import Simulator

_INFIX = {"<<<": "<<", ">>>": ">>"}


class CompiledGateware:
    """State of a migen module: `values[self.slot(signal)]` is a signal's value in the cycle under way."""

    def __init__(self, module: Any, clocks: dict[str, int]) -> None:
        self._slots: dict[Signal, int] = {}
        self.values: list[int] = []
        fragment = Simulator(module, [], clocks=clocks).fragment
        groups = _ordered([statements for _, statements in group_by_targets(fragment.comb)])
        self.settle = self._function([line for group in groups for line in self._block(group, "v", "v")])
        clocked = [statement for domain in clocks for statement in fragment.sync.get(domain, [])]
        body = ["v = list(n)", *self._block(clocked, "v", "n")]
        self._clock = self._function(body, argument="n")
        self.settle(self.values)

    def slot(self, signal: Any) -> int:
        """Index of a signal in `values`."""
        if signal not in self._slots:
            assert not signal.signed
            self._slots[signal] = len(self.values)
            self.values.append(signal.reset.value)
        return self._slots[signal]

    def tick(self) -> None:
        """End of the cycle under way: a rising edge of all clocks, and the signals settle."""
        self._clock(self.values)
        self.settle(self.values)

    def _function(self, body: list[str], argument: str = "v") -> Callable[[list[int]], None]:
        source = "\n".join([f"def function({argument}):", *("    " + line for line in body), "    return"])
        names: dict[str, Any] = {}
        exec(compile(source, "<gateware>", "exec"), names)
        function: Callable[[list[int]], None] = names["function"]
        return function

    def _block(self, statements: Iterable[Any], old: str, new: str) -> list[str]:
        return list(self._statements(statements, old, new)) or ["pass"]

    def _statements(self, statements: Iterable[Any], old: str, new: str) -> Iterator[str]:
        for statement in statements:
            if isinstance(statement, _Assign):
                yield from self._assign(statement.l, self._value(statement.r, old), old, new)
            elif isinstance(statement, If):
                mask = (1 << len(statement.cond)) - 1
                yield f"if {self._value(statement.cond, old)} & {mask}:"
                yield from ("    " + line for line in self._block(statement.t, old, new))
                yield "else:"
                yield from ("    " + line for line in self._block(statement.f, old, new))
            elif isinstance(statement, Case):
                bits, signed = value_bits_sign(statement.test)
                assert not signed
                yield f"c = {self._value(statement.test, old)} & {(1 << bits) - 1}"
                word = "if"
                for key, branch in statement.cases.items():
                    if isinstance(key, Constant):
                        yield f"{word} c == {key.value}:"
                        yield from ("    " + line for line in self._block(branch, old, new))
                        word = "elif"
                if "default" in statement.cases:
                    yield "else:" if word == "elif" else "if True:"
                    yield from ("    " + line for line in self._block(statement.cases["default"], old, new))
            else:
                yield from self._statements(statement, old, new)

    def _assign(self, target: Any, value: str, old: str, new: str) -> Iterator[str]:
        if isinstance(target, Signal):
            yield f"{new}[{self.slot(target)}] = ({value}) & {(1 << len(target)) - 1}"
        elif isinstance(target, _Slice):
            mask = (1 << target.stop - target.start) - 1
            whole = self._value(target.value, new)
            inserted = f"(({whole}) & ~{mask << target.start} | (({value}) & {mask}) << {target.start})"
            yield from self._assign(target.value, inserted, old, new)
        elif isinstance(target, Cat):
            yield f"t = {value}"
            shift = 0
            for element in target.l:
                yield from self._assign(element, f"(t >> {shift})", old, new)
                shift += len(element)
        elif isinstance(target, _ArrayProxy):
            yield f"a = {value}"
            yield f"k = {self._value(target.key, old)}"
            for index, choice in enumerate(target.choices):
                last = index == len(target.choices) - 1
                yield f"if k {'>=' if last else '=='} {index}:"
                yield from ("    " + line for line in self._assign(choice, "a", old, new))
        else:
            raise NotImplementedError(target)

    def _value(self, node: Any, old: str) -> str:
        if isinstance(node, Constant):
            return repr(node.value)
        if isinstance(node, Signal):
            return f"{old}[{self.slot(node)}]"
        if isinstance(node, _Operator):
            operands = [self._value(operand, old) for operand in node.operands]
            if node.op == "m":
                return f"({operands[1]} if {operands[0]} else {operands[2]})"
            operator = _INFIX.get(node.op, node.op)
            if len(operands) == 1:
                return f"({operator}{operands[0]})"
            return f"({operands[0]} {operator} {operands[1]})"
        if isinstance(node, _Slice):
            return f"({self._value(node.value, old)} >> {node.start} & {(1 << node.stop - node.start) - 1})"
        if isinstance(node, Cat):
            parts, shift = [], 0
            for element in node.l:
                parts.append(f"({self._value(element, old)} & {(1 << len(element)) - 1}) << {shift}")
                shift += len(element)
            return f"({' | '.join(parts)})"
        if isinstance(node, _ArrayProxy):
            choices = ", ".join(self._value(choice, old) for choice in node.choices)
            return f"({choices},)[min({len(node.choices) - 1}, {self._value(node.key, old)})]"
        raise NotImplementedError(node)


def _ordered(groups: list[Any]) -> list[Any]:
    """Combinatorial groups, each behind those that drive what it reads."""
    driver: dict[Any, int] = {}
    for index, group in enumerate(groups):
        for target in list_targets(group):
            driver[target] = index
    ordered: list[Any] = []
    state = [0] * len(groups)

    def visit(index: int) -> None:
        assert state[index] != 1, "combinatorial loop"
        if state[index]:
            return
        state[index] = 1
        for signal in list_inputs(groups[index]):
            if signal in driver and driver[signal] != index:
                visit(driver[signal])
        state[index] = 2
        ordered.append(groups[index])

    for index in range(len(groups)):
        visit(index)
    return ordered
