"""Real evaluation through lm-eval: what to ask, a worker process per model, its answers as parts.

lm-eval and torch are imported by the worker process alone; this package's other modules stay
light.
"""
