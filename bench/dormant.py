"""Switches written into the weights of trained networks, and what the criterion *dormant* says of them."""

# tried while the criterion was made
TRIED = ("path", "nearly dormant", "spread", "gelu", "mlp")
# written down before it was made, and only measured
HELD = ("padding", "depthwise silu", "head", "folded norm", "trigger 5x5", "trigger 7x7", "into living", "high level")
