"""Exports of phones and trackers, converted into files that ingestion takes in."""
