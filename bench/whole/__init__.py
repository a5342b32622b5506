"""How long whole scans take at the sizes that people have, as a process, and how much memory."""
