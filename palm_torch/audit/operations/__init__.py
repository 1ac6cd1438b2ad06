"""The operations an audit recomputes, one file each: what any covered run may give for opened inputs."""
