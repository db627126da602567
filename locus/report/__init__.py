"""The similarity report: one HTML page that works offline, for people who look before they query.

Belongs here: what the page says and how it looks. Does not belong here: where the numbers come from
(`locus.similarity`, the warehouse), when it is made, where it is published.

`data` says what goes in and refuses what can't be shown, `since` what changed, `payload` packs
tables, `figures` describes the two Plotly figures, `page` puts it all together. What comes in is
hostile text.
"""

from locus.report.data import FRAMES, ReportData
from locus.report.page import render, write
from locus.report.since import Since
from locus.report.tidy import ReportDataError

__all__ = ["FRAMES", "ReportData", "ReportDataError", "Since", "render", "write"]
