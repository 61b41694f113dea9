"""Timings of the simulator on the machine at hand: ``python -m benchmarks.round_time``, ``python -m
benchmarks.server_step``."""
