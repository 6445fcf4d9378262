"""Checks that the parts of a run fit together, made after they are built and before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from mlcls.datasets import EpochSampler, ShardDataset
from mlcls.datasets.checking import quick_check
from mlcls.engine.averaging import RAW, averaging_hook
from mlcls.engine.checkpoint import unwrap
from mlcls.engine.dataloader import order_of
from mlcls.engine.optim import OptimWrapper
from mlcls.engine.train_loop import has_batch_norm
from mlcls.errors import ConfigError, did_you_mean
from mlcls.evaluation import ThresholdMetric
from mlcls.models.fitting import losses_of
from mlcls.models.test_time import TestTimeViews

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner


def check_classes(expected: Sequence[str], found: Sequence[str], expected_in: str, found_in: str) -> None:
    """Refuse two class lists that differ, naming the first difference.

    Raises:
        ConfigError: Other names, another number, or another order.
    """
    expected, found = tuple(expected), tuple(found)
    if expected == found:
        return
    if len(expected) != len(found):
        extra = sorted(set(expected) ^ set(found))
        raise ConfigError(
            f'{expected_in} has {len(expected)} classes, {found_in} {len(found)}; '
            f"only one of them has '{extra[0] if extra else expected[-1]}'"
        )
    position = next(i for i, (a, b) in enumerate(zip(expected, found)) if a != b)
    order = ' (the same names in another order)' if set(expected) == set(found) else ''
    raise ConfigError(
        f"class {position} is '{expected[position]}' in {expected_in} but '{found[position]}' in {found_in}{order}"
    )


def check_run(runner: Runner) -> None:
    """Check a training run whose loops are built.

    Raises:
        ConfigError: Something in it cannot work or would silently do nothing.
    """
    loops = {'train': runner._train_loop, 'validation': runner._val_loop}
    datasets = {name: loop.dataloader.dataset for name, loop in loops.items() if isinstance(loop, BaseLoop)}
    classes = datasets['train'].metainfo['classes']
    for name, dataset in datasets.items():
        if not hasattr(dataset, 'summary'):
            raise ConfigError(
                f'the {name} data set is a {type(dataset).__name__}, which loses the keys of draws: augmentation would '
                'repeat itself each epoch; use MultiLabelDataset, wrapped in ClassBalancedDataset or not'
            )
        runner.logger.info(f'{name} data: {dataset.summary()}')
        for note in dataset.notes:
            runner.logger.warning(f'{name} data: {note}')
        check_classes(classes, dataset.metainfo['classes'], 'the training data', f'the {name} data')
    sampler = order_of(loops['train'].dataloader)
    if hasattr(sampler, 'summary') and sampler is not datasets['train']:
        runner.logger.info(f'train sampler: {sampler.summary()}')
    _check_wrapper(runner.optim_wrapper)
    _check_memories(unwrap(runner.model))
    _mention_frozen(runner)
    _check_best(runner, len(classes))
    _mention_thresholds(runner)
    TestTimeViews.from_config((runner.cfg.get('test_cfg') or {}).get('tta'))  # not first after the training
    if is_main_process():
        line = quick_check({'val' if name == 'validation' else name: dataset for name, dataset in datasets.items()})
        runner.logger.log(logging.INFO if line.endswith('nothing unusual') else logging.WARNING, line)
    if len(classes) == 1:
        runner.logger.warning(
            f"the data have one class ('{classes[0]}'): this trains a yes/no classifier, and CP, CR and "
            'CF1 equal OP, OR and OF1'
        )


def _check_wrapper(wrapper: Any) -> None:
    if not isinstance(wrapper, OptimWrapper):
        raise ConfigError(
            f'optim_wrapper: {type(wrapper).__name__} of {type(wrapper).__module__} is not derived from '
            "mlcls.engine.OptimWrapper, which keeps NaN from the weights; use type='OptimWrapper' or 'AmpOptimWrapper'"
        )


def _check_memories(model: nn.Module) -> None:
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    for name, loss in losses_of(model).items():
        if loss.training_state and getattr(preprocessor, 'batch_augment', None) is not None:
            raise ConfigError(
                f'{name}: {type(loss).__name__} remembers each training image, but batch_augments mixes images; remove '
                'one of them'
            )
    head: Any = getattr(model, 'head', None)
    if not getattr(head, 'takes_soft_targets', True) and getattr(preprocessor, 'batch_augment', None) is not None:
        raise ConfigError(
            f'{type(head).__name__} trains by the probability of whole label sets, which a mixed image does not have; '
            'remove batch_augments (from model.data_preprocessor or model.train_cfg), or choose another head'
        )


def _mention_frozen(runner: Runner) -> None:
    parameters = list(unwrap(runner.model).parameters())
    frozen = sum(not parameter.requires_grad for parameter in parameters)
    if frozen:
        runner.logger.info(f'frozen: {frozen} of {len(parameters)} tensors of weights are not trained')


def check_head(model: nn.Module, classes: Sequence[str], data: str = 'training') -> None:
    """Refuse a head that is for other classes than the annotations.

    Args:
        model: The classifier.
        classes: Of the data.
        data: Which data they are, for the message.

    Raises:
        ConfigError: ``num_classes`` of the head is another number, or a file given to it names other classes.
    """
    head: Any = getattr(model, 'head', None)
    width = getattr(head, 'num_classes', len(classes))
    if width != len(classes):
        raise ConfigError(
            f'model.head.num_classes={width}, but the annotations have {len(classes)} classes; set '
            f'model.head.num_classes={len(classes)}'
        )
    if getattr(head, 'label_names', None):
        check_classes(classes, head.label_names, f'the {data} data', f'the classes or files of {type(head).__name__}')


def check_batches(runner: Runner, loader: DataLoader) -> None:
    """Check that an epoch has batches to train on.

    Raises:
        ConfigError: It has none, or one of a single image before batch normalisation.
    """
    sampler = order_of(loader)
    if not isinstance(sampler, (EpochSampler, ShardDataset)):
        raise ConfigError(
            f'train_dataloader.sampler is a {type(sampler).__name__}, which does not name draws: augmentation would '
            "repeat itself each epoch; use dict(type='DefaultSampler', shuffle=True)"
        )
    if not sampler.round_up and sampler.world_size > 1:
        raise ConfigError('train_dataloader.sampler.round_up=False would give processes unequal numbers of batches')
    images, batches = len(sampler), loader.batch_sampler
    size = getattr(batches, 'batch_size', None)
    if len(loader) == 0:
        raise ConfigError(
            f'the training data give {images} images a process, fewer than one batch of {size}, and drop_last=True '
            'drops them all: nothing would be trained; lower train_dataloader.batch_size or set drop_last=False'
        )
    if size is None:
        return
    last = images % size
    if (size if getattr(batches, 'drop_last', False) or not last else last) != 1:
        return
    if has_batch_norm(unwrap(runner.model).train()):
        raise ConfigError(
            f'the last batch of an epoch would hold a single image ({images} images in '
            f'batches of {size}), on which batch normalisation has no meaning; set '
            'train_dataloader.drop_last=True or another batch_size'
        )


def _check_best(runner: Runner, num_classes: int) -> None:
    for hook in runner.hooks:
        wanted = getattr(hook, 'save_best', None)
        if not wanted:
            continue
        if not isinstance(runner._val_loop, BaseLoop):
            raise ConfigError(
                f"default_hooks.checkpoint.save_best='{wanted[0]}' needs validation, and this run has none; "
                'remove save_best or add val_dataloader, val_cfg and val_evaluator'
            )
        names = runner._val_loop.evaluator.names(num_classes)
        averaging = averaging_hook(runner)
        if averaging is not None and averaging.evaluate_raw:
            names += [f'{RAW}{name}' for name in names]
        for name in wanted:
            if name != 'auto' and name not in names:
                raise ConfigError(
                    f"default_hooks.checkpoint.save_best='{name}': no evaluator gives this metric"
                    f'{did_you_mean(name, names)}'
                )


def _mention_thresholds(runner: Runner) -> None:
    """Say when the head and the metrics decide by different rules.

    Metrics without a rule of their own follow the thresholds kept with the model, as the head's users do, and take 0.5
    until there are some.
    """
    head: Any = getattr(unwrap(runner.model), 'head', None)
    rule = (getattr(head, 'thr', None), getattr(head, 'topk', None))
    if head is None or not isinstance(runner._val_loop, BaseLoop):
        return
    for metric in runner._val_loop.evaluator.metrics:
        if not isinstance(metric, ThresholdMetric):
            continue
        thr = 0.5 if metric.thr is None and metric.topk is None else metric.thr
        if (thr, metric.topk) != rule:
            runner.logger.warning(
                f'the head predicts by thr={rule[0]}, topk={rule[1]}, but {type(metric).__name__} decides by '
                f'thr={thr}, topk={metric.topk}'
            )
