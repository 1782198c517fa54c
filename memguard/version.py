"""The version, written once; packaging reads it here. Reading the metadata would cost more than starting a job."""

__all__ = ["__version__"]

__version__ = "0.1.0"
