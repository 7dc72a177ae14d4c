"""Monte Carlo campaigns on syndrome codes: the failure rate of a design on a channel.

Collecting, combining and plotting are separate steps, after sinter (Gidney, github.com/quantumlib/Stim): a
task is named by a hash of all that decides its statistics, results are rows that are only ever appended, and
a restarted collection goes on with what the file has.
"""

from diqkd_postproc.reconciliation.code_design.collection import collect
from diqkd_postproc.reconciliation.code_design.results import Statistics, combine, read_results
from diqkd_postproc.reconciliation.code_design.task import FrameTask

__all__ = ["FrameTask", "Statistics", "collect", "combine", "read_results"]
