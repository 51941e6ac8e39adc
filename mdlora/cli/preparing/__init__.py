"""One file for each kind of data that `mdlora prepare` makes."""
