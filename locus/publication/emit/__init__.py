"""A snapshot in the words of other tools: configurations of routers, files of viewers, a data set.

One small file each. What they write follows from the routing table, the places and the registry's
addresses alone; nothing is measured here.
"""
