"""The running lab, the pool of labs of one run, its clock and its evidence."""
