"""What people read: tables, plots, pages; made from ``results.json`` and nothing else."""
