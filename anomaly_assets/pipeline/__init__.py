"""Moves entities forward in time: load, run a tier, store results and state in one transaction.

The assets, the command line and the live path all go through here, so that one window gives the same
rows whichever way it comes.
"""
