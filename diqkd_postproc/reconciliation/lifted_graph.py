"""Kernels that grow and inspect the Tanner graph of a quasi-cyclic code.

A quasi-cyclic parity-check matrix is a small base matrix whose ones stand for cyclically shifted identity
matrices of size Z ("lifting"). Edge (row r, column c, shift s) joins check r Z + z with variable
c Z + (z + s mod Z), for every z in [0, Z). All statements about variable c Z + 0 hold for its Z copies, so a
search from one variable a column suffices.

The graph grows edge by edge (progressive edge growth: Hu, Eleftheriou, Arnold, IEEE TIT 51, 386 (2005)):
before an edge is placed, a breadth-first search from the column's variable marks the checks that are near,
and the edge goes to a check outside, or to the farthest. Rows fill evenly, so check degrees differ by at most
one. Columns of degree two come first, when the graph consists of nothing else: the search then keeps cycles
of that subgraph, whose columns are codewords, as long as it can.

Next come columns of degree three. Two of them joined by three paths of columns of degree two are a codeword
as well, and one on a cycle of such columns traps the decoder. Both are cycles with at most two columns of
degree three, which a second search finds (`mark_weak_checks`); of the places that are far in the whole
graph the one that leaves such cycles longest is taken. This is the criterion of approximate cycle extrinsic
degree (Tian, Jones, Villasenor, Wesel, IEEE TCOM 52, 1242 (2004)), whose excess a cycle of such columns has
as many units of as it has columns of degree three.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from diqkd_postproc.reconciliation.splitmix import below

_GRAPH = (
    "Tuple((int32[:, ::1], int32[:, ::1], int32[::1], int32[:, ::1], int32[:, ::1], int32[::1], int64[::1]))"
)
"""Graph: rows, shifts, degree of each column; columns, shifts, degree of each row; checks of each row."""


@nb.njit(
    f"int64({_GRAPH}, int64, int64, int64, int64[::1], int64[::1], int64[::1], int64)",
    cache=True,
    nogil=True,
)
def mark_near_checks(graph, column, budget, depth_limit, check_mark, variable_mark, check_queue, tag):  # type: ignore[no-untyped-def]
    """Breadth-first search from variable (column, 0); returns the depth that it reached.

    A check first met after d columns (the start included) gets `check_mark = tag + d`. Marks of earlier
    searches are below `tag`. The search ends when it has looked along `budget` edges, after `depth_limit`
    columns, or when the component is exhausted.
    """
    column_rows, column_shifts, column_degree, row_columns, row_shifts, row_degree, row_size = graph
    lifting = row_size[0]
    work = 0
    tail = 0
    variable_mark[column * lifting] = tag
    for k in range(column_degree[column]):
        row = column_rows[column, k]
        check = row * lifting + (lifting - column_shifts[column, k]) % lifting
        check_mark[check] = tag + 1
        check_queue[tail] = check
        tail += 1
    head = 0
    depth = 1
    while depth < depth_limit:
        level_end = tail
        if head == level_end:
            return depth
        while head < level_end:
            check = check_queue[head]
            head += 1
            row = check // lifting
            z = check - row * lifting
            if z >= row_size[row]:
                continue
            if work > budget:
                return depth
            work += row_degree[row]
            for j in range(row_degree[row]):
                other = row_columns[row, j]
                v = z + row_shifts[row, j]
                if v >= lifting:
                    v -= lifting
                if variable_mark[other * lifting + v] >= tag:
                    continue
                variable_mark[other * lifting + v] = tag
                work += column_degree[other]
                for k in range(column_degree[other]):
                    next_row = column_rows[other, k]
                    next_z = v - column_shifts[other, k]
                    if next_z < 0:
                        next_z += lifting
                    next_check = next_row * lifting + next_z
                    if check_mark[next_check] < tag:
                        check_mark[next_check] = tag + depth + 1
                        check_queue[tail] = next_check
                        tail += 1
        depth += 1
    return depth


@nb.njit(f"void({_GRAPH}, int64, int64, int64, int64[:, ::1], int64[::1], int64)", cache=True, nogil=True)
def mark_weak_checks(graph, column, budget, depth_limit, check_mark, queue, tag):  # type: ignore[no-untyped-def]
    """As `mark_near_checks`, along paths with at most one column of degree above two behind `column`.

    check_mark: (2, checks), `tag + d` in row k for a check first met after d columns with k such columns;
    queue: (2 checks + 1,) scratch.
    """
    column_rows, column_shifts, column_degree, row_columns, row_shifts, row_degree, row_size = graph
    lifting = row_size[0]
    num_checks = row_degree.size * lifting
    work = 0
    tail = 0
    for k in range(column_degree[column]):
        row = column_rows[column, k]
        check = row * lifting + (lifting - column_shifts[column, k]) % lifting
        check_mark[0, check] = tag + 1
        queue[tail] = check
        tail += 1
    head = 0
    while head < tail and work < budget:
        strong = queue[head] // num_checks
        check = queue[head] - strong * num_checks
        head += 1
        depth = check_mark[strong, check] - tag
        row = check // lifting
        z = check - row * lifting
        if depth >= depth_limit or z >= row_size[row]:
            continue
        work += row_degree[row]
        for j in range(row_degree[row]):
            other = row_columns[row, j]
            next_strong = strong + (column_degree[other] > 2)
            if next_strong > 1:
                continue
            v = z + row_shifts[row, j]
            if v >= lifting:
                v -= lifting
            for k in range(column_degree[other]):
                next_z = v - column_shifts[other, k]
                if next_z < 0:
                    next_z += lifting
                next_check = column_rows[other, k] * lifting + next_z
                if check_mark[next_strong, next_check] < tag and check_mark[0, next_check] < tag:
                    check_mark[next_strong, next_check] = tag + depth + 1
                    queue[tail] = next_strong * num_checks + next_check
                    tail += 1


@nb.njit(
    f"void(int32[::1], int32[::1], int64, int64, int64, int64, uint64[::1], {_GRAPH})", cache=True, nogil=True
)
def grow(column_order, target_degree, first_row, num_rows, budget, weak_budget, state, graph):  # type: ignore[no-untyped-def]
    """Place the edges of `column_order` up to `target_degree`, on rows [first_row, first_row + num_rows).

    Fills the adjacency arrays in place: rows and shifts of each column, columns and shifts of each row.
    `row_size`: checks of a row that exist (Z, or fewer for a partial last row).
    """
    column_rows, column_shifts, column_degree, row_columns, row_shifts, row_degree, row_size = graph
    tries = 64
    weak_limit = 14
    lifting = row_size[0]
    check_mark = np.full(row_degree.size * lifting, -1, dtype=np.int64)
    variable_mark = np.full(column_degree.size * lifting, -1, dtype=np.int64)
    check_queue = np.empty(row_degree.size * lifting + 1, dtype=np.int64)
    weak_mark = np.full((2, row_degree.size * lifting), -1, dtype=np.int64)
    weak_queue = np.empty(2 * row_degree.size * lifting + 1, dtype=np.int64)
    pool = np.empty(num_rows, dtype=np.int64)
    depth_limit = 64
    tag = 0
    for column in column_order:
        while column_degree[column] < target_degree[column]:
            lowest = row_columns.shape[1]
            pool_size = 0
            for row in range(first_row, first_row + num_rows):
                if row_degree[row] > lowest:
                    continue
                used = False
                for k in range(column_degree[column]):
                    if column_rows[column, k] == row:
                        used = True
                if used:
                    continue
                if row_degree[row] < lowest:
                    lowest = row_degree[row]
                    pool_size = 0
                pool[pool_size] = row
                pool_size += 1
            tag += depth_limit + 2
            mark_near_checks(graph, column, budget, depth_limit, check_mark, variable_mark, check_queue, tag)
            is_weak = target_degree[column] == 3
            if is_weak:
                mark_weak_checks(graph, column, weak_budget, weak_limit, weak_mark, weak_queue, tag)
            best_row = -1
            best_shift = 0
            best_distance = -1
            best_weak_distance = -1
            for _ in range(tries):
                row = pool[below(state, pool_size)]
                shift = below(state, lifting)
                check = row * lifting + (lifting - shift) % lifting
                distance = depth_limit + 1
                if check_mark[check] >= tag:
                    distance = check_mark[check] - tag
                weak_distance = weak_limit + 1
                if is_weak:
                    for k in range(2):
                        if weak_mark[k, check] >= tag:
                            weak_distance = min(weak_distance, weak_mark[k, check] - tag)
                if distance > best_distance or (
                    distance == best_distance and weak_distance > best_weak_distance
                ):
                    best_row = row
                    best_shift = shift
                    best_distance = distance
                    best_weak_distance = weak_distance
                if distance > depth_limit and weak_distance > weak_limit:
                    break
            k = column_degree[column]
            column_rows[column, k] = best_row
            column_shifts[column, k] = best_shift
            column_degree[column] = k + 1
            j = row_degree[best_row]
            row_columns[best_row, j] = column
            row_shifts[best_row, j] = best_shift
            row_degree[best_row] = j + 1


@nb.njit(f"int64(int64, int64, {_GRAPH})", cache=True, nogil=True)
def shortest_cycle(max_degree, max_columns, graph):  # type: ignore[no-untyped-def]
    """Fewest variables on a cycle of the subgraph of columns of at most `max_degree`.

    Exact up to `max_columns`; returns `max_columns + 1` if there is no such cycle. Half the girth.
    """
    column_rows, column_shifts, column_degree, row_columns, row_shifts, row_degree, row_size = graph
    lifting = row_size[0]
    check_root = np.full(row_degree.size * lifting, -1, dtype=np.int64)
    check_depth = np.zeros(row_degree.size * lifting, dtype=np.int64)
    check_branch = np.zeros(row_degree.size * lifting, dtype=np.int64)
    check_parent = np.zeros(row_degree.size * lifting, dtype=np.int64)
    queue = np.empty(row_degree.size * lifting + 1, dtype=np.int64)
    best = max_columns + 1
    for column in range(column_degree.size):
        if column_degree[column] > max_degree:
            continue
        tail = 0
        for k in range(column_degree[column]):
            check = column_rows[column, k] * lifting + (lifting - column_shifts[column, k]) % lifting
            check_root[check] = column
            check_depth[check] = 1
            check_branch[check] = k
            check_parent[check] = column * lifting
            queue[tail] = check
            tail += 1
        head = 0
        while head < tail:
            check = queue[head]
            head += 1
            if 2 * check_depth[check] >= best:
                break
            row = check // lifting
            z = check - row * lifting
            if z >= row_size[row]:
                continue
            for j in range(row_degree[row]):
                other = row_columns[row, j]
                variable = other * lifting + (z + row_shifts[row, j]) % lifting
                if column_degree[other] > max_degree or variable == check_parent[check]:
                    continue
                for k in range(column_degree[other]):
                    next_row = column_rows[other, k]
                    next_z = (variable - other * lifting - column_shifts[other, k]) % lifting
                    next_check = next_row * lifting + next_z
                    if next_check == check or next_z >= row_size[next_row]:
                        continue
                    if check_root[next_check] != column:
                        check_root[next_check] = column
                        check_depth[next_check] = check_depth[check] + 1
                        check_branch[next_check] = check_branch[check]
                        check_parent[next_check] = variable
                        queue[tail] = next_check
                        tail += 1
                    elif check_branch[next_check] != check_branch[check]:
                        # The two search trees meet: root, both paths, and the variable between them.
                        length = check_depth[check] + check_depth[next_check]
                        if length < best:
                            best = length
    return best
