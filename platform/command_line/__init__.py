"""The command line: options as typed specs, and the commands that compute nothing."""
