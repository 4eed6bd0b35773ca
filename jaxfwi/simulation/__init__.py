"""One shot: from a model and a shot to its data, by a time loop that can be differentiated in three ways."""
