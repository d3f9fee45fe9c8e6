"""The ways to fail to connect, each with the sentence that the user reads: one table, and each row provoked."""
