"""New, unlabelled recordings: what is said in them, by whom and when."""
