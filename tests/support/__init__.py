"""What several tests need: servers, small worlds, faults."""
