"""A test harness and reference mail lab on real Postfix; see README.md."""
