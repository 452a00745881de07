"""Open a data set, look at one case, and say what is wrong with the files.

The data set here is drawn; yours is any folder with a dataset.json (see docs/tutorial.md).
"""

import mrprism

mrprism.phantom("missing", size=64, cases=10, out="fundus")

data = mrprism.open_dataset("fundus")
print(data)

case = data["case0000"]
print(f"image {case.image.shape}, masks {case.masks.shape} = (raters, structures, height, width)")
for rater, done in zip(data.task.raters, case.rated, strict=True):
    print(
        rater, "outlined", [s for s, yes in zip(data.task.structures, done, strict=True) if yes] or "nothing"
    )

check = mrprism.check_dataset("fundus")
print(f"{len(check.errors)} errors, {len(check.warnings)} warnings")
