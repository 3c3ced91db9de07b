#!/usr/bin/env python3
"""Scores speech against its reference: PESQ narrowband (ITU-T P.862.1), 1.0 to 4.55.

usage: pesq.py REFERENCE.wav DEGRADED.wav [REFERENCE.wav DEGRADED.wav ...]

Each pair gives one line: the score, a tab, the degraded file's name. With --json, one JSON object of names to
scores. All files are 8 kHz, 16 bit, mono. Needs the Python packages `numpy` and `pesq`.
"""

import json
import sys
import wave

# This file bears the package's name and must not be taken for it.
sys.path.pop(0)

RATE_HZ = 8000


def samples(path):
    """The samples of a wave file, or an exit that says what is wrong with it."""
    import numpy

    with wave.open(path, "rb") as file:
        shape = (file.getframerate(), file.getsampwidth(), file.getnchannels())
        if shape != (RATE_HZ, 2, 1):
            sys.exit(f"{path}: not 8 kHz, 16 bit, mono but {shape}")
        return numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def score(reference, degraded):
    """The score of one pair, or None where there is nothing to score (silence)."""
    from pesq import NoUtterancesError, pesq

    try:
        return round(float(pesq(RATE_HZ, samples(reference), samples(degraded), "nb")), 3)
    except NoUtterancesError:
        return None


def main(arguments):
    as_json = "--json" in arguments
    paths = [argument for argument in arguments if argument != "--json"]
    if not paths or len(paths) % 2:
        sys.exit(__doc__)
    scores = {degraded: score(reference, degraded) for reference, degraded in zip(paths[::2], paths[1::2])}
    if as_json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        print(f"{'none' if value is None else format(value, '.3f')}\t{name}")


if __name__ == "__main__":
    main(sys.argv[1:])
