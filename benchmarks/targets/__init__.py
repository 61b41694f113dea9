"""Rounds compiled for accelerators that are not there: what each would hold, launch and move."""
