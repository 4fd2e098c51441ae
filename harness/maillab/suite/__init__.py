"""The FAQ as a suite: its catalogue, the collection of its scenarios, their results, shards."""
