"""Small classifiers that were trained on pixels scaled in many ways, and which way banscan takes for theirs."""
