"""The BAN paper (Xu et al., NeurIPS 2024) as a whole: its models, what it measures on them, its tables and figures beside what it prints.

python -m bench.paper zoo --data DATA --out ZOO --scale full --device cuda      trains the models
python -m bench.paper measure --zoo ZOO --data DATA                             scans, baselines, repairs and what figures show, as rows
python -m bench.paper page --out docs/paper                                     pages and figures from the stored rows; trains nothing
"""
