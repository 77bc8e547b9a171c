"""Reports: self-contained HTML pages on runs."""

from raystill.platform.report.distillation import save_before, write_report

__all__ = ["save_before", "write_report"]
