package idle

# Pools that have a backend with nothing in its queue and little to do, in order of their names.
pools := sort({b.pool |
	some b in input.backends
	b.healthy
	b.inflight <= data.free.inflight
	b.waiting == 0
})
