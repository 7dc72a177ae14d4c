"""The report of a run: one self-contained page for the laboratory notebook, or one for everybody.

`run_directory` finds a run's files, `facts` takes from them what a report may contain, `publication` removes
what must stay in the laboratory, `figures` draws, `page` writes the HTML, `printing` makes a PDF of it.
Settings, outcomes and key bits end in `facts`: nothing behind it ever sees them.

>>> from pathlib import Path
>>> write_report(Path("run/demo"), public=True)  # doctest: +SKIP
{'report': 'run/demo/report-public.html', ...}
>>> from diqkd_postproc.report.markup import element
>>> element("td", "S < 2").html
'<td>S &lt; 2</td>'
"""

from diqkd_postproc.report.facts import RunFacts, collect_facts
from diqkd_postproc.report.page import render_page
from diqkd_postproc.report.publication import for_publication
from diqkd_postproc.report.writing import write_report

__all__ = ["RunFacts", "collect_facts", "for_publication", "render_page", "write_report"]
