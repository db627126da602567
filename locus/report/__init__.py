"""The similarity report: one HTML page that works offline, for people who look before they query.

Belongs here: what the page says and how it looks. Does not belong here: where the numbers come from
(`locus.similarity`, the warehouse), when it is made, where it is published.

`data` says what goes in and refuses what can't be shown, `since` what changed, `payload` packs
tables, `cards` what only a model's card shows, `curves` and `layouts` what few models cover and
other views of the map, `figures` describes the two large Plotly figures, `page` puts it all
together. What comes in is hostile text.
"""

from locus.report.data import FRAMES, ReportData
from locus.report.page import render, write
from locus.report.since import Since
from locus.report.tidy import ReportDataError

__all__ = ["FRAMES", "ReportData", "ReportDataError", "Since", "render", "write"]
