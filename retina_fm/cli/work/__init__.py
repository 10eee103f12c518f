"""What stands behind the commands that no other package serves: the demo and the doctor."""
