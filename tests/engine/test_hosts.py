"""Three hosts train together; one is lost, and the two that are left go on to the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mlcls.fileio import read_checkpoint

from .hosts import hosts, why_not
from .ranks import options_of

pytestmark = [pytest.mark.slow, pytest.mark.hosts]


@pytest.fixture(autouse=True)
def _can_make_hosts() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)


def images_of(steps: list[list[int]]) -> list[int]:
    return [image for step in steps for image in step]


def test_a_host_is_lost(tiny_config: Path, tmp_path: Path) -> None:
    run, seen, lost = tmp_path / 'run', tmp_path / 'seen', tmp_path / 'lost'
    seen.mkdir()
    hooks = [
        dict(type='SeenImages', folder=str(seen)),
        dict(type='PauseAt', iteration=7, file=str(lost)),  # 48 images, steps of 12: the fourth of the second epoch
    ]
    options = options_of(
        custom_hooks=hooks,
        env_cfg__dist_cfg=dict(heartbeat=10),
        train_dataloader__batch_size=4,
        default_hooks__checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3),
        train_cfg__max_epochs=3,
    )
    with hosts(3, tmp_path) as three:
        for number in range(3):
            three.torchrun(number, 2, str(tiny_config), '--work-dir', str(run), '--no-validate', *options)
        three.wait_for(lost.with_suffix('.reached'), 120)
        three.cut(2)  # first: nothing that its processes would say, dying, is heard
        three.kill(2)
        lost.touch()
        codes = [three.wait(number, 120) for number in range(2)]
        said = three.output(0).read_text() + three.output(1).read_text()
    assert codes == [0, 0], said
    assert 'another process of this run is gone' in said
    # 6 steps of 12 images, an epoch and a half; then steps of 8.
    assert 'resumed from' in said and 'iter_6.pth' in said
    assert 'a step is now 8 images, not 12 (2 process(es)): epoch 2 goes on at image 24 of its order' in said
    final = read_checkpoint(run / 'epoch_3.pth')
    assert final['meta']['world_size'] == 2 and final['meta']['epoch'] == 3
    assert all(torch.isfinite(value).all() for value in final['state_dict'].values() if value.is_floating_point())

    # Each image of the second epoch was trained on in the first 24 of its order by three, the rest of it by two.
    by_three, by_two = (
        [json.loads(line) for line in (seen / f'{ranks}.txt').read_text().splitlines()] for ranks in (3, 2)
    )
    assert [len(step) for step in by_three[:6]] == [12] * 6 and [len(step) for step in by_two] == [8] * 9
    assert sorted(images_of(by_three[:4])) == list(range(48))
    assert sorted(images_of(by_three[4:6]) + images_of(by_two[:3])) == list(range(48)), 'none twice, none left out'
    assert sorted(images_of(by_two[3:])) == list(range(48))
    # The order itself is that of a sampler that knows no ranks.
    assert sorted(by_three[6]) == sorted((by_two[0] + by_two[1])[:12]), 'the step that was lost is made again'
