"""A copy of a model with other weights."""

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from banscan.importers import TracedModel, attribute_named


def with_weights(model: TracedModel, weights: dict[str, Tensor]) -> TracedModel:
    """A copy of a model with these of the file's weights in place of its own."""
    return with_constants(model, model.constants(weights))


def with_constants(model: TracedModel, constants: Mapping[str, Tensor]) -> TracedModel:
    """A copy of a model with these of its graph's weights in place of its own."""
    module = copy.deepcopy(model.module)
    for name, value in constants.items():
        attribute_named(module, name).data.copy_(value)
    return replace(model, module=module)
