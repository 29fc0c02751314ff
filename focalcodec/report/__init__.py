"""The report: one HTML page, on its own, from the folder of an evaluation run."""

from __future__ import annotations

from focalcodec.report.page import write_report

__all__ = ["write_report"]
