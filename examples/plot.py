"""Draw a case: image, every rater's outline, their majority, and a consensus."""

import mrprism

data = mrprism.phantom("crowd", size=128, cases=3)
consensus = mrprism.fuse_case(data[2], "staple")
figure = mrprism.plot_case(data[2], consensus, raters=data.task.raters)  # a notebook shows it
figure.savefig("case.png", dpi=150)
