"""Outline a new image with a trained run: an array in, arrays out."""

from PIL import Image

import mrprism

data = mrprism.phantom("crowd", size=64, cases=10)
mrprism.train(
    data, "mrprism", "run", backbone="small", size=64, epochs=1, device="cpu"
)  # yours is there already

run = mrprism.load_run("run")
image = data[1].image  # (channel, height, width), intensities from 0 to 1
prediction = run.predict(image)
print("probability", prediction.probability.shape, "from", len(prediction.steps), "recurrences")
print("confidence in each rater", prediction.confidence.mean(axis=(1, 2, 3)).round(2))

# files in, files out: one folder for each image
Image.fromarray((image.transpose(1, 2, 0) * 255).astype("uint8")).save("photo.png")
(folder,) = mrprism.predict("run", ["photo.png"], "outlines")
print(sorted(file.name for file in folder.iterdir()))
