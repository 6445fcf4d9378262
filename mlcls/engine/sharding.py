"""Training of networks that do not fit on one device: torch's fully_shard (FSDP2), by config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import EMAHook  # mmengine's, which copies the network; ours averages parts
from mmengine.logging import MMLogger
from torch import distributed, nn

from mlcls.errors import ConfigError, did_you_mean
from mlcls.registry import MODEL_WRAPPERS

_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
#: Share of a module's parameters in its lists of blocks, from which on these are taken in place of the module.
_MOSTLY = 0.9


@MODEL_WRAPPERS.register_module()
class FullyShardedDataParallel(nn.Module):
    """A network whose weights, gradients and optimiser state are shared out over the ranks.

    A block's weights are gathered just before it computes, and let go after it. Weights are filled and loaded while
    each rank still has all of them (in memory of its device), then shared out before the first step. Checkpoints hold
    whole tensors, as those of other runs do: a run may be resumed with another number of ranks, or without sharding.

    Args:
        module: The network.
        block_types: Names of the classes of its blocks. None: in the backbone, the members of lists of modules.
        min_params: A block with fewer parameters is not shared out by itself but with the rest, at least 0.
        reshard_after_forward: Let a block's weights go after the forward pass, and gather them again in the backward
            pass: less memory, half as much again to send.
        param_dtype: ``'bfloat16'`` computes in it; optimiser and checkpoints keep float32. None: float32.
        reduce_dtype: Type in which gradients are sent, ``'bfloat16'`` or ``'float32'``; None: that of ``param_dtype``.

    Raises:
        ConfigError: A value outside these, or no block of these types.
    """

    def __init__(
        self,
        module: nn.Module,
        block_types: Sequence[str] | None = None,
        min_params: int = 1_000_000,
        reshard_after_forward: bool = True,
        param_dtype: str | None = None,
        reduce_dtype: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (('param_dtype', param_dtype), ('reduce_dtype', reduce_dtype)):
            if value is not None and value not in _DTYPES:
                raise ConfigError(f'model_wrapper_cfg.{name}: there is no {value!r}{did_you_mean(str(value), _DTYPES)}')
        if isinstance(min_params, bool) or not isinstance(min_params, int) or min_params < 0:
            raise ConfigError(f'model_wrapper_cfg.min_params must be a whole number of at least 0, got {min_params!r}')
        self.module = module
        self._reshard_after_forward = reshard_after_forward
        self._dtypes: dict[str, Any] = {
            name: _DTYPES[value]
            for name, value in (('param_dtype', param_dtype), ('reduce_dtype', reduce_dtype))
            if value is not None
        }
        #: Names of the blocks that are shared out one by one.
        self.blocks = find_blocks(module, block_types, min_params)
        self.is_sharded = False

    def shard(self, optim_wrapper: Any) -> None:
        """Share the weights out, and give the optimiser, which has no state so far, the parts of this rank.

        Args:
            optim_wrapper: Wrapper of an optimiser of the whole network's parameters.

        Raises:
            ConfigError: float16 with loss scaling.
        """
        if self.is_sharded:
            return
        scaler = getattr(optim_wrapper, 'scaler', None)
        if scaler is not None and scaler.is_enabled():
            raise ConfigError(
                'model_wrapper_cfg: FullyShardedDataParallel has no loss scaling for float16; set '
                "optim_wrapper.dtype='bfloat16', or optim_wrapper.type='OptimWrapper' and "
                "model_wrapper_cfg.param_dtype='bfloat16'"
            )
        from torch.distributed.device_mesh import init_device_mesh  # slow to import, and seldom needed
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        self.module.to(memory_format=torch.contiguous_format)  # parts of other formats cannot be cut
        kind = 'cuda' if torch.cuda.is_available() else 'cpu'
        mesh = init_device_mesh(kind, (distributed.get_world_size(),))
        modules = dict(self.module.named_modules())
        policy = MixedPrecisionPolicy(**self._dtypes)
        for name in self.blocks:
            fully_shard(modules[name], mesh=mesh, mp_policy=policy, reshard_after_forward=self._reshard_after_forward)
        fully_shard(self.module, mesh=mesh, mp_policy=policy)
        parts = dict(self.module.named_parameters())
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [parts[names[id(parameter)]] for parameter in group['params']]
        optim_wrapper._are_alike = False  # its quick way to the norm of all gradients knows whole tensors alone
        self.is_sharded = True
        total, own = (sum(map(size, parts.values())) for size in (torch.Tensor.numel, _own_size))
        MMLogger.get_current_instance().info(
            f'the network is shared out in {len(self.blocks)} blocks and the rest: {own:,} of {total:,} parameters are '
            'kept here'
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the network's."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """As the network's; gradients are summed over the ranks in every backward pass, also inside a cycle of
        accumulation, where keeping them whole would take the memory that sharding saves."""
        return self.module.train_step(data, optim_wrapper)  # type: ignore[operator]

    def val_step(self, data: Any) -> Any:
        """As the network's."""
        return self._letting_go(self.module.val_step(data))  # type: ignore[operator]

    def test_step(self, data: Any) -> Any:
        """As the network's."""
        return self._letting_go(self.module.test_step(data))  # type: ignore[operator]

    def _letting_go(self, result: Any) -> Any:
        if self.is_sharded:  # what is outside of blocks waits for a backward pass, which does not come
            self.module.reshard()  # type: ignore[operator]
        return result


