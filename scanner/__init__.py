"""The method, the command line and the reports."""
