"""Key balance sheet as a table for terminals."""

from __future__ import annotations

from rich.table import Table

from diqkd_postproc.protocol.balance_sheet import BalanceSheet


def balance_table(sheet: BalanceSheet) -> Table:
    """The key balance sheet as Table 1 of the paper prints it.

    One row a protocol step: bits consumed, used and generated; then the totals, K0, K1, the net gain and the
    proof. All of it is public.
    """
    table = Table(title="Secret key balance sheet (bits)")
    table.add_column("protocol step")
    for heading in ("consumed", "used (reusable)", "generated"):
        table.add_column(heading, justify="right")
    for row in sheet.rows:
        used = row.note or f"{row.used_reusable:,}"
        table.add_row(row.step, f"{row.consumed:,}", used, f"{row.generated:,}")
    table.add_section()
    table.add_row("total", f"{sheet.consumed:,}", f"{sheet.used_reusable:,}", f"{sheet.generated:,}")
    table.caption = f"K0 {sheet.k0_bits:,} -> K1 {sheet.k1_bits:,}, net gain {sheet.net_gain:,}"
    table.caption += f"\nsecret by the proof {sheet.proof} ({sheet.proof_status})"
    return table
