"""Optimisers, schedulers and their constructors come from torch and mmengine; importing them registers their names."""

from mmengine import optim as _optim  # noqa: F401
