"""Operating points: thresholds chosen for a model, with their calibration, intervals and honest figures."""

from .calibration import Calibration
from .costs import read_costs
from .fit import FitSettings, fit_operating_points
from .objectives import parse_objective
from .points import OperatingPoints

__all__ = [
    'Calibration',
    'FitSettings',
    'OperatingPoints',
    'fit_operating_points',
    'parse_objective',
    'read_costs',
]
