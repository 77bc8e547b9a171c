"""Where items are computed: executors, evaluators on Ray, and what they report."""
