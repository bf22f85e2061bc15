"""When things run: jobs over the asset graph. What they do is `assets`."""
