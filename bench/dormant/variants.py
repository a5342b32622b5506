"""How switches are hidden, and which networks only measure the criterion."""

from bench.dormant.plant import Switch

# what a row is of: a network with a switch, or one in which none could be written
SWITCH, UNWRITTEN = "switch", "unwritten"
ONE, PATH, HEAD = "one neuron", "through all stages", "attention head"
SWITCHES: dict[str, Switch] = {
    ONE: Switch(),
    "nearly dormant": Switch(firing=0.03),
    "spread over 4": Switch(neurons=4),
    "padding": Switch(added=8),
    "trigger 5x5": Switch(size=5),
    "trigger 7x7": Switch(size=7),
    "30 times as loud": Switch(loudness=30.0),
    "30 times as quiet": Switch(loudness=1 / 30),
    "handcrafted": Switch(parted=True, neurons=3, size=5, firing=0.1),
}
SWAPPED = Switch(size=5)
# architectures on which the criterion may be tried while it is made; the others only measure it
TRIED = frozenset({"resnet18", "vgg16", "vit"})
# where in the network a switch is, as a share of its blocks
DEPTHS = {"early": 0.0, "middle": 0.4}
