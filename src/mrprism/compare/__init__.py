"""Every method of the paper on the same data, split and budget, and the paper's tables of them."""

from mrprism.compare.build import Outcome, as_records, compare, write_comparison
from mrprism.compare.plan import Budget

__all__ = ["Budget", "Outcome", "as_records", "compare", "write_comparison"]
