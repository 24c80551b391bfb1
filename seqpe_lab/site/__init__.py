"""The course as a web site that opens from disk: ``make site``, and ``make figures``, which also
trains the lessons' runs and executes all lessons."""
