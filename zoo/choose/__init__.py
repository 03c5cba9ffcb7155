"""Help a person choose: which backbone, whether transfer helps."""
