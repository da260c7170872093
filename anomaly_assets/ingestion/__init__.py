"""Readings from files: formats, the gate that refuses bad readings, and resumable ingestion."""
