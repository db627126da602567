"""Logs out: what the warehouse knows, in the formats of others.

Here belong the formats: frames in, files out. What is read and where files go is a task's business;
the rules are in docs/exports.md. What is not known is left out or null, never made up.
"""
