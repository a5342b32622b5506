"""Backdoor scanner for image classifiers, from a model file and a few clean images."""
