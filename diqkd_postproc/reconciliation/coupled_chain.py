"""The spatially coupled code of the published run (SI S6 C 2), for comparison.

A protograph of `num_checks` checks and `num_variables` variables, regular of degree d_v, is copied L times
along a chain; the k-th edge of a variable at place t goes to a check at place t + k, so the chain ends in
w = d_v - 1 further places whose checks have few edges, where decoding starts. Lifting by random permutations
gives a graph a little larger than wanted, which is trimmed (SI S6 D): variables of the lowest degree are
dropped, then pairs of checks of the highest degree merged into one with the neighbours of both. Ties are
broken pseudo-randomly. Test rounds are not set apart: the public permutation spreads them over the chain.

The protograph is ours to choose, as the SI names none: the smallest whose syndrome, the overhead (L + w) / L
of the chain's ends included, exceeds the wanted one by at most `MAX_EXCESS`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation import splitmix

MAX_EXCESS = 0.06
MAX_PROTOGRAPH_CHECKS = 8
MIN_LIFTING = 4


class Protograph(NamedTuple):
    """Checks and variables at one place of the chain."""

    num_checks: int
    num_variables: int


class EdgeLists(NamedTuple):
    """Neighbours of check i: edge_column[row_start[i]:row_start[i + 1]], ascending."""

    row_start: NDArray[np.int32]
    edge_column: NDArray[np.int32]


def protograph_for(
    num_rounds: int, syndrome_bits: int, chain_length: int, variable_degree: int
) -> Protograph:
    """The protograph whose chain has a syndrome at least as long as wanted, but hardly longer."""
    stretched = chain_length + variable_degree - 1
    best, best_excess = Protograph(1, 1), np.inf
    for checks in range(1, MAX_PROTOGRAPH_CHECKS + 1):
        variables = checks * stretched * num_rounds // (chain_length * syndrome_bits)
        excess = checks * stretched * num_rounds / (chain_length * syndrome_bits * variables) - 1
        if excess < best_excess:
            best, best_excess = Protograph(checks, variables), excess
        if best_excess <= MAX_EXCESS:
            break
    return best


def grow_chain(
    num_rounds: int, syndrome_bits: int, chain_length: int, variable_degree: int, seed: int
) -> EdgeLists:
    """The trimmed graph, `syndrome_bits` checks on `num_rounds` variables, numbered along the chain.

    Raises ParameterError if the block is too short for the chain.
    """
    protograph = protograph_for(num_rounds, syndrome_bits, chain_length, variable_degree)
    groups = chain_length * protograph.num_variables
    lifting = -(-num_rounds // groups)
    if lifting < MIN_LIFTING:
        raise ParameterError(
            f"num_rounds={num_rounds} is too short for a chain of {chain_length} protographs: it takes "
            f"{(MIN_LIFTING - 1) * groups + 1}; use a design that is not spatially coupled"
        )
    state = splitmix.new_state(seed)
    check = _lifted_edges(protograph, chain_length, variable_degree, lifting, state)
    num_variables, num_checks = groups * lifting, (chain_length + variable_degree - 1) * lifting
    num_checks *= protograph.num_checks

    # All variables have the same degree, so which are the weakest is for chance to say.
    order = np.arange(num_variables, dtype=np.int32)
    splitmix.shuffle(state, order)
    kept = np.sort(order[num_variables - num_rounds :])
    check = check[:, kept]
    merged = _merged_checks(np.bincount(check.ravel(), minlength=num_checks), syndrome_bits, state)
    variable = np.broadcast_to(np.arange(num_rounds, dtype=np.int64), check.shape)
    edges = np.sort((merged[check].astype(np.int64) * num_rounds + variable).ravel())
    edges = edges[np.diff(edges, prepend=-1) > 0]
    rows, columns = np.divmod(edges, num_rounds)
    row_start = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=syndrome_bits))))
    return EdgeLists(row_start.astype(np.int32), columns.astype(np.int32))


def _lifted_edges(
    protograph: Protograph,
    chain_length: int,
    variable_degree: int,
    lifting: int,
    state: NDArray[np.uint64],
) -> NDArray[np.int32]:
    """(d_v, variables) int32: the check at the end of each variable's edges."""
    num_checks, num_variables = protograph
    edges = np.empty((variable_degree, chain_length, num_variables, lifting), dtype=np.int32)
    copies = np.arange(lifting, dtype=np.int32)
    for place in range(chain_length):
        for variable in range(num_variables):
            for k in range(variable_degree):
                permutation = copies.copy()
                splitmix.shuffle(state, permutation)
                kind = (place + k) * num_checks + (variable + k) % num_checks
                edges[k, place, variable] = kind * lifting + permutation
    return edges.reshape(variable_degree, -1)


def _merged_checks(
    degree: NDArray[np.int64], num_wanted: int, state: NDArray[np.uint64]
) -> NDArray[np.int32]:
    """(checks,) int32: new number of every check, after the heaviest are merged in pairs."""
    excess = degree.size - num_wanted
    order = np.arange(degree.size, dtype=np.int32)
    splitmix.shuffle(state, order)
    heaviest = order[np.argsort(-degree[order], kind="stable")[: 2 * excess]]
    splitmix.shuffle(state, heaviest)
    first, second = heaviest[:excess], heaviest[excess:]
    stays = np.ones(degree.size, dtype=bool)
    stays[second] = False
    number = (np.cumsum(stays) - 1).astype(np.int32)
    number[second] = number[first]
    return number
