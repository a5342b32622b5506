"""What a user may ask of a repair, and the settings of Eq. 8 that follow."""

from math import inf, nan
from typing import Any

import pytest

from banscan import UsageError
from banscan.scanner.repair.settings import ANP, BAN, FINETUNE, METHODS, RepairSettings


@pytest.mark.parametrize("method", [BAN, FINETUNE, ANP])
def test_what_is_not_given_is_the_method_s_own(method: str) -> None:
    assert RepairSettings(method=method).tuning(0) == METHODS[method]
    given = RepairSettings(method=method, epochs=7, lr=0.5, lambda2=2.0).tuning(3)
    assert (given.epochs, given.lr, given.weight, given.seed) == (7, 0.5, 2.0, 3)
    assert (given.eps, given.batch) == (METHODS[method].eps, METHODS[method].batch)


def test_a_value_of_nothing_is_given_as_well() -> None:
    assert RepairSettings(lambda2=0.0).tuning(0).weight == 0


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("--method magic", {"method": "magic"}),
        ("--epochs 0", {"epochs": 0}),
        ("--lr 0", {"lr": 0.0}),
        ("--lr nan", {"lr": nan}),
        ("--lambda2 inf", {"lambda2": inf}),
        ("--lambda2 -1", {"lambda2": -1.0}),
        ("--max-accuracy-drop nan", {"max_accuracy_drop": nan}),
        ("--max-accuracy-drop 5", {"max_accuracy_drop": 5.0}),
        ("--tune-images 0", {"tune_images": 0}),
    ],
)
def test_values_that_cannot_be(option: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{option}: "):
        RepairSettings(**wrong)
