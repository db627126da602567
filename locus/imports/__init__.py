"""Readers of evaluation data that others made: score matrices, EmbedLLM, lm-eval logs.

A reader turns a folder into frames of fixed columns and a list of what was wrong with it. It
writes nothing anywhere.
"""
