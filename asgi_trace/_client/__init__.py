"""One send of an HTTP client, from the decision to trace it to the end of its span. Knows no HTTP library."""
