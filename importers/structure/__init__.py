"""Logic in the graph of a file: what decides by the pixels beside the network, and what happens when it is made to decide otherwise."""
