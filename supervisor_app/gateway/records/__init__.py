"""What is kept and counted of requests."""
