"""What people decide with a published map; one module a question, each a function of the map.

Belongs here: glue from a snapshot's numbers to a table or a verdict that a person can read. Does
not belong here: the methods themselves (`locus.routing`, `locus.portfolio`, `locus.proxies`,
`locus.profiles`, `locus.fingerprint`, `locus.similarity`), reading files, printing.
"""

from locus.decisions.published import DecisionError, PublishedMap

__all__ = ["DecisionError", "PublishedMap"]
