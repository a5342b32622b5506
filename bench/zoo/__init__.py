"""A zoo of clean and backdoored classifiers: data, architectures, attacks, training."""
