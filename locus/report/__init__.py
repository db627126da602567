"""The similarity report: one HTML page that works offline, for people who look before they query.

Belongs here: what the page says and how it looks. Does not belong here: where the numbers come from
(`locus.similarity`, the warehouse), when it is made, where it is published.

`data` says what goes in and refuses what can't be shown, `payload` packs tables, `figures`
describes the two Plotly figures, `page` puts it all together. What comes in is hostile text.
"""

from locus.report.data import FRAMES, ReportData, ReportDataError
from locus.report.page import render, write

__all__ = ["FRAMES", "ReportData", "ReportDataError", "render", "write"]
