"""Measures of detection quality, none of them point-adjusted.

Unknown scores (NaN) rank below every known one: a window nobody could score is never an alarm.
"""

from __future__ import annotations
