"""Helpers of the tests: applications, clients, servers, receivers."""
