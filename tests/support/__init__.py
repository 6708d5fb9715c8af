"""What several test modules use: data sets, short trainings, formulas written a second time, processes, runs that were never trained."""
