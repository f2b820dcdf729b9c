"""What an Immich server says and how it is asked: reads only, and can do nothing else."""
