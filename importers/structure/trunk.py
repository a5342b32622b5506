"""What all of the pixels' ways pass through: the tensors of a graph that everything behind them is computed from."""

from banscan.importers.structure.flow import Flow


def trunk(flow: Flow, image: str, tensor: str) -> str:
    """The last tensor that every way from the image to `tensor`, and every way to the output, passes through.

    It is the lowest common ancestor in the tree of dominators (Cooper, Harvey and Kennedy 2001), which takes one pass here, as there are no
    cycles.
    """
    above: dict[str, str] = {}
    depth = {image: 0}

    def common(one: str, other: str) -> str:
        while one != other:
            if depth[one] < depth[other]:
                one, other = other, one
            one = above[one]
        return one

    for step in flow.steps:
        ways = [i for i in step.reads if i in depth]
        if not ways or not any(o in flow.depends for o in step.makes):
            continue
        nearest = ways[0]
        for way in ways[1:]:
            nearest = common(nearest, way)
        for made in step.makes:
            above[made], depth[made] = nearest, depth[nearest] + 1
    return common(above[tensor], flow.output) if tensor in above and flow.output in depth else image
