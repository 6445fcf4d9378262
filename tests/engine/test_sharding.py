"""Sharded training: the losses of training in copies, and checkpoints that any run can take up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mlcls.apis import TrainFlags, test, train
from mlcls.engine.sharding import FullyShardedDataParallel, find_blocks, shared_out, whole
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint

from .ranks import losses_in, options_of, run
from .test_exact_resume import equal

SHARDED = dict(type='FullyShardedDataParallel', min_params=2000)
ADAM = dict(type='AdamW', lr=0.01, weight_decay=0.05)


def settings(path: Path, **others: object) -> list[str]:
    hook = [dict(type='LossLines', file=str(path))]
    common = {
        'optim_wrapper__optimizer': ADAM,
        'optim_wrapper__optimizer___delete_': True,
        'optim_wrapper__clip_grad': dict(max_norm=1.0),
        'train_dataloader__batch_size': 4,
        'train_cfg__max_epochs': 2,
        'custom_hooks': hook,
    }
    return options_of(**{**common, **others})


def test_losses_are_those_of_copies_and_resuming_is_exact(tiny_config: Path, tmp_path: Path) -> None:
    copies, sharded, again = (tmp_path / name for name in ('copies', 'sharded', 'again'))
    run(2, tiny_config, '--work-dir', copies, *settings(tmp_path / 'copies.txt'))
    said = run(2, tiny_config, '--work-dir', sharded, *settings(tmp_path / 'sharded.txt', model_wrapper_cfg=SHARDED))
    assert 'the network is shared out in 6 blocks and the rest' in said
    ours, theirs = losses_in(tmp_path / 'sharded.txt'), losses_in(tmp_path / 'copies.txt')
    assert len(ours) == 12 and ours == pytest.approx(theirs, rel=1e-4)
    assert len(set(ours)) == 12

    one, two = (read_checkpoint(each / 'epoch_2.pth') for each in (copies, sharded))
    for part in ('state_dict', 'optimizer'):
        assert shapes(one[part]) == shapes(two[part]), 'the same format'
    assert test(sharded / 'epoch_2.pth').num_images == 20

    # From the middle, with the same ranks: bit for bit.
    options = settings(tmp_path / 'again.txt', model_wrapper_cfg=SHARDED)
    run(2, tiny_config, '--work-dir', again, '--resume', sharded / 'epoch_1.pth', *options)
    found = read_checkpoint(again / 'epoch_2.pth')
    assert all(equal(found[part], two[part]) for part in ('state_dict', 'optimizer', 'best'))


def shapes(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return {key: shapes(each) for key, each in value.items()}
    return [shapes(each) for each in value] if isinstance(value, (list, tuple)) else type(value)


@pytest.mark.slow
def test_taken_up_alone_and_by_copies_taken_up_sharded(tiny_config: Path, tmp_path: Path) -> None:
    """One process writes, two share it out and go on, one goes on from theirs; steps are of eight images always."""
    options = {
        'optim_wrapper.optimizer': {**ADAM, '_delete_': True},
        'train_dataloader.batch_size': 8,
        'model.backbone.norm_eval': True,
        'model.backbone.frozen_stages': 1,
    }
    whole_run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / 'whole')), options)
    arguments = {
        'optim_wrapper__optimizer': {**ADAM, '_delete_': True},
        'train_dataloader__batch_size': 4,
        'train_cfg__max_epochs': 3,
        'model__backbone__norm_eval': True,
        'model__backbone__frozen_stages': 1,
        'model_wrapper_cfg': SHARDED,
    }
    shared = tmp_path / 'shared'
    run(2, tiny_config, '--work-dir', shared, '--resume', whole_run / 'epoch_2.pth', *options_of(**arguments))
    # The schedule of three epochs differs from that of four only in where it ends.
    third = read_checkpoint(shared / 'epoch_3.pth')
    assert third['meta']['iter'] == 18
    before, after = (read_checkpoint(whole_run / f'epoch_{epoch}.pth')['state_dict'] for epoch in (2, 3))
    for name, value in third['state_dict'].items():
        assert torch.allclose(value.double(), after[name].double(), rtol=1e-2, atol=2e-3), name
    name = 'head.fc.weight'
    assert (third['state_dict'][name] - after[name]).abs().max() < 0.1 * (before[name] - after[name]).abs().max()
    alone = train(
        tiny_config, TrainFlags(work_dir=str(tmp_path / 'alone'), resume=str(shared / 'epoch_3.pth')), options
    )
    fourth, expected = (read_checkpoint(each / 'epoch_4.pth')['state_dict'][name] for each in (alone, whole_run))
    assert (fourth - expected).abs().max() < 0.1 * (before[name] - expected).abs().max()


def test_blocks_are_the_members_of_lists() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.second = nn.Sequential(nn.Linear(8, 8))  # half of it: the block stays whole

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.blocks = nn.ModuleList([Block(), Block()])

    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.stem = nn.Linear(8, 8)
    model.backbone.stages = nn.ModuleList([Stage(), Stage()])
    model.head = nn.Sequential(nn.Linear(8, 8))
    names = [f'backbone.stages.{stage}.blocks.{block}' for stage in (0, 1) for block in (0, 1)]
    assert find_blocks(model) == names
    assert find_blocks(model, min_params=145) == []
    assert find_blocks(model, ['Stage']) == ['backbone.stages.0', 'backbone.stages.1']
    assert find_blocks(model, ['Block', 'Stage']) == ['backbone.stages.0', 'backbone.stages.1'], 'not in each other'
    with pytest.raises(ConfigError, match="block_types: no Blok in the model; did you mean 'Block'"):
        find_blocks(model, ['Blok'])


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (dict(param_dtype='bfloat61'), "param_dtype: there is no 'bfloat61'; did you mean 'bfloat16'"),
        (dict(reduce_dtype='int8'), "reduce_dtype: there is no 'int8'"),
        (dict(min_params=-1), 'min_params must be a whole number of at least 0, got -1'),
        (dict(min_params=True), 'min_params must be a whole number'),
    ],
)
def test_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FullyShardedDataParallel(nn.Linear(2, 2), **wrong)  # type: ignore[arg-type]


def test_float16_and_hooks_that_need_the_whole_are_refused() -> None:
    class Wrapper:
        scaler = torch.amp.GradScaler('cpu')

    model = FullyShardedDataParallel(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="no loss scaling for float16; set optim_wrapper.dtype='bfloat16'"):
        model.shard(Wrapper())

    from mmengine.hooks import EMAHook

    from mlcls.engine.sharding import shard_model

    class Run:
        hooks = (EMAHook(),)

    Run.model = model
    with pytest.raises(ConfigError, match='with FullyShardedDataParallel, EMAHook is not available'):
        shard_model(Run)


def test_states_of_whole_tensors_stay_themselves() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    state = optimizer.state_dict()
    assert shared_out(state, optimizer) is state
    assert whole({'a': [layer.weight, (1, 'b')]}) == {'a': [layer.weight, (1, 'b')]}
