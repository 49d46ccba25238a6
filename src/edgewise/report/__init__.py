"""Reports: one offline HTML page of a run directory, or of a plan with its graph."""

from edgewise.report.load import load_report
from edgewise.report.nouns import Digest, ReportData
from edgewise.report.page import render_report
from edgewise.report.write import write_report

__all__ = ["Digest", "ReportData", "load_report", "render_report", "write_report"]
