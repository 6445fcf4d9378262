"""Weights files: where they come from, how they are read, whose names they have, and what of them fits a module."""

from mlcls.fileio import file_digest
from mlcls.models.weights.files import find_state_dict, read_weights
from mlcls.models.weights.load import load_pretrained, load_weights, log_report
from mlcls.models.weights.report import LoadReport, loaded_weights, remember, take_over
from mlcls.models.weights.sources import resolve_checkpoint

__all__ = [
    'LoadReport',
    'file_digest',
    'find_state_dict',
    'load_pretrained',
    'load_weights',
    'loaded_weights',
    'log_report',
    'read_weights',
    'remember',
    'resolve_checkpoint',
    'take_over',
]
