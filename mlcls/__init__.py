"""mlcls: multi-label image classification from one config file."""

__version__ = '0.1.0'
