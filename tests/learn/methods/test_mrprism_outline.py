"""The network as one more observer: recurrences come in time, and a training that was stopped goes on alike."""

from __future__ import annotations

from dataclasses import replace

import torch

from mrprism.learn.batch import Batch
from mrprism.learn.contract import samples, task, whole
from mrprism.learn.methods.fused_label import FusedLabel
from mrprism.learn.methods.mrprism_outline import MrPrismOutline


def method(**options: object) -> MrPrismOutline:
    torch.manual_seed(0)
    made = MrPrismOutline(task(), backbone="tiny", **options)  # type: ignore[arg-type]
    made.prepare(samples(32, 32))
    return made


def step(method: MrPrismOutline, batch: Batch) -> None:
    optimiser = torch.optim.SGD(method.unet.parameters(), 0.1)
    method.train()
    for terms in method.losses(batch):
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def test_recurrences_divide_the_training_after_its_first_part() -> None:
    made, rounds = method(recurrences=3), []
    made.cases = [*made.cases] * 3
    for epoch in range(10):
        made.begin_epoch(epoch, 10)
        rounds.append(int(made.round))
    assert rounds == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    few = method(recurrences=3)
    few.cases = few.cases[:7]
    few.begin_epoch(4, 10)
    assert not few.round  # too few to show anybody's habit


def test_where_raters_have_no_style_the_network_is_asked_only_of_lone_masks() -> None:
    made, batch = method(), whole(32, 32)
    made.lone.fill_(True)
    assert batch.rated is not None
    alone = torch.zeros_like(batch.rated)
    alone[:, 0] = batch.rated[:, 0]
    several = (batch.rated.sum(1) > 1)[..., None, None]
    assert several.any()
    one = replace(batch, rated=alone)
    before, given = made.targets(batch)[0], made.targets(one)[0]
    made._weigh()
    assert torch.equal(made.targets(batch)[0] * several, before * several)
    assert not torch.equal(made.targets(one)[0], given)


def test_some_cases_are_learned_from_once_the_network_was_held_against_them() -> None:
    made = MrPrismOutline(task(), backbone="tiny")
    few = samples(32, 32)[:2]
    many = [replace(case, name=f"{n}-{case.name}") for n in range(30) for case in few]
    made.prepare(many)
    assert len(made.held) == 10  # of 60, one in six
    patients = [replace(case, group=str(n // 12)) for n, case in enumerate(many)]
    made.prepare(patients)
    assert made.held == {case.name for case in patients[:12]}  # whole patients
    batch = replace(whole(32, 32), names=tuple(case.name for case in many[:4]))
    (nothing,) = (terms["bce+dice"] for terms in made.losses(batch))
    assert nothing == 0  # and yet a step, for which other processes may wait
    made.round += 1
    assert all(terms["bce+dice"] > 0 for terms in made.losses(batch))
    made.prepare(many[:40])
    assert not made.held  # too few to judge by


def test_several_masks_are_fused_as_the_label_auto_fuses_them() -> None:
    made, batch = method(), whole(32, 32)
    plain = FusedLabel(task(), backbone="tiny", label="auto")
    plain.prepare(samples(32, 32))
    assert torch.equal(made.targets(batch)[0], plain.targets(batch)[0])
    assert torch.equal(made.consensus_of(batch).nan_to_num(), plain.consensus_of(batch).nan_to_num())


def test_a_training_that_was_stopped_goes_on_alike() -> None:
    made, batch = method(), whole(32, 32)
    step(made, batch)
    made._weigh()
    step(made, batch)
    again = method()
    again.load_state_dict(made.state_dict())
    assert torch.equal(made.targets(batch)[0], again.targets(batch)[0])
    for one in (made, again):
        step(one, batch)
    for name, value in made.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_observer_sees_images_before_their_brightness_was_changed() -> None:
    made, batch = method(), whole(32, 32)
    made._weigh()
    assert batch.image is not None
    darker = Batch(batch.names, 0.5 * batch.image, as_taken=batch.image, masks=batch.masks, rated=batch.rated)
    assert torch.equal(made.targets(darker)[0], made.targets(batch)[0])


def test_only_the_network_itself_learns() -> None:
    made = method()
    (group,) = made.parameter_groups(1e-3)
    learned = {id(p) for p in group["params"]}  # type: ignore[attr-defined]
    assert learned == {id(p) for p in made.parameters() if p.requires_grad}
