"""Where and how switches are hidden: those that the criterion was made on, and those that only measure it."""

from bench.dormant.plant import Switch

# on all networks; the names of those that were tried while the criterion was made are in TRIED
SWITCHES: dict[str, Switch] = {
    "one neuron": Switch(),
    "nearly dormant": Switch(firing=0.03),
    "spread over 4": Switch(neurons=4),
    "padding": Switch(added=8),
    "trigger 5x5": Switch(size=5),
    "trigger 7x7": Switch(size=7),
    "30 times as loud": Switch(loudness=30.0),
    "30 times as quiet": Switch(loudness=1 / 30),
}
PATH, HEAD = "through all stages", "attention head"
# networks, and hiding places, that were tried while the criterion was made; the others had been written down before and only measure it
TRIED_NETWORKS = frozenset({"example", "convnext", "vit", "mobilenet"})
TRIED = frozenset({PATH, "one neuron", "nearly dormant", "spread over 4"})


def held(network: str, variant: str) -> bool:
    """Whether nothing was tried on this pair."""
    return network not in TRIED_NETWORKS or variant not in TRIED
