"""Checks a cluster file of Ray's launcher offline, before it costs anything."""
