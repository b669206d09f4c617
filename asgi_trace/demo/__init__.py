"""Three real services in three processes, and a scenario that drives them. Needs the extra `demo`."""
