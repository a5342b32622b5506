"""Reports as they are printed, kept as files: what the reports' tests compare with, and what README and docs show."""
