"""A cluster file judged offline, before it costs anything."""
