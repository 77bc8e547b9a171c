"""Pictures and the HTML report of a run."""

from raystill.platform.report.page import save_before, write_report

__all__ = ["save_before", "write_report"]
