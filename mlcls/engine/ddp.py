"""Data-parallel training by torch's DistributedDataParallel, with gradients that may be compressed on their way."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel as MMEngineDataParallel
from torch import distributed, nn

from mlcls.errors import ConfigError, did_you_mean
from mlcls.registry import MODEL_WRAPPERS

COMPRESSIONS = ('fp16', 'bf16', 'powersgd')


@MODEL_WRAPPERS.register_module()
class MMDistributedDataParallel(MMEngineDataParallel):
    """A copy of the network on each rank, whose gradients are averaged while they are computed.

    ``model_wrapper_cfg=dict(static_graph=True, gradient_as_bucket_view=True, bucket_cap_mb=50)`` sets what torch's
    wrapper has. Compressed gradients take half the time on the wire (``'fp16'``, ``'bf16'``) or far less
    (``'powersgd'``: Vogels et al., arXiv 1905.13727), where the network between hosts is what a run waits for; they
    are rounded, so that losses differ from those without. In float16 a gradient above 65504 becomes infinite, and the
    step is left out or the run ends; bfloat16 has the range of float32.

    Args:
        module: The network, on its device.
        device_ids: The GPU of this rank in a list, or None on a CPU.
        detect_anomalous_params: Say which parameters got no gradient; slow, for debugging.
        broadcast_buffers: Send the buffers of rank 0 to all before each step.
        find_unused_parameters: Some parameters get no gradient in some steps.
        static_graph: The same parameters are used, and in the same order, in every step: torch then plans ahead.
        gradient_as_bucket_view: Gradients lie in the memory they are sent from, which saves a copy of them.
        bucket_cap_mb: Megabytes that are sent at a time, above 0.
        init_sync: Send the weights of rank 0 to all at the start.
        gradient_compression: None, ``'fp16'``, ``'bf16'`` or ``'powersgd'``.
        powersgd_rank: Rank of PowerSGD's matrices, at least 1: the higher, the more exact and the more is sent.
        powersgd_start: Steps without compression at the start, at least 2.
        exact_resume: Must be False for PowerSGD. Each rank then keeps what was not sent, as much as the network is
            large, and adds it to the next gradient; checkpoints do not have it, and a resumed run begins it anew.

    Raises:
        ConfigError: A value outside these, or PowerSGD without ``exact_resume=False``.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: Sequence[int] | None = None,
        detect_anomalous_params: bool = False,
        broadcast_buffers: bool = False,
        find_unused_parameters: bool = False,
        static_graph: bool = False,
        gradient_as_bucket_view: bool = False,
        bucket_cap_mb: float | None = None,
        init_sync: bool = True,
        gradient_compression: str | None = None,
        powersgd_rank: int = 1,
        powersgd_start: int = 1000,
        exact_resume: bool = True,
    ) -> None:
        check_compression(gradient_compression, powersgd_rank, powersgd_start, exact_resume)
        if bucket_cap_mb is not None and (isinstance(bucket_cap_mb, bool) or not bucket_cap_mb > 0):
            raise ConfigError(f'model_wrapper_cfg.bucket_cap_mb must be above 0, or None; got {bucket_cap_mb!r}')
        with warnings.catch_warnings():
            # What torch offers in place of broadcast_buffers would send buffers at the start of a rewrapped model.
            warnings.filterwarnings('ignore', '.*broadcast_buffers.*', FutureWarning)
            super().__init__(
                module,
                detect_anomalous_params=detect_anomalous_params,
                device_ids=device_ids,
                broadcast_buffers=broadcast_buffers,
                find_unused_parameters=find_unused_parameters,
                static_graph=static_graph,
                gradient_as_bucket_view=gradient_as_bucket_view,
                bucket_cap_mb=bucket_cap_mb,
                init_sync=init_sync,
            )
        if gradient_compression is None:
            return
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

        if gradient_compression == 'powersgd':
            state = powerSGD_hook.PowerSGDState(
                None, matrix_approximation_rank=powersgd_rank, start_powerSGD_iter=powersgd_start
            )
            self.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
        else:
            hooks = {'fp16': default_hooks.fp16_compress_hook, 'bf16': default_hooks.bf16_compress_hook}
            self.register_comm_hook(None, hooks[gradient_compression])


def check_compression(name: Any, rank: Any = 1, start: Any = 1000, exact_resume: bool = True) -> None:
    """Refuse a compression of gradients that is not there, or not on this machine.

    Args:
        name: None, ``'fp16'``, ``'bf16'`` or ``'powersgd'``.
        rank: Rank of PowerSGD's matrices.
        start: Steps before PowerSGD begins.
        exact_resume: Whether a resumed run has to give the weights of one that was not stopped.

    Raises:
        ConfigError: See :class:`MMDistributedDataParallel`.
    """
    if name is None:
        return
    key = 'model_wrapper_cfg.gradient_compression'
    if name not in COMPRESSIONS:
        raise ConfigError(f'{key}: there is no {name!r}{did_you_mean(str(name), COMPRESSIONS)}')
    is_nccl = distributed.is_initialized() and distributed.get_backend() == 'nccl'
    if name == 'bf16' and is_nccl and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"{key}='bf16': this GPU cannot compute in bfloat16; use 'fp16'")
    if name != 'powersgd':
        return
    for setting, value, least in (('powersgd_rank', rank, 1), ('powersgd_start', start, 2)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f'model_wrapper_cfg.{setting} must be a whole number of at least {least}, got {value!r}')
    if exact_resume:
        raise ConfigError(
            f"{key}='powersgd': each rank keeps what it did not send, which no checkpoint holds: a resumed run would "
            'not end with the same weights; to accept that add exact_resume=False, or use bf16'
        )
