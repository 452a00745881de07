"""How much do the raters differ, and who differs from whom?"""

import numpy as np

import mrprism

data = mrprism.phantom("crowd", size=64, cases=12)
agreement = mrprism.agree(data, resamples=200)

print("mean pairwise Dice of the cup, rater against rater:")
print(np.round(agreement.matrix("cup", "dice"), 2))

worst = agreement.cases[agreement.hardest()[0]]
print(f"the case they disagree on most: {worst}")
mrprism.plot_case(data[worst], raters=data.task.raters).savefig("disputed.png")

mrprism.plot_agreement(agreement).savefig("agreement.png")  # every rater against every other
mrprism.plot_bland_altman(agreement, "cup").savefig("sizes.png")  # the two raters whose sizes differ most
