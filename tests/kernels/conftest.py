"""Where the Triton kernels run: on a GPU, or in Triton's interpreter where there is none."""

import pytest
import torch


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
