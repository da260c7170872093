"""Tests of the labelled data sets."""
