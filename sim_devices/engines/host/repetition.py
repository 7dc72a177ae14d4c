"""Passes of a loop that repeat the one before, left out in one step.

A search for a herald plays some dozen windows in which nothing happens, each after the same pulses. After one
such pass the engine asks the run's source how many more will be the same, and moves cursor, counter and the
kernel's variables on by as many; the next pass that is played is the one with an outcome.

Which loops are such is read from the source (`run_loop`): the body may set the cursor to the last run's end
and a constant, pulse outputs, run the entangler once, and count. That a pass has moved cursor, counter and
end by the same number of coarse cycles is checked once it has been played (`passes_ahead`): the next one can
then differ by its outcome only. Where events are traced, all passes are played.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NamedTuple

from artiq.language import core as language

from sim_devices.engines.host.timeline import Timeline

_COARSE_MU = 8


def passes_ahead(
    timeline: Timeline, runner: Any, outputs: list[Any], before: tuple[int, int, int], end: int
) -> int:
    """How many passes will repeat the last one, which began with (cursor, counter, end of the last run)
    `before`; 0 where that is not known."""
    period = end - before[2]
    steady = timeline.now - before[0] == timeline.cpu - before[1] == period and period % _COARSE_MU == 0
    if not steady or timeline.trace is not None:
        return 0
    number: int = runner.dark_runs_ahead({output.key for output in outputs})
    return number


def skip_passes(timeline: Timeline, runner: Any, num: int, before: tuple[int, int, int], end: int) -> int:
    """Let `num` such passes have been played; returns the end of their last run."""
    lasting = num * (end - before[2])
    timeline.now += lasting
    timeline.cpu += lasting
    runner.skip_dark_runs(num)
    return end + lasting


class RunLoop(NamedTuple):
    """A loop of runs: variables with end and reason of the last run, variables that count and their steps,
    the device that runs, the outputs that are pulsed, and the condition to go on."""

    end: str
    reason: str
    counters: dict[str, int]
    runner: str
    outputs: list[str]
    test: str

    def skipping(self, timeline: str, ahead: str, skip: str) -> tuple[list[ast.stmt], list[ast.stmt]]:
        """Statements to come before the body and after it, with the names of the timeline, `passes_ahead` and
        `skip_passes`."""
        count = (
            "\n        ".join(f"{name} += {step} * _num_" for name, step in self.counters.items()) or "pass"
        )
        count_back = "; ".join(["_num_ -= 1", *(f"{name} -= {step}" for name, step in self.counters.items())])
        before = f"_before_, _reason_ = ({timeline}.now, {timeline}.cpu, {self.end}), {self.reason}"
        after = f"""
if {self.reason} == _reason_:
    _num_ = {ahead}({timeline}, {self.runner}, [{", ".join(self.outputs)}], _before_, {self.end})
    if _num_:
        {count}
        while _num_ and not ({self.test}):
            {count_back}
        {self.end} = {skip}({timeline}, {self.runner}, _num_, _before_, {self.end})
"""
        return ast.parse(before).body, ast.parse(after).body


def run_loop(node: ast.While, resolve: Callable[[ast.AST], Any]) -> RunLoop | None:
    """The loop, if passes of it may be left out; `resolve` gives the object that a name means."""
    body = _Body(resolve)
    if node.orelse or not all(body.takes(statement) for statement in node.body) or body.run is None:
        return None
    end, reason, runner = body.run
    if not body.starts <= {end} or body.constants & {end, reason, *body.counters} or end in body.counters:
        return None
    tested = _tested(node.test)
    if tested is None or end in tested:
        return None
    outputs = [ast.unparse(output) for output in body.outputs]
    return RunLoop(end, reason, body.counters, ast.unparse(runner), outputs, ast.unparse(node.test))


def _names(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _tested(test: ast.expr) -> set[str] | None:
    """Names in a condition that holds between two values of a counter if it holds at both; else None."""
    comparisons = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    for comparison in comparisons:
        if not isinstance(comparison, ast.Compare) or not all(
            isinstance(operator, ast.Eq | ast.Lt | ast.LtE | ast.Gt | ast.GtE) for operator in comparison.ops
        ):
            return None
        if not all(_is_plain(operand) for operand in (comparison.left, *comparison.comparators)):
            return None
    return _names(test)


def _is_plain(node: ast.expr) -> bool:
    """A constant, a name, or an attribute of one."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name | ast.Constant)


class _Body:
    """What the statements of a loop's body do."""

    def __init__(self, resolve: Callable[[ast.AST], Any]) -> None:
        self._resolve = resolve
        self.run: tuple[str, str, ast.expr] | None = None
        self.outputs: list[ast.expr] = []
        self.counters: dict[str, int] = {}
        self.starts: set[str] = set()  # names to whose values the cursor is set
        self.constants: set[str] = set()  # names that no pass may change

    def takes(self, statement: ast.stmt) -> bool:
        """Note what a statement does; False if it may do anything else."""
        match statement:
            case ast.With(items=[ast.withitem(context_expr=manager)], body=children):
                blocks = (language.parallel, language.interleave, language.sequential)
                return self._resolve(manager) in blocks and all(self.takes(child) for child in children)
            case ast.AugAssign(ast.Name(name), ast.Add() | ast.Sub() as sign, ast.Constant(int(step))):
                step = step if isinstance(sign, ast.Add) else -step
                self.counters[name] = self.counters.get(name, 0) + step
                return True
            case ast.Assign(
                [ast.Tuple([ast.Name(end), ast.Name(reason)])],
                ast.Call(ast.Attribute(device, "run_mu"), [duration], []),
            ):
                known, self.run = self.run is not None, (end, reason, device)
                return not known and end != reason and self._is_constant(device, duration)
            case ast.Expr(ast.Call(ast.Attribute(device, "pulse_mu"), [duration], [])):
                self.outputs.append(device)
                return self._is_constant(device, duration)
            case ast.Expr(ast.Call(function, [time], [])):
                if self._resolve(function) is language.delay_mu:
                    return self._is_constant(time)
                return self._resolve(function) is language.at_mu and self._is_start(time)
        return False

    def _is_start(self, time: ast.expr) -> bool:
        """`name + constant`."""
        match time:
            case ast.BinOp(ast.Name(name), ast.Add(), delay):
                self.starts.add(name)
                return self._is_constant(delay)
        return False

    def _is_constant(self, *nodes: ast.expr) -> bool:
        for node in nodes:
            self.constants |= _names(node)
        return all(_is_plain(node) for node in nodes)
