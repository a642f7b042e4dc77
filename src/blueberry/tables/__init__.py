"""Tables of runs that were trained elsewhere: files and documents -> cells -> rows -> runs."""
