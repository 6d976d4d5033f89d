"""What must be known of faces before numbers about them are read, for pages and cards."""

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
