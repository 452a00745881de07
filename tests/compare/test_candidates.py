"""What `--methods` means."""

from __future__ import annotations

import pytest
import torch

from mrprism.compare.candidates import PLAIN, TABLES, Candidate, Slot, choose
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods import METHODS
from mrprism.learn.methods.mrprism import MrPrism


def keys(methods: str, has_reference: bool = False) -> list[str]:
    return [candidate.key for candidate in choose(methods).candidates(has_reference)]


def test_the_two_plain_unets_are_always_there_and_the_ceiling_where_there_is_a_reference() -> None:
    votes = ["fuse-fusion=majority", "fuse-fusion=staple"]  # the yardsticks of its fusion of given masks
    assert keys("mrprism") == [*(candidate.key for candidate in PLAIN), *votes, "mrprism"]
    assert "fused-label-label=reference" in keys("mrprism", has_reference=True)


def test_every_table_holds_methods_that_exist() -> None:
    for table in TABLES.values():
        assert table.slots
        for slot in table.slots:
            assert slot.candidate.method in METHODS, slot


def test_all_is_every_method_once() -> None:
    everything = keys("all")
    assert len(everything) == len(set(everything))
    assert {candidate.method for candidate in choose("all").candidates(False)} == set(METHODS)
    assert {slot.candidate.key for table in TABLES.values() for slot in table.slots} <= set(everything)


def test_the_ablation_is_a_full_cross_and_shares_the_default_run() -> None:
    candidates = [slot.candidate for slot in TABLES["table4"].slots]
    assert len({candidate.key for candidate in candidates}) == 3 * 3 + 1
    assert Candidate("mrprism") in candidates
    assert keys("table1,table4").count("mrprism") == 1


@pytest.mark.parametrize("slot", TABLES["table4"].slots[:9], ids=lambda slot: slot.label)
def test_a_cell_of_the_ablation_trains_with_the_losses_it_is_named_after(slot: Slot) -> None:
    """Whatever the defaults are: a cell named after a loss that is off would compare nothing."""
    torch.manual_seed(0)
    task = Task(1, ("disc",), ("a", "b", "c"))
    truth = torch.zeros(2, 1, 32, 32)
    truth[..., 8:24, 8:24] = 1
    masks = torch.stack([truth, truth.roll(3, -1), truth.roll(-2, -2)], 1)
    batch = Batch(("1", "2"), truth, masks, torch.ones(2, 3, 1, dtype=torch.bool))
    method = MrPrism(task, backbone="small", **slot.candidate.options)
    (terms,) = method.losses(batch)
    _, named = slot.label.removesuffix(")").split(" (")
    expected = {"shuffle loss": {"shuffle"}, "multi-head loss": {"multi_head"}}
    assert terms.keys() - {"conp"} == expected.get(named, {"shuffle", "multi_head"})
    sum(value for name, value in terms.items() if name != "conp").backward()
    assert any(p.grad is not None and p.grad.any() for p in method.divp.parameters())


def test_options_make_another_candidate() -> None:
    (candidate,) = choose("mrprism:recurrences=4:fusion=ratio").others
    assert candidate.options == {"recurrences": 4, "fusion": "ratio"}
    assert candidate.key == "mrprism-fusion=ratio-recurrences=4"
    assert candidate.label == "MrPrism (fusion ratio, recurrences 4)"


def test_a_method_that_a_table_has_is_not_listed_twice() -> None:
    assert choose("table1,mrnet,mrnet").others == ()


@pytest.mark.parametrize(
    "methods", ["fused-label", "fused-label:label=soft-vote", "fused-label,fused-label:label=majority"]
)
def test_what_is_always_there_is_not_trained_twice(methods: str) -> None:
    assert keys(methods) == [candidate.key for candidate in PLAIN]


def test_an_option_at_its_default_is_no_other_method() -> None:
    assert keys("mrprism,mrprism:recurrences=3").count("mrprism") == 1
    assert choose("mrprism:recurrences=3,mrprism,mrprism:recurrences=2").others == (
        Candidate("mrprism", {"recurrences": 3}),
        Candidate("mrprism", {"recurrences": 2}),
    )


@pytest.mark.parametrize(
    ("methods", "said"),
    [("tabel1", "neither a table nor a method"), ("", "names nothing"), ("mrprism:4", "METHOD:OPTION=VALUE")],
)
def test_nonsense_is_refused(methods: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose(methods)
