"""Methods side by side on real score matrices, under equal label budgets, with seeds and spread."""
