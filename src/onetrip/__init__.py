"""onetrip: a smart placement routing proxy that pays the long trip to the database once."""

__version__ = "0.1.0"
