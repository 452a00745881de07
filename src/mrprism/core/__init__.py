"""What all the rest speaks of: a task, a case and its masks, a prediction, the one error; arrays alone."""
