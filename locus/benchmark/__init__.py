"""Methods side by side on real score matrices, under equal label budgets, with seeds and spread.

Measuring (`protocols`, `methods`, `measure`, `store`) runs a method and keeps what it said, whole.
Everything in tables and figures (`metrics`, `bootstrap`, `efficiency`, `geometry`, `stability`,
`fallback`, `portfolios`, `page`, `figures`) is computed from what is kept, so that a new measure
asks no method again. `run` puts the two together; `data` and `readers` read what is measured on.
"""
