"""Threshold alerts and NEWS2: always on, from every numeric, in a process that needs nothing but its pipe.

``limits`` and ``settings`` say what is too low, too high and for how long; ``latest`` keeps what was measured last;
``checks`` compares; ``alert`` is what a person gets; ``stay`` joins them for one patient; ``core`` for all;
``process`` is the process. All but the last are pure: time is passed in.
"""
