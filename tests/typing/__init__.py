"""Programs as users write them, for the type checkers alone: no test runs them."""
