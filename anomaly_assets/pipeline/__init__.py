"""Moves entities forward in time: load, run a tier, store results and state in one transaction.

Assets and command line all go through here, so that one window gives the same rows whichever way it
comes.
"""
