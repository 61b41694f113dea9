"""A base trained on one half of Shakespeare's speakers, adapted to the other half."""
