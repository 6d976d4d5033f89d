"""What must be known of faces and models before numbers are read, for pages and cards."""

from mstkd.config.results import GivenTeachers, given_names

PROCEDURAL = (
    "The faces are drawings made by a program, and the groups are ways of drawing them. Numbers "
    "measured on them show how the method behaves on such drawings; they say nothing about people, "
    "nor about how well any system recognises people of one group or another."
)
PHOTOGRAPHS = (
    "The groups are what whoever collected the images put people into; they need not be how these "
    "would describe themselves. Counts say nothing of age, pose, light or quality of the images, "
    "in which groups may differ, so that a difference between groups need not come of the group."
)
PRIVATE = (
    "Faces of people are biometric data. What their owner allows, and what the law of the place "
    "does, is for whoever uses them to find out."
)


def of_given(given: GivenTeachers) -> str:
    """What is not known of teachers that were given and not trained."""
    return (
        f"Some teachers were given, and not trained here: {given_names(given)}. Which groups, how "
        "many identities and which images they have seen, whether people of the pairs that are "
        "scored here are among them, and how their epoch was chosen, nobody has told this program. "
        "So what is said of a set with such teachers compares these models, which are the same in "
        "every seed, and not two ways of training."
    )


STARTED = (
    "All students start from weights that were given: what those have learnt, and from whom, is in "
    "every student, that without distillation among them."
)
