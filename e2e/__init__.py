"""The whole system under fault: what scripts/e2e runs."""
