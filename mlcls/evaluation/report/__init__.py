"""The report: what an evaluation shows to a person, as plain data, one HTML page, pictures and TensorBoard events."""

from .page import render_page
from .payload import build_payload
from .plots import write_plots
from .source import ReportSource
from .suspects import suspects_csv
from .tensorboard import write_tensorboard

__all__ = ['ReportSource', 'build_payload', 'render_page', 'suspects_csv', 'write_plots', 'write_tensorboard']
