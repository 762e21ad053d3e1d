"""One self-contained HTML file of a batch.

from flaude.report import write_report

batch = await executor.run_batch(requests)
await write_report(batch, "report.html", requests=requests)
"""

from flaude.report.data import ReportData, ReportRun
from flaude.report.limits import Limits
from flaude.report.page import render
from flaude.report.reading import report_of, run_of
from flaude.report.writing import write_page, write_report

__all__ = ["Limits", "ReportData", "ReportRun", "render", "report_of", "run_of", "write_page", "write_report"]
