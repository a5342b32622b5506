"""Switches written into the weights of networks, and what the criterion *dormant* says of them."""