def find_blocks(model: nn.Module, types: Sequence[str] | None = None, min_params: int = 0) -> list[str]:
    """Names of the modules that are worth being shared out by themselves, in their order.

    Args:
        model: The network; of one with a ``backbone`` only its blocks are looked at, unless types are given.
        types: Names of classes; None takes members of lists of modules (``nn.Sequential``, ``nn.ModuleList``).
        min_params: Fewest parameters of a block.

    Raises:
        ConfigError: The model has no module of one of the types.
    """
    if types is not None:
        known = {type(module).__name__ for module in model.modules()}
        for name in types:
            if name not in known:
                raise ConfigError(f'model_wrapper_cfg.block_types: no {name} in the model{did_you_mean(name, known)}')
        found = [name for name, module in model.named_modules() if name and type(module).__name__ in types]
        outer = [name for name in found if not any(name.startswith(f'{other}.') for other in found)]
    else:
        start = 'backbone' if isinstance(getattr(model, 'backbone', None), nn.Module) else ''
        outer = list(_members(model.get_submodule(start), start))
    return [name for name in outer if _size(model.get_submodule(name)) >= max(min_params, 1)]


def _members(module: nn.Module, name: str) -> Iterator[str]:
    """Names of the blocks of a module: those of its lists, which it may hold in further modules."""
    for key, child in module.named_children():
        full = f'{name}.{key}' if name else key
        lists = [each for each in child.modules() if isinstance(each, (nn.Sequential, nn.ModuleList))]
        inside = {id(value): value.numel() for each in lists for value in each.parameters()}
        is_list = isinstance(child, (nn.Sequential, nn.ModuleList))
        if is_list or (inside and sum(inside.values()) >= _MOSTLY * _size(child)):
            yield from _members(child, full)
        elif list(child.children()):
            yield full


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _own_size(part: torch.Tensor) -> int:
    return part.to_local().numel() if hasattr(part, 'to_local') else part.numel()


def shard_model(runner: Any) -> None:
    """Share the model of a run out, if its config says so; after its weights are filled, before its optimiser has a
    state. May be called again.

    Raises:
        ConfigError: Something in the run needs the whole network on each rank.
    """
    model = runner.model
    if not isinstance(model, FullyShardedDataParallel) or model.is_sharded:
        return
    for hook in runner.hooks:
        name = type(hook).__name__
        draws_network = name == 'TensorBoardHook' and getattr(hook, 'graph', False)
        if isinstance(hook, EMAHook) or name in _WHOLE or draws_network:
            raise ConfigError(
                f'model_wrapper_cfg: with FullyShardedDataParallel, {name} is not available: it needs the whole '
                'network on each rank; leave it out, or use MMDistributedDataParallel'
            )
    if runner.cfg.get('channels_last'):
        runner.logger.warning('channels_last: weights that are shared out over the ranks are kept in the usual format')
    model.shard(runner.optim_wrapper)


#: Hooks that change which parameters are trained, or run a copy of the network.
_WHOLE = ('HeadFirstHook', 'PreciseBNHook', 'LossDiagnosisHook')


def whole(value: Any) -> Any:
    """A state in which tensors that are shared out over the ranks are whole again, on the CPU of rank 0; other ranks
    keep their parts. Called by all ranks together.

    Args:
        value: Tensors and others, in nested dicts, lists and tuples.
    """
    if isinstance(value, torch.Tensor) and hasattr(value, 'full_tensor'):
        full = value.detach().full_tensor()  # type: ignore[attr-defined]
        return full.cpu() if distributed.get_rank() == 0 else value
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    return type(value)(map(whole, value)) if type(value) in (list, tuple) else value


def shared_out(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimiser with this rank's part of each whole tensor, where its parameters are shared out.

    Args:
        state: What an optimiser (or its wrapper) gave as state; all ranks have it.
        optimizer: The one that is to take it up.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    if not any(hasattr(parameter, 'full_tensor') for parameter in parameters):
        return state
    numbers = [number for group in state['param_groups'] for number in group['params']]
    of_number = dict(zip(numbers, parameters))
    parts = {
        number: {name: _part(value, of_number.get(number)) for name, value in values.items()}
        for number, values in state['state'].items()
    }
    return {**state, 'state': parts}


def shared_like(value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole tensor, that all ranks have, shared out as another of its shape is; itself where that is whole."""
    return _part(value, other) if hasattr(other, 'full_tensor') else value


def _part(value: Any, parameter: Any) -> Any:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
        return value
    local = value.to(parameter.device).contiguous()
    return distribute_tensor(local, parameter.device_mesh, parameter.placements, src_data_rank=None)
