"""Members of a study: training them by the job, and the runs that they leave."""
