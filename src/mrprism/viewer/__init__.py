"""A local page to look at cases: every rater's outlines, votes, consensus, and what a run predicts."""
