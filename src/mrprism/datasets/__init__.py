"""Data sets: a folder with a `dataset.json`, and readers that turn other layouts into one."""
