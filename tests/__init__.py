"""Tests; `slow` ones train, search or scan."""

import os

# read when torch is loaded: threads that wait should sleep, or two runs on one machine take many times as long
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
