"""Pictures and the HTML report of a run."""

from raystill.platform.report.page import write_report

__all__ = ["write_report"]
