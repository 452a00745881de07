"""How much raters differ: statistics of masks, and whether a candidate is within their spread.

Every statistic of pixels is arithmetic on the vote patterns of `mrprism.core.patterns`; no torch.
"""

from mrprism.agreement.agree import agree
from mrprism.agreement.bootstrap import Estimate
from mrprism.agreement.case import against_others, dice, pairs
from mrprism.agreement.cases import Cases
from mrprism.agreement.chance import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from mrprism.agreement.result import Agreement
from mrprism.agreement.spread import Spread, spread_test, within_spread
from mrprism.agreement.structure import StructureAgreement
from mrprism.agreement.volumes import bland_altman, icc

__all__ = [
    "Agreement",
    "Cases",
    "Estimate",
    "Spread",
    "StructureAgreement",
    "against_others",
    "agree",
    "bland_altman",
    "cohen_kappa",
    "dice",
    "fleiss_kappa",
    "gwet_ac1",
    "icc",
    "krippendorff_alpha",
    "pairs",
    "spread_test",
    "within_spread",
]
