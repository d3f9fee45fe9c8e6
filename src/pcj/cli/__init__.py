"""The command line, `pcj`: needs the extra `pcj[cli]`."""
