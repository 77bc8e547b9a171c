"""Executors, which compute work items in this process or on Ray; evaluators; the metrics of a run."""
