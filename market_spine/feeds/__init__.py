"""One folder per weekly feed: what is true of that feed only. Code that another feed also needs lives elsewhere."""
