"""What parts without access to the runner may ask for; and hooks of mmengine whose work is done elsewhere."""

from __future__ import annotations

from typing import Any

import mmengine
from mmengine.hooks import Hook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook

from mlcls.engine.logs import FormattedConfig
from mlcls.registry import HOOKS


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """Tells mmengine's message hub the epoch, the iteration and the settings of the run.

    Scalars of training do not go there: its buffers read each from the device and grow with every step. They are in
    ``runner.meter``.
    """

    def before_run(self, runner: Any) -> None:
        """What is known before the first epoch."""
        facts = dict(seed=runner.seed, experiment_name=runner.experiment_name, mmengine_version=mmengine.__version__)
        runner.message_hub.update_info_dict({'cfg': FormattedConfig(runner.cfg).pretty_text, **facts})
        self.last_loop_stage = None

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The iteration."""
        runner.message_hub.runtime_info['iter'] = runner.iter

    after_train_iter = Hook.after_train_iter  # nothing: losses are in ``runner.meter``


@HOOKS.register_module()
class IterTimerHook(Hook):
    """Here for configs of mmpretrain: ``runner.meter`` measures the time of steps."""
