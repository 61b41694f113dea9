"""What a function does, read off its traced program."""

import jax

from fedhm_jax.models.costs import bodies


def equations(function, *args):
    """All steps of a call, those inside of calls, loops and branches included."""
    found, programs = [], [jax.make_jaxpr(function)(*args)]
    while programs:
        here = programs.pop().eqns
        found += here
        programs += [body for equation in here for body in bodies(equation)]
    return found
