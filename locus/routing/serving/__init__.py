"""Routing as a service: what follows the published folder, and the HTTP application over it.

Belongs here: everything between an HTTP request (or a gateway's hook) and `locus.routing.router`.
Does not belong here: how a model is chosen.
"""
