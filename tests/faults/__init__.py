"""What happens to runs that are killed, stopped, or lied to by their disk."""
