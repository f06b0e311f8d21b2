"""Prometheus's text format 0.0.4, read strictly."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? "
                    r"(-?[0-9]+(?:\.[0-9]+)?)")
ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text):
    """{name: {labels as a frozenset of pairs: value}}; an AssertionError for
    whatever is not as it must be."""
    assert text.endswith("\n")
    metrics, types, name = {}, {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, told = line[7:].split(" ", 1)
            assert re.fullmatch(NAME, name) and told.endswith("."), line
            # All of a metric stands together.
            assert name not in metrics, line
            metrics[name] = {}
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name and name not in types, line
            types[name] = line.split(" ")[3]
            assert types[name] in ("counter", "gauge"), line
            assert (types[name] == "counter") == name.endswith("_total"), line
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == name and name in types, line
            labels = frozenset(
                (key, re.sub(r"\\.", lambda m: ESCAPED[m[0]], value))
                for key, value in re.findall(LABEL, match[2] or ""))
            assert labels not in metrics[name], line
            metrics[name][labels] = float(match.groups()[-1])
            assert types[name] == "gauge" or metrics[name][labels] >= 0, line
    assert types.keys() == metrics.keys()
    assert all(metrics.values()), "a metric without a sample"
    return metrics


def value(metrics, name, **labels):
    return metrics[name][frozenset(labels.items())]
