"""Report of an evaluation: one HTML page, without other files, from the folder of a run."""

from __future__ import annotations

from focalcodec.report.page import write_report

__all__ = ["write_report"]
