"""JSON for programs, and the addresses at which orchestrators and Prometheus ask."""
