"""The public test kit: two cores in memory under a virtual clock, and strategies for messages."""
