"""Many runs on any executor, one file each, continued after a kill; the experiments of the paper."""
