"""Copies of the model under test, without a backdoor and with known ones: what its classes look like, and what a scan of it would see."""
