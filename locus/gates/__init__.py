"""Gates: may a snapshot that was built replace the one that readers see?

Belongs here: the decisions, on plain data, and their settings. Does not: where the facts come from
and what is done when a gate fails (`tasks.gates`).

Each gate asks one question of the candidate, most of them beside its parent, the snapshot that is
current. One that needs a parent passes where there is none. What is held against the parent are
the models that both have, so that a model which was added or taken out moves no figure but its
own. docs/gates.md says what each gate is for and how often it is wrong.
"""
