"""Parameters with the same settings share a group."""

from __future__ import annotations

from pathlib import Path

import torch

from mlcls.apis import TrainFlags
from mlcls.apis.training import apply_flags, prepare_config
from mlcls.engine import Runner
from mlcls.engine.param_groups import merge_groups


def test_groups_of_equal_settings_become_one_and_nothing_is_lost() -> None:
    weights = [torch.nn.Parameter(torch.zeros(n)) for n in range(1, 6)]
    groups = [{'params': [weight], 'weight_decay': 0.1 if n % 2 else 0.0} for n, weight in enumerate(weights)]
    merged = merge_groups(groups)
    assert [[len(weight) for weight in group['params']] for group in merged] == [[1, 3, 5], [2, 4]]
    assert [group['weight_decay'] for group in merged] == [0.0, 0.1]


def test_a_run_has_two_groups_where_norms_and_biases_do_not_decay(tiny_config: Path) -> None:
    options = {
        'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    }
    cfg = prepare_config(tiny_config, options)
    apply_flags(cfg, TrainFlags())
    runner = Runner.from_cfg(cfg)
    groups = runner.build_optim_wrapper(runner.optim_wrapper).optimizer.param_groups
    model = runner.model
    decayed = {id(p) for name, p in model.named_parameters() if p.dim() > 1}
    assert len(groups) == 2 and sorted(group['weight_decay'] for group in groups) == [0.0, 0.05]
    for group in groups:
        assert all((id(p) in decayed) == (group['weight_decay'] > 0) for p in group['params'])
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    runner.close()
