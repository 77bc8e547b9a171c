"""Clusters: submit a command, follow a run, check a cluster file."""
