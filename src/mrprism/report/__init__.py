"""One self-contained HTML page about runs."""

from mrprism.report.build import build_report

__all__ = ["build_report"]
