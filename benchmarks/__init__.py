"""Measurements of speed and memory: each module is one benchmark, run by ``make bench NAME=...``.

Every benchmark prints its figures as a table and ends with the same figures as one JSON line.
Figures are ratios against a reference measured side by side, or medians, since machines are shared
and noisy.
"""
