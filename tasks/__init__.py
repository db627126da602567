"""One step each, thin: a task calls functions of locus and warehouse and hands ids and paths on."""
