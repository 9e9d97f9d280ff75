"""Members of a comparison: training them by the job, and the runs that they leave."""
